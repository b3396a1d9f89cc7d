"""The descriptors that the system lets this process open; the only importer of ``resource``."""

from __future__ import annotations

import resource
from typing import Final

from sidecar.domain.descriptors import DescriptorLimit

_ENOUGH: Final = 1 << 20
"""Some systems allow a thousand times as many; no listener has a use for them."""


def raise_descriptor_limit() -> DescriptorLimit:
    """Let this process open as many descriptors as it may, for as long as it lives."""
    was, hardest = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hardest == resource.RLIM_INFINITY else min(hardest, _ENOUGH)
    if was == resource.RLIM_INFINITY or was >= wanted:
        return DescriptorLimit(limit=wanted, was=wanted)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hardest))
    except (OSError, ValueError):
        # A policy forbids it: what there is must do, and its event says how much that is.
        return DescriptorLimit(limit=was, was=was)
    return DescriptorLimit(limit=wanted, was=was)

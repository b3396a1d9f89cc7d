"""What a connection needs of the process and its machine, and how the system says it has no more.

It must not know who needed it, nor what follows from it.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Resource(StrEnum):
    """What the process, or its machine, can run out of."""

    DESCRIPTORS = "descriptors"
    """File descriptors of the process: each connection and each open file takes one."""
    SYSTEM_DESCRIPTORS = "system_descriptors"
    """Open files of the whole machine."""
    MEMORY = "memory"
    """Memory of the kernel for one more connection."""


class NeededAt(StrEnum):
    """Where a resource was needed."""

    ACCEPT = "accept"
    """For a connection of a client, on any listener."""
    UPSTREAM = "upstream"
    """For a connection to Akoya's data APIs."""


_BY_ERRNO: Final[Mapping[int, Resource]] = {
    errno.EMFILE: Resource.DESCRIPTORS,
    errno.ENFILE: Resource.SYSTEM_DESCRIPTORS,
    errno.ENOBUFS: Resource.MEMORY,
    errno.ENOMEM: Resource.MEMORY,
}


def resource_of_errno(number: int | None) -> Resource | None:
    """Return what the system has no more of, ``None`` if the error has another reason."""
    return _BY_ERRNO.get(number or 0)

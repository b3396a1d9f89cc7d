"""Ways in which others keep rotating tokens, each a change of one thing around a real sidecar."""

from __future__ import annotations

from collections.abc import Callable, Mapping

MUTATIONS: Mapping[str, Callable[[], None]] = {}

"""How many connections each listener may have, from the descriptors that the process may open.

Without shares of its own, one listener's idle connections take the descriptors with which another
one would answer, and calls that wait for Akoya take those that reach Redis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

METRICS_MOST: Final = 64
CONTROL_MOST: Final = 200
CONNECT_MOST: Final = 200
"""TLS on asyncio's own loop holds 280 KiB for each connection."""

PROXY_PER_CALL: Final = 4
"""Idle connections of clients that are kept beside each call that may be in flight."""

_OWN: Final = 192
"""Kept for files, the spool, both event loops, the listeners, Redis and the token service."""

_LEAST: Final = 4
_SPARE_OF_CALLS: Final = 4
"""One connection more for each four calls, so that what is too much is answered 503."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DescriptorLimit:
    """How many descriptors the process may have open.

    Attributes:
        limit: Now.
        was: Before the start raised it.
    """

    limit: int
    was: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DescriptorShares:
    """Connections by listener, and calls in flight; each call needs one to the upstream too."""

    proxy: int
    control: int
    metrics: int
    connect: int
    in_flight: int


def share_descriptors(limit: int, *, max_in_flight: int, has_connect: bool) -> DescriptorShares:
    """Return the shares; together with what the process itself needs they fit into `limit`."""
    own = min(_OWN, limit // 4)
    metrics = _within(limit // 32, METRICS_MOST)
    control = _within(limit // 16, CONTROL_MOST)
    connect = _within(limit // 16, CONNECT_MOST) if has_connect else 0
    left = max(2 * _LEAST, limit - own - metrics - control - connect)
    # Of each call in flight: its client's connection, one upstream, and a part of the spare ones.
    in_flight = min(max_in_flight, max(1, left * _SPARE_OF_CALLS // (2 * _SPARE_OF_CALLS + 1)))
    proxy = min(PROXY_PER_CALL * max(in_flight, METRICS_MOST), left - in_flight)
    return DescriptorShares(
        proxy=proxy, control=control, metrics=metrics, connect=connect, in_flight=in_flight
    )


def descriptors_for(max_in_flight: int) -> int:
    """Return a limit with which so many calls may be in flight."""
    beside = _OWN + METRICS_MOST + CONTROL_MOST + CONNECT_MOST
    return beside + max_in_flight * (2 * _SPARE_OF_CALLS + 1) // _SPARE_OF_CALLS + 1


def _within(share: int, most: int) -> int:
    return max(_LEAST, min(share, most))

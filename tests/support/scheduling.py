"""A fleet whose sidecars do what nobody asks for, and many grants at once.

It must not know what a test asserts.
"""

from __future__ import annotations

import asyncio

from sidecar.domain.events import DueOutcome, GrantLookedAt
from sidecar.domain.policy import ProtocolTimes, RefreshAhead, RefreshPolicy
from sidecar.domain.record import GrantKey
from tests.support.virtual_fleet import Fleet, Peer

LIFE_S = 900
"""Of an id_token."""

DUE_S = 720
"""When each of them has been due, by its jitter, for 18 seconds at most."""

TIMES = ProtocolTimes(housekeeping_every_s=1.0)
"""As in earnest, but stories of hours need not keep house five times a second."""


def scheduling_fleet(
    ahead: RefreshAhead,
    *,
    active_window_s: float = 86400.0,
    keepalive_s: float = 0.0,
) -> Fleet:
    """Return a fleet that keeps a schedule, without sidecars yet."""
    policy = RefreshPolicy(ahead=ahead, active_window_s=active_window_s, keepalive_s=keepalive_s)
    fleet = Fleet(policy=policy, times=TIMES)
    fleet.schedules = True
    fleet.idp.life_s = LIFE_S
    return fleet


def users(provider: str, count: int) -> list[GrantKey]:
    """Return the keys of `count` grants at a bank."""
    return [GrantKey(user=f"{provider}-{number}", provider=provider) for number in range(count)]


async def link(peer: Peer, keys: list[GrantKey]) -> None:
    """Obtain all grants at once."""
    await asyncio.gather(*(peer.obtain(key) for key in keys))


def generations(fleet: Fleet, peer: Peer, keys: list[GrantKey]) -> list[int]:
    """Return the generation at which the store holds each grant."""
    return [fleet.record(peer, key).pair.generation for key in keys]


def looks(peer: Peer, key: GrantKey) -> list[DueOutcome]:
    """Return what came of each look of this sidecar at a grant."""
    grant = peer.parts.grant(key)
    return [event.outcome for event in peer.of(GrantLookedAt) if event.grant == grant]

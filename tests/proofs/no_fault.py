"""T5: with nothing failing, eight sidecars race for every refresh, and each costs one presentation.

The race is run in virtual time, where a seed orders what meets at the store, and again on a real
Redis, whose scripts and notices then do the same. It must not know how many refreshes are enough.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, Protocol, final

from sidecar.adapters.system import SystemClock
from sidecar.domain.events import WorkFailed
from sidecar.domain.outcomes import FoundNewer, Refreshed
from sidecar.domain.policy import RefreshAhead, RefreshPolicy
from sidecar.domain.record import GrantKey, Position
from tests.proofs.engines import WAIT_S, engines, is_astray, obtained, users
from tests.support.rotating_idp import RotatingIdp
from tests.support.sidecar_parts import SidecarParts
from tests.support.virtual_fleet import Fleet, Peer

BANKS: Final = 10
AT_ONCE: Final = 50
AGAIN_AFTER_S: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """What came of a race.

    Attributes:
        asked_again: Wishes that were put off and made again, of all peers.
        repeated: Presentations of a token that had been presented before.
        refused: Presentations that were no success.
        astray: Grants whose stored refresh token is not the live one.
    """

    asked_again: int
    presentations: int
    repeated: int
    refused: int
    astray: int
    failures: int


class Racer(Protocol):
    """One sidecar of the race."""

    @property
    def parts(self) -> SidecarParts:
        """What it is made of."""
        ...

    def forget(self) -> None:
        """Let what was recorded so far go."""
        ...


async def race_on_redis(*, redis_url: str, sidecars: int, grants: int, refreshes: int) -> Race:
    """Race in real time, on the real store."""
    idp = RotatingIdp(clock=SystemClock())
    idp.connect_after_s = 0.0
    async with engines(sidecars, idp=idp, redis_url=redis_url) as peers:
        return await _race(peers, idp, grants=grants, refreshes=refreshes)


async def race_in_virtual_time(*, sidecars: int, grants: int, refreshes: int, seed: int) -> Race:
    """Race on a loop in virtual time; each way to the store takes a while of its own."""
    chance = Random(seed)  # noqa: S311 - latencies
    fleet = Fleet(policy=RefreshPolicy(wait_s=WAIT_S, ahead=RefreshAhead.OFF))
    fleet.latency_s = lambda: chance.uniform(0.0002, 0.02)
    peers = [VirtualRacer(await fleet.peer(f"peer-{number}")) for number in range(sidecars)]
    result = await _race(peers, fleet.idp, grants=grants, refreshes=refreshes)
    await fleet.end()
    return result


@final
class VirtualRacer:
    """A sidecar of a virtual fleet."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    @property
    def parts(self) -> SidecarParts:
        """What it is made of."""
        return self._peer.parts

    def forget(self) -> None:
        """Let what was recorded so far go; nobody starts again from this disk."""
        self._peer.events.clear()
        self._peer.life.trace.clear()
        self._peer.disk.entries.clear()


async def _race(peers: Sequence[Racer], idp: RotatingIdp, *, grants: int, refreshes: int) -> Race:
    """Have every peer want the successor of every generation at once, round after round."""
    chance = Random(5)  # noqa: S311 - latencies
    keys = users(grants, banks=BANKS)
    stands = {key: await obtained(peers[0].parts, key, idp.new_code(key)) for key in keys}
    asked_again = failures = 0
    for turn in range(refreshes // grants):
        idp.answer_after_s = chance.choice((0.001, 0.005, 0.02))
        places = asyncio.Semaphore(AT_ONCE)
        rounds = await asyncio.gather(
            *(_round(peers, key, stands[key], turn, places) for key in keys)
        )
        asked_again += sum(rounds)
        failures += sum(len(peer.parts.observer.of(WorkFailed)) for peer in peers)
        for peer in peers:
            peer.forget()
    astray = sum([await is_astray(peers[0].parts, idp, key) for key in keys])
    return _judged(idp, asked_again=asked_again, failures=failures, astray=astray)


async def _round(
    peers: Sequence[Racer], key: GrantKey, first: Position, turn: int, places: asyncio.Semaphore
) -> int:
    """Get every peer a newer pair than the one of this turn; return how often one asked again."""
    known = Position(consent_id=first.consent_id, generation=turn)
    async with places:
        return sum(await asyncio.gather(*(_asked_again(peer, key, known) for peer in peers)))


async def _asked_again(peer: Racer, key: GrantKey, known: Position) -> int:
    asked = 0
    while True:
        outcome = await peer.parts.broker.renew(key, known=known, wait_s=WAIT_S)
        if isinstance(outcome, Refreshed | FoundNewer):
            return asked
        asked += 1
        await asyncio.sleep(AGAIN_AFTER_S)


def _judged(idp: RotatingIdp, *, asked_again: int, failures: int, astray: int) -> Race:
    presented = Counter(entry.token for entry in idp.refreshes())
    return Race(
        asked_again=asked_again,
        presentations=presented.total(),
        repeated=presented.total() - len(presented),
        refused=sum(not entry.is_success for entry in idp.refreshes()),
        astray=astray,
        failures=failures,
    )

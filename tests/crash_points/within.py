"""The cases of `table` that happen within one process, in virtual time.

An exception is raised, or the lane is abandoned, at the point of a claim where a step begins; the
store's trouble comes in the same step. It must not know what is expected.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from sidecar.domain.events import TokenLost
from sidecar.domain.sealing import SealContext
from tests.crash_points.table import Case, Fault, Found, Store
from tests.simulation.story import TIMES
from tests.support.glass_sealer import GlassSealer
from tests.support.rotating_idp import Fault as WireFault
from tests.support.sidecar_parts import KEY
from tests.support.virtual_fleet import Fleet

POINTS: Final = {
    1: "before Acquire",
    2: "back from Acquire",
    4: "connecting",
    5: "before ClaimIntended",
    6: "back from MarkSending",
    7: "admitted",
    8: "sent",
    9: "before AnswerReceived",
    10: "before PairReceived",
    11: "after PairReceived",
    12: "before Commit",
    13: "back from Commit",
}
"""Where each step begins; the third, when the pair is opened."""
OPENING_STEP: Final = 3
SENT_STEP: Final = 8
AWAY_S: Final = 3 * TIMES.lease_s
ALL_WELL_S: Final = 2 * (TIMES.hold_s + TIMES.heal_s + TIMES.quarantine_s)


class FaultOfOurs(Exception):
    """A bug, or whatever else nobody expects."""


async def play(case: Case) -> Found:
    """Let one case happen, and let all become well."""
    fleet = Fleet(times=TIMES)
    fleet.sealer = sealer = GlassSealer()
    peer = await fleet.with_expired_grant()
    before = dict(fleet.store.records)
    if case.step == SENT_STEP:
        fleet.idp.plan.append(WireFault.REQUEST_LOST)
    ending: list[asyncio.Task[None]] = []
    struck: list[Case] = []

    def strike() -> None:
        struck.append(case)
        if case.store is Store.ROLLED_BACK:
            fleet.restart_store(before)
        if case.store is Store.AWAY:
            fleet.store.is_available = False
        if case.fault is Fault.CANCEL:
            ending.append(asyncio.ensure_future(peer.parts.lane.abandon()))
        elif case.step != SENT_STEP:  # there the wire breaks: nothing of ours can fail
            raise FaultOfOurs

    if case.step == OPENING_STEP:
        peer.life.actions["back from Acquire"] = lambda: _at_next_opening(sealer, strike)
    else:
        peer.life.actions[POINTS[case.step]] = strike
    asking = asyncio.ensure_future(peer.ask())
    await asyncio.sleep(AWAY_S)
    assert struck == [case]
    if ending:
        await asyncio.gather(*ending)
        await peer.crash()
    fleet.store.is_available = True
    if not ending:  # the process lives on, and is asked
        await asyncio.sleep(ALL_WELL_S)
        await peer.ask()
        await peer.rest()
        await peer.crash()
    await peer.start()
    await asyncio.sleep(ALL_WELL_S)
    await peer.ask()
    await peer.rest()
    await asyncio.sleep(ALL_WELL_S)
    await asyncio.gather(asking, return_exceptions=True)
    presented = [entry.token for entry in fleet.idp.refreshes()]
    first = fleet.idp.families(KEY)[0].token(0)
    later = [token for token in presented if token != first]
    found = Found(
        state=fleet.record(peer).state,
        attempts=presented.count(first),
        is_repeated=len(later) > len(set(later)),
        losses=tuple(event.cause for event in peer.of(TokenLost)),
    )
    await fleet.end()
    return found


def _at_next_opening(sealer: GlassSealer, strike: Callable[[], None]) -> None:
    def opening(context: SealContext) -> None:
        if context.purpose == "pair":
            sealer.opens = ignored
            strike()

    ignored, sealer.opens = sealer.opens, opening

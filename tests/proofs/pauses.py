"""T9: a process that is stopped between its request and the answer, for longer than every timer.

What it finds in its socket when it goes on is kept: the bytes are read before a timer is believed.
It must not know how many pauses are enough.
"""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from sidecar.sandbox import Fault
from tests.proofs.terminations import is_lost, present
from tests.support.deployment import BANKS, Deployment, deployment, refreshes
from tests.support.fleet import SidecarProcess
from tests.support.wait import eventually, until

TIMES: Final = {
    "lease_s": 2.0,
    "hold_s": 2.0,
    "keep_every_s": 0.25,
    "slow_claim_s": 1.0,
    "watchdog_ticks": 12,
    "heal_s": 2.0,
    "quarantine_s": 1.0,
}
"""Each shorter than `LONGEST_S`; the watchdog's ticks are a quarter of a second each."""

LONGEST_S: Final = 3.0
ANSWER_AFTER_S: Final = 1.0
WITHIN_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pauses:
    """What came of processes that were stopped between a request and its answer.

    Attributes:
        kept: Tokens that were stored after the process went on, by the claim that was stopped.
        presentations: Of all refresh tokens.
    """

    rounds: int
    kept: int
    presentations: int


async def pauses(directory: Path, *, rounds: int, at_once: int) -> Pauses:
    """Stop so many claims, `at_once` processes at a time, each for three times every timer."""
    kept = 0
    async with deployment(directory) as world:
        world.place.times = TIMES
        peer = await world.start("peer")
        sleepers = [await world.start(f"sleeper-{number}") for number in range(at_once)]
        for number in range(rounds):
            await world.app.onboard(peer, f"user-{number}", provider=BANKS[0])
        for start in range(0, rounds, at_once):
            stopped = range(start, min(start + at_once, rounds))
            users = {f"user-{number}": sleepers[number - start] for number in stopped}
            kept += await _kept(world, peer, users)
        presentations = refreshes(world.sandbox)
    return Pauses(rounds=rounds, kept=kept, presentations=presentations)


async def _kept(world: Deployment, peer: SidecarProcess, users: dict[str, SidecarProcess]) -> int:
    """Stop each user's sidecar in its refresh and let it go on; return how many tokens stand."""
    slow = Fault(operation="refresh", kind="slow_after", delay_s=ANSWER_AFTER_S, times=len(users))
    world.sandbox.faults.add(slow)
    before = refreshes(world.sandbox)
    callers = [
        asyncio.ensure_future(present(world, sidecar, user, BANKS[0]))
        for user, sidecar in users.items()
    ]
    await until(
        lambda: refreshes(world.sandbox) == before + len(users),
        within_s=WITHIN_S,
        what="every claim to reach Akoya",
    )
    for sidecar in users.values():
        sidecar.signal(signal.SIGSTOP)
    await asyncio.sleep(3 * LONGEST_S)
    for sidecar in users.values():
        sidecar.signal(signal.SIGCONT)
    await asyncio.gather(*callers)
    for user in users:
        await eventually(
            partial(world.app.show, peer, user, provider=BANKS[0]),
            lambda grant: grant["state"] != "refreshing",
            within_s=WITHIN_S,
            what="the claim to end",
        )
    lost = [await is_lost(world, peer, user, BANKS[0]) for user in users]
    return lost.count(False)

"""T8: SIGTERM with claims in flight ends the process once they have ended, and costs nothing.

It must not know how many terminations are enough.
"""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from sidecar.sandbox import Fault
from tests.support.deployment import (
    BANKS,
    Deployment,
    deployment,
    generations,
    presentations,
    presented_again,
    refreshes,
)
from tests.support.fleet import SidecarProcess
from tests.support.wait import until

MOST_CLAIMS: Final = 16
WITHIN_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminations:
    """What came of terminations with claims in flight.

    Attributes:
        claims: In flight at the signals.
        lost: Grants that are not active with the newest generation that Akoya gave.
        repeated: Presentations beyond the first of a token.
        parked: Pairs that the ended processes left to their disks.
        unclean: Processes that did not end with 0, fully drained.
        slowest_s: The longest time from the last claim's arrival at Akoya to the exit.
    """

    rounds: int
    claims: int
    lost: int
    repeated: int
    parked: int
    unclean: int
    slowest_s: float


async def terminations(directory: Path, *, rounds: int, idp_latency_s: float) -> Terminations:
    """End a sidecar so many times, each time with 1 to 16 claims in flight."""
    chance = Random(8)  # noqa: S311 - how many claims
    users = [(f"user-{number}", BANKS[number % len(BANKS)]) for number in range(MOST_CLAIMS)]
    claims = parked = unclean = 0
    slowest_s = 0.0
    async with deployment(directory) as world:
        peer = await world.start("peer")
        for user, provider in users:
            await world.app.onboard(peer, user, provider=provider)
        for number in range(rounds):
            chosen = chance.sample(users, 1 + (number * 5 + 15) % MOST_CLAIMS)
            exited_s, told = await _end_with(world, chosen, idp_latency_s=idp_latency_s)
            claims += len(chosen)
            parked += told["parked"]
            unclean += not (told["code"] == 0 and told["drained"])
            slowest_s = max(slowest_s, exited_s)
        lost = sum([await is_lost(world, peer, user, provider) for user, provider in users])
        repeated = presented_again(world.sandbox)
    return Terminations(
        rounds=rounds,
        claims=claims,
        lost=lost,
        repeated=repeated,
        parked=parked,
        unclean=unclean,
        slowest_s=slowest_s,
    )


async def _end_with(
    world: Deployment, users: list[tuple[str, str]], *, idp_latency_s: float
) -> tuple[float, dict[str, int]]:
    """End a sidecar in the middle of these users' refreshes; return how long it took and told."""
    leaving = await world.start("leaving")
    slow = Fault(operation="refresh", kind="slow_after", delay_s=idp_latency_s, times=len(users))
    fault = world.sandbox.faults.add(slow)
    before = refreshes(world.sandbox)
    callers = [
        asyncio.ensure_future(present(world, leaving, user, provider)) for user, provider in users
    ]
    await until(
        lambda: refreshes(world.sandbox) == before + len(users),
        within_s=WITHIN_S,
        what="every claim to reach Akoya",
    )
    loop = asyncio.get_running_loop()
    sent_s = loop.time()

    leaving.signal(signal.SIGTERM)
    code = await leaving.ended(within_s=WITHIN_S)

    exited_s = loop.time() - sent_s
    await asyncio.gather(*callers, return_exceptions=True)
    world.sandbox.faults.delete(fault)
    stopped = next(line for line in leaving.log if line["event"] == "lifecycle.stopped")
    told = {"code": code, "parked": stopped["parked"], "drained": stopped["drained"]}
    return exited_s, told


async def present(world: Deployment, sidecar: SidecarProcess, user: str, provider: str) -> None:
    """Ask for a refresh until one was presented: a busy machine may miss its send window."""
    before = presentations(world.sandbox, user, provider)
    while presentations(world.sandbox, user, provider) == before:
        await world.app.refresh(sidecar, user, provider=provider)


async def is_lost(world: Deployment, peer: SidecarProcess, user: str, provider: str) -> bool:
    """Whether a grant is not active with the newest generation that Akoya gave."""
    grant = await world.app.show(peer, user, provider=provider)
    newest = generations(world.sandbox).get((user, provider), 0)
    return (grant["state"], grant["generation"]) != ("active", newest)

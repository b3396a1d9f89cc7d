"""`make failover`: Sentinel and Cluster fail over again and again under load; what did it cost.

Ends with status 1 if a pair was lost avoidably, a token presented without a right, a mark taken in
quarantine, or if Redis forgot nothing at all that it had acknowledged, which would show nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, final

import aiohttp

from sidecar.domain.record import GrantKey
from tests.chaos.akoya import ChaosAkoya, provider_of
from tests.chaos.evidence import Evidence, Span, Stored
from tests.chaos.failovers import Blow, Failovers, Round
from tests.chaos.load import Load
from tests.chaos.nursery import Nursery
from tests.chaos.oracle import SERVING, LossCause, RepeatCause, Verdict, judge
from tests.chaos.plan import Goals, Mode, Plan
from tests.chaos.remains import fleet_vault, spooled_tokens, stored_grants
from tests.chaos.sidecars import ChaosSidecar, SidecarPlan
from tests.chaos.witness import testimony_of
from tests.support.redis_fleet import ClusterFleet, SentinelFleet, ServerFleet, at_port

FORMS: Final[Mapping[str, Callable[[Path], ServerFleet]]] = {
    "sentinel": SentinelFleet,
    "cluster": ClusterFleet,
}
PREFIX: Final = "chaos"
SIDECARS: Final = 3
SETTLES_WITHIN_S: Final = 90.0
QUARANTINE_S: Final = 8.0
"""Long enough for every spool to be replayed on a busy machine, as the protocol wants it."""

CLOCK_GRAIN_S: Final = 0.2
"""So long before the end of a quarantine that no rounding makes a mark look early."""

COLUMNS: Final = (
    "store",
    "blow",
    "rounds",
    "writable again, s",
    "rounds that forgot",
    "acknowledged, then forgotten",
    "healed",
    "marks in quarantine",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of the failovers of one store.

    Attributes:
        unhealed: Records that ended behind what Redis had acknowledged.
        early: Presentations that began in a quarantine.
    """

    form: str
    users: int
    rounds: tuple[Round, ...]
    verdict: Verdict
    unhealed: frozenset[str]
    early: int

    @property
    def misses(self) -> tuple[str, ...]:
        """What should have been otherwise."""
        wanted = (
            (not self.verdict.avoidable, f"{len(self.verdict.avoidable)} avoidable losses"),
            (not self.verdict.unexplained, f"{len(self.verdict.unexplained)} unexplained"),
            (not self.unhealed, f"{len(self.unhealed)} forgotten pairs were not healed"),
            (not self.early, f"{self.early} marks in quarantine"),
            (any(each.forgotten for each in self.rounds), "Redis forgot nothing"),
        )
        return tuple(miss for is_met, miss in wanted if not is_met)


@final
class FailoverArena:
    """The place of one run; `directory` must be empty."""

    def __init__(
        self, form: str, *, users: int, directory: Path, session: aiohttp.ClientSession
    ) -> None:
        self._form = form
        self._users = [f"user-{number}" for number in range(users)]
        self._directory = directory
        self._session = session
        self._plan = Plan(mode=Mode.LOSSY, goals=Goals(claims=0, kills=0), users=users)
        self._akoya = ChaosAkoya(session)
        servers = directory / "servers"
        servers.mkdir()
        self._fleet = FORMS[form](servers)
        self._sidecars: list[ChaosSidecar] = []

    async def run(self, rounds: int) -> Outcome:
        """Have so many failovers under load, then let everything settle and judge."""
        chance = random.Random(self._plan.seed)  # noqa: S311 - chaos that can be told again
        async with self._everything():
            load = Load(self._session, sidecars=self._sidecars, users=self._users, chance=chance)
            await load.onboard(self._akoya)
            await self._akoya.misbehave(self._plan)
            failovers = Failovers(self._fleet, prefix=PREFIX, calm_s=QUARANTINE_S + 2)
            async with asyncio.TaskGroup() as group:
                group.create_task(load.run())
                try:
                    await failovers.run(rounds)
                finally:
                    load.end()
            await self._akoya.behave()
            await self._settle(load)
            await asyncio.gather(*(sidecar.end() for sidecar in self._sidecars))
            return await self._judged(failovers)

    @contextlib.asynccontextmanager
    async def _everything(self) -> AsyncGenerator[None]:
        witness = self._directory / "witness"
        witness.mkdir()
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._fleet.stop)
            await asyncio.to_thread(self._fleet.start)
            await stack.enter_async_context(self._akoya)
            nursery = stack.enter_context(Nursery(self._plan.program))
            plan = SidecarPlan(
                nursery=nursery,
                directory=self._directory,
                idp_url=self._akoya.url,
                program=self._plan.program,
                spec={
                    "times": self._plan.times | {"quarantine_s": QUARANTINE_S},
                    "witness": str(witness),
                    "mutant": None,
                },
                prefix=PREFIX,
            )
            for number in range(SIDECARS):
                sidecar = ChaosSidecar(plan, name=f"s{number}", redis_url=self._fleet.url)
                self._sidecars.append(sidecar)
                stack.callback(sidecar.kill_if_alive)
                sidecar.start()
            await asyncio.gather(*(one.ready(self._session) for one in self._sidecars))
            yield

    async def _settle(self, load: Load) -> None:
        """Wait until every grant is at rest, asking for those that are not."""
        with contextlib.suppress(TimeoutError):  # what is not at rest then is the oracle's business
            async with asyncio.timeout(SETTLES_WITHIN_S):
                while restless := [
                    user
                    for user, grant in self._stored().items()
                    if grant.state == "in_doubt" or grant.state in SERVING - {"active"}
                ]:
                    await load.ask_for(restless)
                    await asyncio.sleep(1)

    def _stored(self) -> dict[str, Stored]:
        found: dict[str, Stored] = {}
        for primary in self._fleet.primaries():
            with at_port(primary.port) as client:
                found.update(stored_grants(client, prefix=PREFIX))
        return found

    async def _judged(self, failovers: Failovers) -> Outcome:
        testimony = testimony_of(self._directory / "witness")
        outages = tuple(
            Span(from_s=each.restart.down_s, to_s=each.restart.up_s) for each in failovers.rounds
        )
        evidence = Evidence(
            rules=replace(self._plan.rules, quarantine_s=QUARANTINE_S),
            presentations=await self._akoya.presentations(),
            provider=await self._akoya.grants(),
            stored=self._stored(),
            spooled=spooled_tokens(one.spool for one in self._sidecars),
            spool_times=testimony.spool_times,
            lives=tuple(life for one in self._sidecars for life in one.lives(testimony)),
            holes={one.name: outages for one in self._sidecars},
            restarts=tuple(each.restart for each in failovers.rounds),
        )
        return Outcome(
            form=self._form,
            users=len(self._users),
            rounds=tuple(failovers.rounds),
            verdict=judge(evidence),
            unhealed=failovers.unhealed(),
            early=_early(evidence, failovers.rounds),
        )


def _early(evidence: Evidence, rounds: Sequence[Round]) -> int:
    """Count the claims that were marked while their grants had to wait for replays."""
    vault = fleet_vault()
    quarantine_s = evidence.rules.quarantine_s - CLOCK_GRAIN_S
    early = 0
    for each in evidence.presentations:
        if each.tag is None or each.tag.attempt > 1:
            continue
        grant = vault.grant_id(GrantKey(user=each.user, provider=provider_of(each.user)))
        key = f"{PREFIX}:c:{{{grant}}}"
        early += any(
            key in one.keys and one.met_s < each.began_s < one.met_s + quarantine_s
            for one in rounds
        )
    return early


async def carry_out(form: str, *, users: int, rounds: int) -> Outcome:
    """Carry out one run; what it left is kept only if it shows something."""
    directory = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="failover-"))
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        arena = FailoverArena(form, users=users, directory=directory, session=session)
        outcome = await arena.run(rounds)
    if not outcome.misses:
        await asyncio.to_thread(shutil.rmtree, directory)
    return outcome


def _table(outcomes: Sequence[Outcome]) -> Iterator[str]:
    yield f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores."
    yield ""
    yield f"| {' | '.join(COLUMNS)} |"
    yield f"| {' | '.join('---' for _ in COLUMNS)} |"
    for outcome in outcomes:
        for blow in Blow:
            rounds = [each for each in outcome.rounds if each.blow is blow]
            if rounds:
                yield f"| {' | '.join(_cells(outcome, blow, rounds))} |"


def _cells(outcome: Outcome, blow: Blow, rounds: Sequence[Round]) -> Iterator[str]:
    waits = sorted(each.writable_s for each in rounds)
    forgotten = sum(len(each.forgotten) for each in rounds)
    unhealed = sum(len(each.forgotten.keys() & outcome.unhealed) for each in rounds)
    yield outcome.form
    yield blow.value
    yield str(len(rounds))
    yield f"{waits[0]:.1f} to {waits[-1]:.1f}"
    yield str(sum(bool(each.forgotten) for each in rounds))
    yield str(forgotten)
    yield str(forgotten - unhealed)
    yield str(outcome.early)


def _summary(outcome: Outcome) -> Iterator[str]:
    verdict = outcome.verdict
    losses: Counter[LossCause] = verdict.losses_by_cause
    rights: Counter[RepeatCause] = verdict.repeats_by_cause
    yield (
        f"{outcome.form}: {outcome.users:,} users, {verdict.claims:,} claims, "
        f"{len(verdict.avoidable)} avoidable losses, {len(verdict.unexplained)} unexplained; "
        f"lost: {_told(losses)}; presented again: {_told(rights)}"
    )
    for miss in outcome.misses:
        yield f"  {miss}"
    for loss in verdict.avoidable[:20]:
        yield f"  lost: {loss.user}: {loss.detail}"
    for repeat in verdict.unexplained[:20]:
        yield f"  presented again: {repeat.presentation.user}: {repeat.detail}"


def _told(counted: Counter[LossCause] | Counter[RepeatCause]) -> str:
    return ", ".join(f"{name.value} {count}" for name, count in counted.items()) or "none"


def main(argv: Sequence[str]) -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="make failover", description=__doc__)
    parser.add_argument("--store", choices=FORMS, action="append", help="default: both")
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=20)
    given = parser.parse_args(argv)
    outcomes = [
        asyncio.run(carry_out(form, users=given.users, rounds=given.rounds))
        for form in given.store or FORMS
    ]
    sys.stdout.writelines(f"{line}\n" for line in _table(outcomes))
    sys.stdout.write("\n")
    for outcome in outcomes:
        sys.stdout.writelines(f"{line}\n" for line in _summary(outcome))
    return 1 if any(outcome.misses for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""One chaos run: everything is started, hurt, made well, asked for what it knows, and ended."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import aiohttp

from tests.chaos.akoya import ChaosAkoya
from tests.chaos.evidence import Evidence, Stored
from tests.chaos.forgetful_redis import ForgetfulRedis
from tests.chaos.load import Load
from tests.chaos.mutants.usual_way import PREFIX
from tests.chaos.nursery import Nursery
from tests.chaos.plan import USUAL_WAY, Personality, Plan
from tests.chaos.redis_line import RedisLine
from tests.chaos.remains import spooled_tokens, stored_grants, usual_grants
from tests.chaos.sidecars import ChaosSidecar, SidecarPlan
from tests.chaos.trouble import Tally, Targets, Trouble
from tests.chaos.witness import testimony_of

SETTLES_WITHIN_S: Final = 120.0
REPLAYS_PROGRESS_WITHIN_S: Final = 2.0
ASKS_EVERY_S: Final = 1.0
COUNTS_EVERY_S: Final = 2.0
PATIENCE: Final = 60
"""After so many times the plan's time nobody waits any more for claims that do not come."""
RESTING: Final = "active"
UNDECIDED: Final = frozenset({"leased", "sending", "in_doubt"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a run brought to light."""

    evidence: Evidence
    tally: Tally


@final
class Arena:
    """The place of one run; `directory` must be empty."""

    def __init__(self, plan: Plan, directory: Path, session: aiohttp.ClientSession) -> None:
        self._plan = plan
        self._directory = directory
        self._session = session
        self._chance = random.Random(plan.seed)  # noqa: S311 - chaos that can be told again
        self._akoya = ChaosAkoya(session)
        self._redis = ForgetfulRedis(directory / "redis")
        self._lines: list[RedisLine] = []
        self._sidecars: list[ChaosSidecar] = []

    async def run(self) -> Run:
        """Carry the plan out."""
        users = [f"user-{number}" for number in range(self._plan.users)]
        async with self._everything():
            load = Load(self._session, sidecars=self._sidecars, users=users, chance=self._chance)
            await load.onboard(self._akoya)
            await self._akoya.misbehave(self._plan)
            tally = await self._suffer(load)
            await self._akoya.behave()
            await self._settle(load)
            await asyncio.gather(*(sidecar.end() for sidecar in self._sidecars))
            return Run(evidence=await self._gather(), tally=tally)

    @contextlib.asynccontextmanager
    async def _everything(self) -> AsyncGenerator[None]:
        """Have Redis, the provider, the lines and the sidecars running."""
        witness = self._directory / "witness"
        witness.mkdir()
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._redis.server.stop)
            await asyncio.to_thread(self._redis.server.start)
            await stack.enter_async_context(self._akoya)
            nursery = stack.enter_context(Nursery(self._plan.program))
            plan = SidecarPlan(
                nursery=nursery,
                directory=self._directory,
                idp_url=self._akoya.url,
                program=self._plan.program,
                spec={
                    "times": self._plan.times,
                    "witness": str(witness),
                    "mutant": self._plan.graft,
                },
            )
            for number in range(self._plan.sidecars):
                line = await stack.enter_async_context(RedisLine(self._redis.server.port))
                sidecar = ChaosSidecar(plan, name=f"s{number}", redis_url=line.url)
                self._lines.append(line)
                self._sidecars.append(sidecar)
                stack.callback(sidecar.kill_if_alive)
                sidecar.start()
            await asyncio.gather(*(one.ready(self._session) for one in self._sidecars))
            yield

    async def _suffer(self, load: Load) -> Tally:
        """Let everything go wrong under load; return how often it did."""
        targets = Targets(
            sidecars=self._sidecars, lines=self._lines, redis=self._redis, session=self._session
        )
        trouble = Trouble(targets, plan=self._plan, chance=self._chance)
        async with asyncio.TaskGroup() as group:
            group.create_task(load.run())
            await trouble.run(self._enough())
            load.end()
        return trouble.tally

    async def _enough(self) -> None:
        """Return when the plan's time is over and its claims were made, or were given up."""
        await asyncio.sleep(self._plan.seconds)
        with contextlib.suppress(TimeoutError):  # the goal that was missed is the report's business
            async with asyncio.timeout(PATIENCE * self._plan.seconds):
                while await self._akoya.rotations() < self._plan.until_claims:  # noqa: ASYNC110
                    await asyncio.sleep(COUNTS_EVERY_S)

    async def _settle(self, load: Load) -> None:
        """Wait until every grant is at rest: first for replays, then asking for what is left."""
        await asyncio.gather(*(one.ready(self._session) for one in self._sidecars))
        with contextlib.suppress(TimeoutError):  # what is not at rest then is the oracle's business
            async with asyncio.timeout(SETTLES_WITHIN_S):
                await self._wait_for_replays()
                while restless := await self._restless():
                    await load.ask_for(restless)
                    await asyncio.sleep(ASKS_EVERY_S)

    async def _wait_for_replays(self) -> None:
        """Return when nothing gets better by itself any more."""
        left = await self._restless()
        while left:
            await asyncio.sleep(REPLAYS_PROGRESS_WITHIN_S)
            before, left = left, await self._restless()
            if len(left) >= len(before):
                return

    async def _restless(self) -> list[str]:
        """Return who is being refreshed or doubted, or has a token that is not the newest."""
        stored = self._stored()
        newest = {grant.user: grant.token for grant in await self._akoya.grants()}
        is_forked = self._plan.personality is Personality.GRACE
        return [
            user
            for user, grant in stored.items()
            if grant.state in UNDECIDED
            or (grant.state == RESTING and grant.token != newest[user] and not is_forked)
        ]

    def _stored(self) -> dict[str, Stored]:
        with self._redis.server.client() as client:
            if self._plan.mutant == USUAL_WAY:
                return dict(usual_grants(client, prefix=PREFIX))
            return dict(stored_grants(client, prefix="chaos"))

    async def _gather(self) -> Evidence:
        testimony = testimony_of(self._directory / "witness")
        return Evidence(
            rules=self._plan.rules,
            presentations=await self._akoya.presentations(),
            provider=await self._akoya.grants(),
            stored=self._stored(),
            spooled=spooled_tokens(one.spool for one in self._sidecars),
            spool_times=testimony.spool_times,
            lives=tuple(life for one in self._sidecars for life in one.lives(testimony)),
            holes={
                one.name: tuple(line.holes)
                for one, line in zip(self._sidecars, self._lines, strict=True)
            },
            restarts=tuple(self._redis.restarts),
        )

"""What goes wrong in a chaos run: deaths, pauses and holes, one after the other until it is over.

Each kind of trouble has its own rhythm, drawn from one seed. Troubles may meet: a stopped process
may be killed, a sidecar may start while it is cut off. It must not know what they lead to.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, final

import aiohttp

from tests.chaos.forgetful_redis import ForgetfulRedis
from tests.chaos.plan import Mode, Plan
from tests.chaos.redis_line import RedisLine
from tests.chaos.sidecars import ChaosSidecar

KILLS_EVERY_S: Final = (0.8, 2.5)
RESTARTS_AFTER_S: Final = (0.0, 0.6)
STOPS_EVERY_S: Final = (1.0, 3.5)
STOPS_FOR_S: Final = (0.5, 7.0)
HOLES_EVERY_S: Final = (0.5, 2.5)
HOLES_FOR_S: Final = (0.1, 4.0)
REDIS_KILLS_EVERY_S: Final = (6.0, 12.0)
REDIS_DOWN_FOR_S: Final = (0.2, 1.5)
FORGETS_S: Final = (0.5, 2.5)
LENGTHS_EVERY_S: Final = 0.1

Work = Callable[[asyncio.TaskGroup], Awaitable[None]]
"""One trouble; what it leaves to be done beside it goes into the group, which fails with it."""


@dataclass(slots=True, kw_only=True)
class Tally:
    """How often what went wrong."""

    kills: int = 0
    stops: int = 0
    holes: int = 0
    redis_kills: int = 0


@dataclass(frozen=True, kw_only=True)
class Targets:
    """What can be hurt; the sidecars and their lines in one order."""

    sidecars: Sequence[ChaosSidecar]
    lines: Sequence[RedisLine]
    redis: ForgetfulRedis
    session: aiohttp.ClientSession


@final
class Trouble:
    """Hurts the targets for a while, then makes everything well."""

    def __init__(self, targets: Targets, *, plan: Plan, chance: random.Random) -> None:
        self.tally = Tally()
        self._targets = targets
        self._mode = plan.mode
        self._rarity = plan.rarity
        self._chance = chance
        self._is_over = False
        self._starting: set[str] = set()

    async def run(self, while_waiting_for: Awaitable[None]) -> None:
        """Make trouble until something has come; returns when all is well again."""
        works: list[Work] = [self._kill, self._stop, self._hole]
        if self._mode is not Mode.NOREDIS:
            works += [self._kill_redis, self._watch_redis]
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(self._repeat(work, group))
            await while_waiting_for
            self._is_over = True

    async def _repeat(self, work: Work, group: asyncio.TaskGroup) -> None:
        while not self._is_over:
            await work(group)

    async def _wait(self, bounds: tuple[float, float]) -> None:
        await asyncio.sleep(self._chance.uniform(*bounds))

    async def _wait_for_the_next(self, bounds: tuple[float, float]) -> None:
        await asyncio.sleep(self._chance.uniform(*bounds) * self._rarity)

    async def _kill(self, group: asyncio.TaskGroup) -> None:
        """Kill one that serves, or, where none does, one that is about to."""
        await self._wait_for_the_next(KILLS_EVERY_S)
        alive = [one for one in self._targets.sidecars if one.is_alive]
        ready = [one for one in alive if one.name not in self._starting]
        if self._is_over or not alive:
            return
        sidecar = self._chance.choice(ready or alive)
        sidecar.kill()
        self.tally.kills += 1
        self._starting.add(sidecar.name)
        group.create_task(self._start(sidecar))

    async def _start(self, sidecar: ChaosSidecar) -> None:
        """Start a process again; whoever kills next does not wait until it serves."""
        await self._wait(RESTARTS_AFTER_S)
        sidecar.start()
        if await sidecar.ready(self._targets.session):
            self._starting.discard(sidecar.name)

    async def _stop(self, _: asyncio.TaskGroup) -> None:
        await self._wait_for_the_next(STOPS_EVERY_S)
        ready = [
            one
            for one in self._targets.sidecars
            if one.is_alive and not one.is_stopped and one.name not in self._starting
        ]
        if self._is_over or not ready:
            return
        sidecar = self._chance.choice(ready)
        sidecar.stop()
        self.tally.stops += 1
        await self._wait(STOPS_FOR_S)
        sidecar.go_on()

    async def _hole(self, _: asyncio.TaskGroup) -> None:
        await self._wait_for_the_next(HOLES_EVERY_S)
        line = self._chance.choice(self._targets.lines)
        if self._is_over or line.is_cut:
            return
        line.cut()
        self.tally.holes += 1
        await self._wait(HOLES_FOR_S)
        line.mend(delivers=self._chance.random() < 0.5)

    async def _kill_redis(self, _: asyncio.TaskGroup) -> None:
        await self._wait_for_the_next(REDIS_KILLS_EVERY_S)
        if self._is_over:
            return
        redis, is_lossy = self._targets.redis, self._mode is Mode.LOSSY
        redis.kill(forgets_s=self._chance.uniform(*FORGETS_S) if is_lossy else 0.0)
        self.tally.redis_kills += 1
        await self._wait(REDIS_DOWN_FOR_S)
        await asyncio.to_thread(redis.start_again)

    async def _watch_redis(self, _: asyncio.TaskGroup) -> None:
        self._targets.redis.note_length()
        await asyncio.sleep(LENGTHS_EVERY_S)

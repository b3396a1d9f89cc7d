"""One start of a sidecar up to its death: what its store, wire and disk do before and after it.

A life passes named points: each call of the store before and after it took effect, each stage of a
token request, each entry of the spool. A test may trace them, act at them, or let the life end at
one: from then on nothing of it has any effect, whatever its tasks still do while they are torn
down; but a command that was on its way to the store arrives there. The disk outlives it.

A life belongs to a process of `virtual_time`, which a test may stop and continue.

It must not know which parts of a sidecar call it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, TypeVar, final

from sidecar.adapters.memory_spool import MemorySpool
from sidecar.domain.commands import Command, Incarnation, Pulse, VerdictT_co
from sidecar.domain.notices import Distress, FeedEntry, Notice
from sidecar.domain.record import GrantId, GrantRecord, GrantState, RunId
from sidecar.domain.scheduling import DueGrant
from sidecar.domain.spooled import AnswerReceived, SpoolEntry, SpoolState
from sidecar.domain.throttle import Throttle, ThrottleStep
from sidecar.ports import SpoolError, StoreUnavailable, TokenStore
from tests.support.fake_clock import FakeClock
from tests.support.virtual_time import NOWHERE, process_context, story_loop

ResultT = TypeVar("ResultT")
CarryOut = Callable[[GrantId, Command[Any]], Coroutine[Any, Any, Any]]

PATIENCE_S: Final = 0.5
"""How long a reply of the store is waited for; the command may have run, or may still run."""


@final
class Life:
    """One start of a sidecar, up to its death.

    Attributes:
        trace: The points passed so far.
        dies_at: The point at which this life ends.
        actions: What else happens at a point, once.
        always: What else happens at a point, each time.
        fate: Told of each point in the step in which it is passed.
        context: Work that is started in it can be stopped together.
    """

    def __init__(
        self, *, dies_at: str | None, mourn: Callable[[], None], process: str = "only"
    ) -> None:
        self.is_over = False
        self.trace: list[str] = []
        self.dies_at = dies_at
        self.actions: dict[str, Callable[[], None]] = {}
        self.always: dict[str, Callable[[], None]] = {}
        self.fate: Callable[[str], None] = _ignore
        self.process = process
        self.context = process_context(process)
        self._mourn = mourn

    @property
    def is_stopped(self) -> bool:
        """Whether the process stands still."""
        return story_loop().is_stopped(self.process)

    def point(self, name: str) -> None:
        """Pass a point; raises `CancelledError` if the life ends there, or is over already."""
        if not self.is_over:
            self.trace.append(name)
            if self.actions:
                self.actions.pop(name, _nothing)()
            self.always.get(name, _nothing)()
            self.fate(name)
            if name == self.dies_at:
                self.end()
        if self.is_over:
            task = asyncio.current_task()
            if task is not None:
                task.cancel()  # ended from outside, as everything of a dead process is
            raise asyncio.CancelledError

    def end(self) -> None:
        """Die: no later step of this life has any effect."""
        if not self.is_over:
            self.is_over = True
            self._mourn()


@final
class DistantStore:
    """The fleet's store as one life sees it: a way off, and perhaps cut off.

    A command travels by itself: once it has left, neither a stop nor the end of its sender keeps it
    from arriving.

    Attributes:
        carry_out: What a command that arrives is given to; a test may put a watch in its place.
        hears: Told of each command and its verdict in the step in which the reply is read.
        is_away: Whether this sidecar alone cannot reach the store.
        is_deaf: Whether hints do not reach this sidecar.
        loses_replies_of: Names of commands that take effect and then seem to have failed.
        outlive_cancellation: Names of commands that end as if they had not been cancelled.
        latency_s: Of one way; a function, so that a test may draw it.
    """

    def __init__(self, *, store: TokenStore, life: Life) -> None:
        self.carry_out: CarryOut = store.apply
        self.hears: Callable[[object, object], None] = _ignore_reply
        self.is_away = False
        self.is_deaf = False
        self.loses_replies_of: set[str] = set()
        self.outlive_cancellation: set[str] = set()
        self.latency_s: Callable[[], float] = lambda: 0.0005
        self._store = store
        self._life = life

    async def read(self, grant: GrantId) -> GrantRecord | None:
        """Read as the store does."""
        return await self._far("read", lambda: self._store.read(grant))

    async def read_each(self, grants: Sequence[GrantId]) -> Mapping[GrantId, GrantRecord | None]:
        """Read many as the store does."""
        return await self._far("read_each", lambda: self._store.read_each(grants))

    async def apply(self, grant: GrantId, command: Command[VerdictT_co]) -> VerdictT_co:
        """Apply as the store does."""
        name = type(command).__name__
        verdict: VerdictT_co = await self._far(name, lambda: self.carry_out(grant, command))
        self.hears(command, verdict)
        return verdict

    async def scan(
        self, cursor: str, limit: int
    ) -> tuple[str, Sequence[tuple[GrantId, GrantRecord]]]:
        """Scan as the store does."""
        return await self._far("scan", lambda: self._store.scan(cursor, limit))

    async def probe(self) -> Pulse:
        """Probe as the store does."""
        return await self._far("probe", self._store.probe)

    async def meet(self, run_id: RunId) -> Incarnation:
        """Meet as the store does."""
        return await self._far("meet", lambda: self._store.meet(run_id))

    async def agree(self, name: str, value: str) -> str:
        """Agree as the store does."""
        return await self._far("agree", lambda: self._store.agree(name, value))

    async def agreement_on(self, name: str) -> str | None:
        """Look as the store does."""
        return await self._far("agree", lambda: self._store.agreement_on(name))

    async def take_canary(self, name: str, ttl_ms: int) -> bool:
        """Take the canary as the store does."""
        return await self._far("canary", lambda: self._store.take_canary(name, ttl_ms))

    async def schedule(
        self, shard: int, due: Mapping[GrantId, int], *, only_sooner: bool = False
    ) -> int:
        """Schedule as the store does."""
        return await self._far(
            "schedule", lambda: self._store.schedule(shard, due, only_sooner=only_sooner)
        )

    async def unschedule(self, shard: int, grants: Collection[GrantId]) -> None:
        """Strike from the schedule as the store does."""
        await self._far("unschedule", lambda: self._store.unschedule(shard, grants))

    async def take_due(self, shard: int, limit: int, *, retake_ms: int) -> Sequence[DueGrant]:
        """Take what is due as the store does."""
        return await self._far(
            "take_due", lambda: self._store.take_due(shard, limit, retake_ms=retake_ms)
        )

    async def note_uses(self, shard: int, uses: Mapping[GrantId, int]) -> None:
        """Note uses as the store does."""
        await self._far("note_uses", lambda: self._store.note_uses(shard, uses))

    async def last_uses(self, shard: int, grants: Sequence[GrantId]) -> Mapping[GrantId, int]:
        """Tell the last uses as the store does."""
        return await self._far("last_uses", lambda: self._store.last_uses(shard, grants))

    async def forget_uses(self, shard: int, *, before_ms: int) -> None:
        """Forget uses as the store does."""
        await self._far("forget_uses", lambda: self._store.forget_uses(shard, before_ms=before_ms))

    async def throttle(self, step: ThrottleStep) -> tuple[Throttle, bool]:
        """Take a step on the fleet's throttle as the store does."""
        return await self._far("throttle", lambda: self._store.throttle(step))

    async def reserve_settlement(self, grant: GrantId, *, window_ms: int, most: int | None) -> bool:
        """Reserve a settlement as the store does."""
        reserve = partial(self._store.reserve_settlement, grant, window_ms=window_ms, most=most)
        return await self._far("reserve", reserve)

    async def tell(self, grant: GrantId, state: GrantState, reason: str) -> None:
        """Tell as the store does."""
        await self._far("tell", lambda: self._store.tell(grant, state, reason))

    async def feed(self, cursor: str, limit: int) -> Sequence[FeedEntry]:
        """Read the feed as the store does."""
        return await self._far("feed", lambda: self._store.feed(cursor, limit))

    async def call_fleet(self, grant: GrantId) -> None:
        """Call the fleet as the store does."""
        await self._far("call_fleet", lambda: self._store.call_fleet(grant))

    async def listen(self) -> AsyncIterator[Notice | Distress]:
        """Listen as the store does, unless this sidecar is deaf or cut off."""
        async for hint in self._store.listen():
            if not (self.is_deaf or self.is_away):
                yield hint

    async def close(self) -> None:
        """Leave the store to the other lives."""

    async def _far(self, name: str, work: Callable[[], Coroutine[Any, Any, ResultT]]) -> ResultT:
        self._life.point(f"before {name}")
        if self.is_away:
            raise StoreUnavailable("ConnectionError")
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[ResultT] = loop.create_future()
        there_s, back_s = self.latency_s(), self.latency_s()
        arrival = partial(self._arrive, name, work, reply, back_s)
        loop.call_later(there_s, arrival, context=NOWHERE)
        if there_s + back_s > PATIENCE_S:
            loop.call_later(PATIENCE_S, _fail, reply, "TimeoutError", context=NOWHERE)
        result = await (_outliving(reply) if name in self.outlive_cancellation else reply)
        self._life.point(f"back from {name}")
        if name in self.loses_replies_of or self.is_away:
            raise StoreUnavailable("TimeoutError")
        return result

    def _arrive(
        self,
        name: str,
        work: Callable[[], Coroutine[Any, Any, ResultT]],
        reply: asyncio.Future[ResultT],
        back_s: float,
    ) -> None:
        """Carry a command out where the store is; a life that ends on the way gets no reply."""
        try:
            if not self._life.is_over:
                self._life.point(f"at {name}")
            if self.is_away:
                _fail(reply, "ConnectionError")
                return
            result = _at_once(work())
            self._life.point(f"after {name}")
        except asyncio.CancelledError:
            return  # the sender is dead: it waits for no reply, and whoever waits is ended
        except StoreUnavailable as error:
            _fail(reply, str(error))
        else:
            loop = asyncio.get_running_loop()
            loop.call_later(back_s, _settle, reply, result, context=NOWHERE)


def _at_once(work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Return the result of work that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as done:
        result: ResultT = done.value
        return result
    raise AssertionError("the store waits for something")


def _settle(reply: asyncio.Future[ResultT], result: ResultT) -> None:
    if not reply.done():
        reply.set_result(result)


def _fail(reply: asyncio.Future[Any], reason: str) -> None:
    if not reply.done():
        reply.set_exception(StoreUnavailable(reason))


async def _outliving(reply: asyncio.Future[ResultT]) -> ResultT:
    """Wait as `asyncio.wait_for` of Python 3.11 may: the cancellation is lost."""
    try:
        return await asyncio.shield(reply)
    except asyncio.CancelledError:
        return await reply


def _ignore_reply(command: object, verdict: object) -> None:
    """Nobody listens in most tests."""
    del command, verdict


def _ignore(point: str) -> None:
    """Nothing happens at most points."""
    del point


def _nothing() -> None:
    """Happens at most points."""


@dataclass(slots=True, kw_only=True)
class Disk:
    """What survives a sidecar: the entries of its spool, and whether each was synced.

    Attributes:
        is_full: Every durable write fails.
        fails_on: Names of entry classes that cannot be taken down.
    """

    entries: list[tuple[SpoolEntry, bool]] = field(default_factory=list[tuple[SpoolEntry, bool]])
    is_full: bool = False
    fails_on: set[str] = field(default_factory=set[str])

    def lose_power(self) -> None:
        """Forget what was written after the last sync."""
        while self.entries and not self.entries[-1][1]:
            self.entries.pop()

    def spoil_answers(self) -> None:
        """Have every raw answer sealed with a key that nobody has."""
        self.entries = [
            (replace(entry, sealed_answer=b"ak1|lost|"), durable)
            if isinstance(entry, AnswerReceived)
            else (entry, durable)
            for entry, durable in self.entries
        ]


@final
class LivingSpool:
    """The spool of one life; implements `sidecar.ports.Spool`."""

    def __init__(self, *, disk: Disk, life: Life, clock: FakeClock) -> None:
        self._disk = disk
        self._life = life
        self._memory = MemorySpool(clock=clock)
        for entry, _ in disk.entries:
            self._memory.write(entry, durable=True)

    @property
    def state(self) -> SpoolState:
        """What the log adds up to."""
        return self._memory.state

    @property
    def parked_since_s(self) -> float:
        """When the oldest parked pair was written."""
        return self._memory.parked_since_s

    @property
    def fault(self) -> str:
        """Why the next write would fail."""
        return "ENOSPC" if self._disk.is_full else ""

    @property
    def is_writable(self) -> bool:
        """Whether the disk has room."""
        return not self.fault

    def write(self, entry: SpoolEntry, *, durable: bool) -> None:
        """Take an entry down, unless this life is over."""
        name = type(entry).__name__
        self._life.point(f"before {name}")
        self._memory.write(entry, durable=durable)
        if self._disk.is_full or name in self._disk.fails_on:
            raise SpoolError("ENOSPC")
        self._disk.entries.append((entry, durable))
        self._life.point(f"after {name}")

    def close(self) -> None:
        """Let the disk go."""

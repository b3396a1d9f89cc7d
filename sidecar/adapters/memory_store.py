"""A fleet's memory in one process: the reference `TokenStore`, for tests and for the demo.

Runs `sidecar.domain.transitions` on a dictionary, one step at a time. Its attributes are knobs: a
test moves the clock, changes the incarnation, takes the store away or lets replies get lost. Knows
nothing of Redis; whatever it does, the contract suite demands of every store.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Final, final

from sidecar.domain import throttle as rules
from sidecar.domain import transitions
from sidecar.domain.commands import (
    BeginRevocation,
    Command,
    Commit,
    Deny,
    FinishRevocation,
    Incarnation,
    Invalidate,
    Moment,
    Pulse,
    Settle,
    VerdictT_co,
)
from sidecar.domain.notices import Distress, FeedEntry, Notice
from sidecar.domain.record import GrantId, GrantRecord, GrantState, RunId
from sidecar.domain.scheduling import DueGrant, shard_of
from sidecar.domain.store_trouble import StoreTrouble
from sidecar.domain.throttle import Throttle, ThrottleStep
from sidecar.ports import Clock, StoreUnavailable

FEED_ENTRIES: Final = 10_000
PUBLISHED: Final = (Commit, Deny, Settle, BeginRevocation, FinishRevocation, Invalidate)


def is_news(
    command: Command[object], before: GrantRecord | None, after: GrantRecord | None
) -> bool:
    """Whether peers are told: another pair or state, by a command that ends or begins something."""
    if after is None or not isinstance(command, PUBLISHED):
        return False
    return before is None or (before.pair, before.state) != (after.pair, after.state)


@final
class MemoryTokenStore:
    """A `TokenStore` with `Deposits` whose whole state is public.

    Attributes:
        records: The records; a test may put and take them.
        run_id: The incarnation; give it another value to restart the store.
        is_available: Whether calls are answered at all.
        unreachable: Grants whose server alone is away, as in a store of several.
        loses_replies: Whether calls run and then raise `StoreUnavailable`.
        skew_ms: How far the store's clock is ahead of `clock`.
        incarnations: When each incarnation was first met.
        agreed: What the fleet agreed on.
        canaries: Until when each canary is taken.
        deposits: What lies there to be taken once, and until when.
        due: The schedule: when each grant is due.
        used: When each grant was last used.
        held_back: What holds the fleet back.
        settlements: When each settlement of the running window was reserved.
        notices: Every notice published so far.
        distress: Every call to the fleet so far.
    """

    def __init__(self, *, clock: Clock, run_id: str = "incarnation-1") -> None:
        self.records: dict[GrantId, GrantRecord] = {}
        self.run_id = RunId(run_id)
        self.is_available = True
        self.unreachable: set[GrantId] = set()
        self.loses_replies = False
        self.skew_ms = 0
        self.incarnations: dict[RunId, int] = {}
        self.agreed: dict[str, str] = {}
        self.canaries: dict[str, int] = {}
        self.deposits: dict[str, tuple[bytes, int]] = {}
        self.due: dict[GrantId, int] = {}
        self.used: dict[GrantId, int] = {}
        self.held_back = Throttle()
        self.settlements: dict[GrantId, int] = {}
        self.notices: list[Notice] = []
        self.distress: list[Distress] = []
        self._clock = clock
        self._feed: deque[FeedEntry] = deque(maxlen=FEED_ENTRIES)
        self._fed = 0
        self._listeners: dict[asyncio.Queue[Notice | Distress | None], None] = {}

    @property
    def now_ms(self) -> int:
        """The store's clock."""
        return round(self._clock.now_s() * 1000) + self.skew_ms

    @property
    def moment(self) -> Moment:
        """The store's clock and incarnation."""
        return Moment(now_ms=self.now_ms, run_id=self.run_id)

    async def read(self, grant: GrantId) -> GrantRecord | None:
        """Return the record, or ``None``."""
        self._begin(grant)
        self._end()
        return self.records.get(grant)

    async def read_each(self, grants: Sequence[GrantId]) -> Mapping[GrantId, GrantRecord | None]:
        """Return the records of the grants that can be reached."""
        self._begin()
        self._end()
        reached = [grant for grant in grants if grant not in self.unreachable]
        if grants and not reached:
            raise StoreUnavailable("ConnectionError", cause=StoreTrouble.RESET)
        return {grant: self.records.get(grant) for grant in reached}

    async def apply(self, grant: GrantId, command: Command[VerdictT_co]) -> VerdictT_co:
        """Carry out one command at the store's clock and incarnation."""
        self._begin(grant)
        before = self.records.get(grant)
        after, verdict = transitions.apply(before, command, self.moment)
        if after is None:
            self.records.pop(grant, None)
        else:
            self.records[grant] = after
            if is_news(command, before, after):
                self._publish(grant, after)
        self._end()
        return verdict

    async def scan(
        self, cursor: str, limit: int
    ) -> tuple[str, Sequence[tuple[GrantId, GrantRecord]]]:
        """Return the next `limit` records in the order of their names."""
        self._begin()
        names = sorted(name for name in self.records if name > cursor)[:limit]
        next_cursor = names[-1] if len(names) == limit else ""
        self._end()
        return next_cursor, tuple((name, self.records[name]) for name in names)

    async def probe(self) -> Pulse:
        """Return the store's clock and incarnation."""
        self._begin()
        self._end()
        return Pulse(now_ms=self.now_ms, run_ids=frozenset({self.run_id}))

    async def meet(self, run_id: RunId) -> Incarnation:
        """Announce an incarnation; return when it was first met."""
        self._begin()
        met_at_ms = self.incarnations.setdefault(run_id, self.now_ms)
        self._end()
        return Incarnation(run_id=run_id, met_at_ms=met_at_ms)

    async def agree(self, name: str, value: str) -> str:
        """Return what was proposed first."""
        self._begin()
        agreed = self.agreed.setdefault(name, value)
        self._end()
        return agreed

    async def agreement_on(self, name: str) -> str | None:
        """Return what was proposed first, if anything was."""
        self._begin()
        agreed = self.agreed.get(name)
        self._end()
        return agreed

    async def take_canary(self, name: str, ttl_ms: int) -> bool:
        """Return whether nobody took this canary in the last `ttl_ms` of its taker."""
        self._begin()
        is_free = self.canaries.get(name, 0) <= self.now_ms
        if is_free:
            self.canaries[name] = self.now_ms + ttl_ms
        self._end()
        return is_free

    async def deposit(self, name: str, envelope: bytes, *, ttl_ms: int) -> None:
        """Keep an envelope for `ttl_ms`."""
        self._begin()
        self.deposits[name] = (envelope, self.now_ms + ttl_ms)
        self._end()

    async def peek(self, name: str) -> bytes | None:
        """Return the envelope and leave it there."""
        self._begin()
        envelope, until_ms = self.deposits.get(name, (None, 0))
        self._end()
        return envelope if until_ms > self.now_ms else None

    async def take(self, name: str) -> bytes | None:
        """Return the envelope to one caller alone."""
        self._begin()
        envelope, until_ms = self.deposits.pop(name, (None, 0))
        self._end()
        return envelope if until_ms > self.now_ms else None

    async def schedule(
        self, shard: int, due: Mapping[GrantId, int], *, only_sooner: bool = False
    ) -> int:
        """Note when grants are due; return how many instants that changed."""
        self._begin()
        changed = {
            grant: at_ms
            for grant, at_ms in _of_shard(shard, due).items()
            if at_ms != self.due.get(grant)
            and not (only_sooner and at_ms > self.due.get(grant, at_ms))
        }
        self.due |= changed
        self._end()
        return len(changed)

    async def unschedule(self, shard: int, grants: Collection[GrantId]) -> None:
        """Strike grants from the schedule."""
        self._begin()
        for grant in grants:
            if shard_of(grant) == shard:
                self.due.pop(grant, None)
        self._end()

    async def take_due(self, shard: int, limit: int, *, retake_ms: int) -> Sequence[DueGrant]:
        """Return what is due of one shard, and put it off for whoever dies with it."""
        self._begin()
        due = sorted(
            (at_ms, grant)
            for grant, at_ms in _of_shard(shard, self.due).items()
            if at_ms <= self.now_ms
        )
        taken = tuple(DueGrant(grant=grant, at_ms=at_ms) for at_ms, grant in due[:limit])
        self.due |= {each.grant: self.now_ms + retake_ms for each in taken}
        self._end()
        return taken

    async def note_uses(self, shard: int, uses: Mapping[GrantId, int]) -> None:
        """Note when grants were last used."""
        self._begin()
        for grant, at_ms in _of_shard(shard, uses).items():
            self.used[grant] = max(at_ms, self.used.get(grant, at_ms))
        self._end()

    async def last_uses(self, shard: int, grants: Sequence[GrantId]) -> Mapping[GrantId, int]:
        """Return when grants were last used."""
        self._begin()
        self._end()
        return {grant: self.used[grant] for grant in grants if grant in _of_shard(shard, self.used)}

    async def forget_uses(self, shard: int, *, before_ms: int) -> None:
        """Forget every use of one shard before an instant."""
        self._begin()
        for grant in [g for g, at in _of_shard(shard, self.used).items() if at < before_ms]:
            del self.used[grant]
        self._end()

    async def throttle(self, step: ThrottleStep) -> tuple[Throttle, bool]:
        """Take one step on the fleet's throttle."""
        self._begin()
        self.held_back, is_granted = rules.take(self.held_back, step, self.now_ms)
        self._end()
        return self.held_back, is_granted

    async def reserve_settlement(self, grant: GrantId, *, window_ms: int, most: int | None) -> bool:
        """Return whether the grant may be settled in the running window."""
        self._begin()
        since_ms = self.now_ms - window_ms
        running = {each: at_ms for each, at_ms in self.settlements.items() if at_ms > since_ms}
        is_reserved = grant in running or most is None or len(running) < most
        if is_reserved:
            running.setdefault(grant, self.now_ms)
        self.settlements = running
        self._end()
        return is_reserved

    async def tell(self, grant: GrantId, state: GrantState, reason: str) -> None:
        """Append a change of state to the feed."""
        self._begin()
        self._fed += 1
        entry = FeedEntry(
            cursor=f"{self.now_ms}-{self._fed}",
            grant=grant,
            state=state,
            reason=reason,
            at_ms=self.now_ms,
        )
        self._feed.append(entry)
        self._end()

    async def feed(self, cursor: str, limit: int) -> Sequence[FeedEntry]:
        """Return entries after `cursor`; from the oldest for ``""`` and for what is no cursor."""
        self._begin()
        self._end()
        after = _sequence_of(cursor)
        return tuple(entry for entry in self._feed if _sequence_of(entry.cursor) > after)[:limit]

    async def call_fleet(self, grant: GrantId) -> None:
        """Ask every listener to offer its newest pair of this grant."""
        self._begin()
        call = Distress(grant=grant)
        self.distress.append(call)
        self._tell_listeners(call)
        self._end()

    async def listen(self) -> AsyncIterator[Notice | Distress]:
        """Yield hints from now on, until the store is closed."""
        queue: asyncio.Queue[Notice | Distress | None] = asyncio.Queue()
        self._listeners[queue] = None
        try:
            while (hint := await queue.get()) is not None:
                yield hint
        finally:
            self._listeners.pop(queue, None)

    async def close(self) -> None:
        """End every listener."""
        for queue in self._listeners:
            queue.put_nowait(None)

    def _begin(self, grant: GrantId | None = None) -> None:
        if not self.is_available or grant in self.unreachable:
            raise StoreUnavailable("ConnectionError", cause=StoreTrouble.RESET)

    def _end(self) -> None:
        if self.loses_replies:
            raise StoreUnavailable("TimeoutError", cause=StoreTrouble.TIMEOUT)

    def _publish(self, grant: GrantId, record: GrantRecord) -> None:
        notice = Notice(
            grant=grant,
            consent_id=record.pair.consent.id,
            generation=record.pair.generation,
            state=record.state,
        )
        self.notices.append(notice)
        self._tell_listeners(notice)

    def _tell_listeners(self, hint: Notice | Distress) -> None:
        for queue in self._listeners:
            queue.put_nowait(hint)


def _of_shard(shard: int, instants: Mapping[GrantId, int]) -> dict[GrantId, int]:
    return {grant: at_ms for grant, at_ms in instants.items() if shard_of(grant) == shard}


def _sequence_of(cursor: str) -> tuple[int, int]:
    at_ms, _, sequence = cursor.partition("-")
    if at_ms.isdecimal() and sequence.isdecimal():
        return int(at_ms), int(sequence)
    return 0, 0

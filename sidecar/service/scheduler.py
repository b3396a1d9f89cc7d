"""Refreshes grants that nobody asks for: looks at what the schedule says is due, and wishes.

The schedule is advice: each look reads the record and asks the rules, and a wish goes through the
lane like any other, so the lease decides. It takes no more than it can look after, and of one bank
no more than that bank ends, so that a sick one holds up nobody else.

It runs in the claim lane and is the first to stop when the sidecar is asked to end.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import Final, assert_never, final

from sidecar.domain.events import DueOutcome, GrantLookedAt, RecordUnreadable, WorkFailed
from sidecar.domain.outcomes import FoundNewer, GrantGone, Postponed, Refreshed
from sidecar.domain.record import GrantId, GrantRecord
from sidecar.domain.scheduling import SHARDS, DueGrant, DueLater, DueNow, NotDue
from sidecar.ports import SealError, StoreUnavailable
from sidecar.service.claim_parts import ClaimParts, RefreshWish
from sidecar.service.lane import ClaimLane, LaneWorkFailed
from sidecar.service.refresher import UNREADABLE_RETRY_S
from sidecar.service.store_watch import StoreWatch

PAGE: Final = 20
MOST_LOOKED_AFTER: Final = 64
MOST_OF_A_PROVIDER: Final = 16
LONGEST_REST_S: Final = 300.0
HASTE: Final = 0.1
"""What a pause shrinks to while there is more to take."""

JITTER: Final = 0.1


@final
class Scheduler:
    """Looks after due grants, one shard of the schedule at a time."""

    def __init__(self, *, parts: ClaimParts, watch: StoreWatch, lane: ClaimLane) -> None:
        self._parts = parts
        self._planner = parts.planner
        self._watch = watch
        self._lane = lane
        self._looked_after: set[GrantId] = set()
        self._wishes: Counter[str] = Counter()
        self._moved_at_s: dict[str, float] = {}
        self._shards: Iterator[int] = iter(())

    async def run(self) -> None:
        """Look after due grants until cancelled, which ends the waiting only."""
        async with asyncio.TaskGroup() as group:
            await asyncio.sleep(self._pause_s())
            while True:
                is_more = await self._tick(group)
                await asyncio.sleep(self._pause_s() * (HASTE if is_more else 1))

    async def _tick(self, group: asyncio.TaskGroup) -> bool:
        """Tell what was planned, and take from one shard; return whether there is more in it."""
        try:
            await self._planner.tell()
            if not self._may_take():
                return False
            # While Akoya refuses the app's own credentials, one grant is enough for the canary.
            limit = 1 if self._parts.restraints.gate.is_open else PAGE
            taken, uses = await self._take(self._next_shard(), limit)
        except StoreUnavailable:
            return False
        for due in taken:
            if due.grant not in self._looked_after:
                self._looked_after.add(due.grant)
                group.create_task(self._look_after(due, is_used=due.grant in uses))
        return len(taken) == PAGE

    def _may_take(self) -> bool:
        return (
            self._planner.rules.policy.is_ahead
            and self._lane.takes_ahead
            and not self._parts.restraints.brake.is_on
            and self._watch.is_up
            and len(self._looked_after) + PAGE <= MOST_LOOKED_AFTER
            and self._parts.journal.is_writable
        )

    def _pause_s(self) -> float:
        """Return the pause between two polls, a third more or less: sidecars fall out of step."""
        return self._parts.times.due_poll_s * (2 + 2 * self._parts.entropy.fraction()) / 3

    def _next_shard(self) -> int:
        """Return the shards in an order of chance, each once before any comes again."""
        for shard in self._shards:
            return shard
        order = sorted(range(SHARDS), key=lambda _: self._parts.entropy.fraction())
        self._shards = iter(order[1:])
        return order[0]

    async def _take(self, shard: int, limit: int) -> tuple[list[DueGrant], AbstractSet[GrantId]]:
        """Return what is due of a shard, and which of it is in use."""
        retake_ms = int(self._parts.times.lease_s * 1000)
        taken = list(await self._parts.store.take_due(shard, limit, retake_ms=retake_ms))
        return taken, await self._planner.in_use(shard, [due.grant for due in taken])

    async def _look_after(self, due: DueGrant, *, is_used: bool) -> None:
        late_ms = self._parts.store_clock.now_ms() - due.at_ms
        try:
            outcome = await self._deal_with(due.grant, is_used=is_used)
        except (StoreUnavailable, LaneWorkFailed):
            return  # it is due again soon
        except Exception as error:  # noqa: BLE001 - reported; one grant must not end the others
            self._parts.observer.observe(WorkFailed(where="scheduler", error=type(error).__name__))
            return
        finally:
            self._looked_after.discard(due.grant)
        self._parts.observer.observe(
            GrantLookedAt(grant=due.grant, outcome=outcome, late_s=max(0.0, late_ms / 1000))
        )

    async def _deal_with(self, grant: GrantId, *, is_used: bool) -> DueOutcome:
        record = await self._parts.store.read(grant)
        if record is None or record.state.is_dead:
            self._planner.strike(grant)
            return DueOutcome.GONE
        now_ms = self._parts.store_clock.now_ms()
        verdict = self._planner.rules.judge(grant, record, is_used=is_used, now_ms=now_ms)
        match verdict:
            case NotDue():
                self._planner.strike(grant)
                return DueOutcome.IDLE
            case DueLater():
                self._planner.plan(grant, verdict.at_ms)
                return DueOutcome.EARLY
            case DueNow():
                return await self._wish_for(grant, record)
            case _:
                assert_never(verdict)

    async def _wish_for(self, grant: GrantId, record: GrantRecord) -> DueOutcome:
        try:
            provider = self._parts.vault.open_key(grant, record.pair.sealed_key).provider
        except SealError as error:
            self._parts.observer.observe(RecordUnreadable(grant=grant, key_id=error.key_id))
            self._plan_in(grant, UNREADABLE_RETRY_S)
            return DueOutcome.UNREADABLE
        if self._wishes[provider] >= MOST_OF_A_PROVIDER:
            self._plan_in(grant, self._rest_s(provider))
            return DueOutcome.CROWDED
        wish = RefreshWish(grant=grant, provider=provider, known=record.position)
        if not self._wishes[provider]:
            self._moved_at_s[provider] = self._parts.clock.elapsed_s()
        self._wishes[provider] += 1
        try:
            outcome = await self._lane.refresh(wish, is_ahead=True)
        finally:
            self._leave(provider)
        match outcome:
            case Refreshed():
                return DueOutcome.REFRESHED  # and planned anew when it was stored
            case FoundNewer():
                self._planner.expect(grant, outcome.record)
                return DueOutcome.FOUND_NEWER
            case GrantGone():
                self._planner.strike(grant)
                return DueOutcome.GONE
            case Postponed():
                self._plan_in(grant, outcome.retry_in_s)
                return DueOutcome.POSTPONED
            case _:
                assert_never(outcome)

    def _rest_s(self, provider: str) -> float:
        """Return how long a bank with enough wishes is left alone: as long as it ends none."""
        stuck_s = self._parts.clock.elapsed_s() - self._moved_at_s[provider]
        return min(stuck_s, LONGEST_REST_S)

    def _leave(self, provider: str) -> None:
        self._wishes[provider] -= 1
        self._moved_at_s[provider] = self._parts.clock.elapsed_s()
        if not self._wishes[provider]:
            del self._wishes[provider], self._moved_at_s[provider]

    def _plan_in(self, grant: GrantId, wait_s: float) -> None:
        """Look again after `wait_s`, but never twice in one lease, and not all at one instant."""
        least_s = max(wait_s, self._parts.times.lease_s)
        jittered_s = least_s * (1 + JITTER * self._parts.entropy.fraction())
        self._planner.plan(grant, self._parts.store_clock.now_ms() + int(jittered_s * 1000))

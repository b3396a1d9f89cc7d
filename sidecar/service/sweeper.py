"""Looks at every record of the fleet now and then: counts them, and mends what nobody else will.

One sidecar at a time does. Whoever takes the canary sweeps until it is taken anew; if that sidecar
dies, another one takes it when its time is over. Each sidecar looks after its own spool as well.

It brings back what the schedule lost, settles doubts that everybody forgot, and seals anew what a
former key sealed. It claims nothing: what is overdue it puts into the schedule.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Final, final

from sidecar.domain.commands import Done, Rewrap
from sidecar.domain.events import GrantsCounted, RecordUnreadable, StoreSwept
from sidecar.domain.policy import grant_jitter
from sidecar.domain.record import GrantId, GrantRecord, GrantState, RunId
from sidecar.domain.scheduling import SHARDS, Prospect, shard_of
from sidecar.domain.throttle import CountGrants
from sidecar.ports import SealError, StoreUnavailable
from sidecar.service.claim_parts import ClaimParts
from sidecar.service.settler import Settlement
from sidecar.service.spool_resealer import SpoolResealer
from sidecar.service.store_watch import StoreWatch

CANARY: Final = "sweep"
PAGE: Final = 100
BATCH: Final = 200
MOST_TOLD: Final = 20
"""So many unreadable records of one sweep are told one by one; the others are only counted."""

ALIVE: Final = ("active", "refreshing", "in_doubt", "reauth_required")
"""The states of grants that nobody ended on purpose: the brake's limit depends on their number."""

SPREAD_S: Final = 60.0
"""Over so long grants are spread that a sweep found overdue."""


@dataclass(slots=True, kw_only=True)
class _Sweep:
    """What one sweep has seen and done so far."""

    states: Counter[str] = field(default_factory=Counter[str])
    scheduled: int = 0
    settled: int = 0
    resealed: int = 0
    unreadable: int = 0


@final
class Sweeper:
    """The sweep over all records, and over the own spool."""

    def __init__(self, *, parts: ClaimParts, watch: StoreWatch) -> None:
        self._parts = parts
        self._rules = parts.planner.rules
        self._watch = watch
        self._resealer = SpoolResealer(parts=parts)
        self._elected_until_s = 0.0
        self._spool_due_s = 0.0
        self._swept_in: frozenset[RunId] = frozenset()
        self._prospects: defaultdict[int, dict[GrantId, Prospect]] = defaultdict(dict)

    async def run(self) -> None:
        """Sweep whenever it is this sidecar's turn, until cancelled."""
        while True:
            await self.tick()
            await asyncio.sleep(self._parts.times.sweep_poll_s)

    async def tick(self) -> None:
        """Look at the own spool if that is due; stand for election, and sweep if elected."""
        now_s = self._parts.clock.elapsed_s()
        every_s = self._parts.times.sweep_every_s
        if now_s >= self._spool_due_s:
            self._spool_due_s = now_s + every_s
            await self._resealer.reseal()
        # A store that came back with another incarnation may have lost the schedule.
        if now_s < self._elected_until_s and self._swept_in == self._watch.incarnations:
            return
        try:
            if not await self._parts.store.take_canary(CANARY, int(every_s * 1000)):
                self._parts.observer.observe(GrantsCounted(is_ours=False))
                return
            self._elected_until_s = now_s + every_s
            self._swept_in = self._watch.incarnations
            await self._sweep()
        except StoreUnavailable:
            self._elected_until_s = 0.0
            self._parts.observer.observe(GrantsCounted(is_ours=False))

    async def _sweep(self) -> None:
        sweep = _Sweep()
        self._prospects.clear()
        began_s = self._parts.clock.elapsed_s()
        cursor, is_over = "", False
        while not is_over:
            page_s = self._parts.clock.elapsed_s()
            cursor, page = await self._parts.store.scan(cursor, PAGE)
            for grant, record in page:
                sweep.states[record.state.public] += 1
                await self._mend(sweep, grant, record)
            is_over = not cursor
            await self._bring_back(sweep, least=1 if is_over else BATCH)
            # As long a rest as the page took: a claim is more urgent.
            await asyncio.sleep(self._parts.clock.elapsed_s() - page_s)
        await self._forget_uses()
        self._parts.observer.observe(GrantsCounted(is_ours=True, **sweep.states))
        alive = sum(sweep.states[state] for state in ALIVE)
        await self._parts.store.throttle(CountGrants(grants=alive))
        self._parts.observer.observe(
            StoreSwept(
                records=sweep.states.total(),
                scheduled=sweep.scheduled,
                settled=sweep.settled,
                resealed=sweep.resealed,
                unreadable=sweep.unreadable,
                took_s=self._parts.clock.elapsed_s() - began_s,
            )
        )

    async def _mend(self, sweep: _Sweep, grant: GrantId, record: GrantRecord) -> None:
        if not self._parts.vault.is_current(record.pair):
            await self._reseal(sweep, grant, record)
        if self._is_forgotten_doubt(record):
            settlement = await self._parts.settler.settle(grant, record.position)
            sweep.settled += settlement is Settlement.SETTLED
            return
        prospect = self._rules.prospect(grant, record, now_ms=self._parts.store_clock.now_ms())
        if prospect.if_used_ms is not None:
            self._prospects[shard_of(grant)][grant] = prospect

    def _is_forgotten_doubt(self, record: GrantRecord) -> bool:
        over_ms = max(record.hold_until_ms, record.quarantine_until_ms)
        is_doubt = record.state is GrantState.IN_DOUBT
        # What another incarnation doubted is first asked of the fleet again, by whoever claims.
        is_of_now = record.run_id in self._watch.incarnations
        return is_doubt and is_of_now and over_ms <= self._parts.store_clock.now_ms()

    async def _reseal(self, sweep: _Sweep, grant: GrantId, record: GrantRecord) -> None:
        try:
            pair = self._parts.vault.reseal_pair(grant, record.pair)
        except SealError as error:
            sweep.unreadable += 1
            if sweep.unreadable <= MOST_TOLD:
                self._parts.observer.observe(RecordUnreadable(grant=grant, key_id=error.key_id))
            return
        command = Rewrap(
            position=pair.position,
            fingerprint=pair.fingerprint,
            sealed_pair=pair.sealed_pair,
            sealed_key=pair.sealed_key,
        )
        sweep.resealed += isinstance(await self._parts.store.apply(grant, command), Done)

    async def _bring_back(self, sweep: _Sweep, *, least: int) -> None:
        """Put into the schedule what is missing there, of each shard with so many grants read."""
        for shard, prospects in self._prospects.items():
            if len(prospects) < least:
                continue
            used = await self._parts.planner.in_use(shard, list(prospects))
            due = {
                grant: self._spread(grant, at_ms)
                for grant, prospect in prospects.items()
                if (at_ms := prospect.if_used_ms if grant in used else prospect.if_idle_ms)
                is not None
            }
            prospects.clear()
            if due:
                sweep.scheduled += await self._parts.store.schedule(shard, due, only_sooner=True)

    def _spread(self, grant: GrantId, at_ms: int) -> int:
        """Return the instant, but not before whoever took the grant may still be at it."""
        wait_s = self._parts.times.lease_s + SPREAD_S * grant_jitter(grant)
        return max(at_ms, self._parts.store_clock.now_ms() + int(wait_s * 1000))

    async def _forget_uses(self) -> None:
        before_ms = self._parts.store_clock.now_ms() - int(self._rules.use_counts_s * 1000)
        for shard in range(SHARDS):
            await self._parts.store.forget_uses(shard, before_ms=before_ms)

"""Writes the schedule: collects what changed, and tells the store in batches.

A commit must not wait for a piece of advice, and a schedule that lost an entry is mended by the
sweep; so this only notes, and whoever runs the schedule lets it tell. Belongs to the claim lane.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Final, final

from sidecar.domain.policy import RefreshAhead
from sidecar.domain.record import GrantId, GrantRecord, StoredPair
from sidecar.domain.scheduling import Schedule, shard_of
from sidecar.ports import Agenda
from sidecar.service.store_clock import StoreClock

BATCH: Final = 500


@final
class Planner:
    """Instants that the store has not been told yet; ``None`` stands for a grant to strike."""

    def __init__(self, *, agenda: Agenda, rules: Schedule, store_clock: StoreClock) -> None:
        self.rules = rules
        self._agenda = agenda
        self._store_clock = store_clock
        self._untold: dict[GrantId, int | None] = {}

    def committed(self, grant: GrantId, pair: StoredPair) -> None:
        """Plan the next look at a grant whose pair has just been stored."""
        self.expect(grant, GrantRecord(pair=pair, committed_at_ms=self._store_clock.now_ms()))

    def expect(self, grant: GrantId, record: GrantRecord) -> None:
        """Plan the next look at a grant from its record; whether it is in use shows then."""
        at_ms = self.rules.prospect(grant, record, now_ms=self._store_clock.now_ms()).if_used_ms
        if at_ms is not None:
            self.plan(grant, at_ms)

    def plan(self, grant: GrantId, at_ms: int) -> None:
        """Have the grant looked at from this instant on (store clock)."""
        self._untold[grant] = at_ms

    def strike(self, grant: GrantId) -> None:
        """Have nobody look at the grant until it is used or changes."""
        self._untold[grant] = None

    async def in_use(self, shard: int, grants: Sequence[GrantId]) -> AbstractSet[GrantId]:
        """Return those of a shard's grants that count as in use; where that is all one: all.

        Raises:
            StoreUnavailable: It is not known.
        """
        if not grants or self.rules.policy.ahead is not RefreshAhead.ACTIVE:
            return set(grants)
        now_ms = self._store_clock.now_ms()
        noted = await self._agenda.last_uses(shard, grants)
        return {
            grant
            for grant, used_ms in noted.items()
            if self.rules.is_in_use(used_ms, now_ms=now_ms)
        }

    async def tell(self) -> None:
        """Tell the store what was noted; what it did not take stays noted.

        Raises:
            StoreUnavailable: Some of it was not taken.
        """
        while self._untold:
            batch = dict(list(self._untold.items())[:BATCH])
            due: defaultdict[int, dict[GrantId, int]] = defaultdict(dict)
            struck: defaultdict[int, list[GrantId]] = defaultdict(list)
            for grant, at_ms in batch.items():
                if at_ms is None:
                    struck[shard_of(grant)].append(grant)
                else:
                    due[shard_of(grant)][grant] = at_ms
            for shard, instants in due.items():
                await self._agenda.schedule(shard, instants)
                self._told(instants)
            for shard, grants in struck.items():
                await self._agenda.unschedule(shard, grants)
                self._told(dict.fromkeys(grants))

    def _told(self, told: dict[GrantId, int] | dict[GrantId, None]) -> None:
        """Let go of what the store took, unless it was changed meanwhile."""
        for grant, at_ms in told.items():
            if grant in self._untold and self._untold[grant] == at_ms:
                del self._untold[grant]

"""Tells the fleet which grants are in use: rarely, in batches, and never while a request waits.

Only a schedule that tells used grants from idle ones needs it. Belongs to the loop that serves
requests; what it has not told when the process dies is told again with the next use.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Final, final

from sidecar.domain.policy import RefreshAhead
from sidecar.domain.record import GrantId
from sidecar.domain.scheduling import Schedule, shard_of
from sidecar.ports import Agenda, Clock, StoreUnavailable
from sidecar.service.store_clock import StoreClock
from sidecar.service.store_watch import StoreWatch
from sidecar.service.token_cache import CachedToken

BATCH: Final = 500


@final
class UseLog:
    """Uses that the store has not been told yet, with the instant at which each grant is due."""

    def __init__(
        self,
        *,
        agenda: Agenda,
        rules: Schedule,
        watch: StoreWatch,
        clock: Clock,
        store_clock: StoreClock,
    ) -> None:
        self._agenda = agenda
        self._rules = rules
        self._watch = watch
        self._clock = clock
        self._store_clock = store_clock
        self._is_needed = rules.policy.ahead is RefreshAhead.ACTIVE
        self._told_of = watch.incarnations
        self._forgotten_until_s = 0.0
        self._untold: dict[GrantId, tuple[int, int]] = {}

    def note(self, token: CachedToken) -> None:
        """Take note of a use, unless one was told not long ago; costs no call of the store."""
        now_s = self._clock.elapsed_s()
        if self._is_needed and token.use_told_until_s < max(now_s, self._forgotten_until_s):
            token.use_told_until_s = now_s + self._rules.tell_use_every_s
            now_ms = self._store_clock.now_ms()
            # A grant that is due by now may have been taken just before: leave it to its taker.
            due_ms = max(token.refresh_at_ms, now_ms + int(self._rules.times.lease_s * 1000))
            self._untold[token.found.grant] = (now_ms, due_ms)

    async def run(self) -> None:
        """Tell the store, every so often, until cancelled."""
        while True:
            await asyncio.sleep(self._rules.times.use_flush_s)
            if self._told_of != self._watch.incarnations:
                # The store may have lost what it was told: with its next use a grant is told anew.
                self._told_of = self._watch.incarnations
                told_s = self._clock.elapsed_s()
                self._forgotten_until_s = told_s + self._rules.tell_use_every_s
            await self.tell()

    async def tell(self) -> None:
        """Tell the store what was noted; while it is away, that stays noted."""
        try:
            while self._untold:
                await self._tell(dict(list(self._untold.items())[:BATCH]))
        except StoreUnavailable:
            return

    async def _tell(self, batch: dict[GrantId, tuple[int, int]]) -> None:
        uses: defaultdict[int, dict[GrantId, int]] = defaultdict(dict)
        due: defaultdict[int, dict[GrantId, int]] = defaultdict(dict)
        for grant, (used_ms, due_ms) in batch.items():
            uses[shard_of(grant)][grant] = used_ms
            due[shard_of(grant)][grant] = due_ms
        for shard in uses:
            await self._agenda.note_uses(shard, uses[shard])
            # An idle grant has no instant, or one that is far away.
            await self._agenda.schedule(shard, due[shard], only_sooner=True)
            for grant in uses[shard]:
                if self._untold.get(grant) == batch[grant]:
                    del self._untold[grant]

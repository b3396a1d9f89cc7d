"""Counts the fleet's grants by state: one sidecar at a time does, the others show nothing.

Whoever takes the canary counts until it is taken anew; if that sidecar dies, another one takes it
when its time is over. It reads records and opens none.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final, final

from sidecar.domain.events import GrantsCounted
from sidecar.ports import StoreUnavailable
from sidecar.service.serving_parts import ServingParts

CANARY: Final = "census"
PAGE: Final = 500


@final
class Census:
    """The fleet-wide gauge of grants, seen from one sidecar."""

    def __init__(self, *, parts: ServingParts) -> None:
        self._parts = parts
        self._elected_until_s = 0.0

    async def run(self) -> None:
        """Count whenever it is this sidecar's turn, until cancelled."""
        while True:
            await self.tick()
            await asyncio.sleep(self._parts.times.sweep_poll_s)

    async def tick(self) -> None:
        """Stand for election if the last one is over; count if elected."""
        now_s = self._parts.clock.elapsed_s()
        if now_s < self._elected_until_s:
            return
        every_s = self._parts.times.sweep_every_s
        try:
            if not await self._parts.store.take_canary(CANARY, int(every_s * 1000)):
                self._parts.observer.observe(GrantsCounted(is_ours=False))
                return
            self._elected_until_s = now_s + every_s
            self._parts.observer.observe(await self._count())
        except StoreUnavailable:
            self._elected_until_s = 0.0
            self._parts.observer.observe(GrantsCounted(is_ours=False))

    async def _count(self) -> GrantsCounted:
        counted: Counter[str] = Counter()
        cursor = ""
        while True:
            cursor, page = await self._parts.store.scan(cursor, PAGE)
            counted.update(record.state.public for _, record in page)
            if not cursor:
                return GrantsCounted(is_ours=True, **counted)

"""Watches the store: is it there, what time is it there, is it still the same incarnation.

Everybody else asks this watch instead of finding out by a time-out of his own.
"""

from __future__ import annotations

from typing import final

from sidecar.domain.events import StoreLost, StoreReincarnated, StoreRestored
from sidecar.domain.record import RunId
from sidecar.ports import Clock, Observer, StoreUnavailable, TokenStore
from sidecar.service.store_clock import StoreClock


@final
class StoreWatch:
    """The state of the store as of the last probe; its properties may be read from any thread."""

    def __init__(
        self, *, store: TokenStore, store_clock: StoreClock, clock: Clock, observer: Observer
    ) -> None:
        self._store = store
        self._store_clock = store_clock
        self._clock = clock
        self._observer = observer
        self._is_up: bool | None = None
        self._lost_at_s = clock.elapsed_s()
        self._incarnations: frozenset[RunId] = frozenset()
        self._met: frozenset[RunId] = frozenset()
        self._seen: frozenset[RunId] = frozenset()

    @property
    def is_up(self) -> bool:
        """Whether the last probe was answered."""
        return self._is_up is True

    @property
    def incarnations(self) -> frozenset[RunId]:
        """Those of the servers that answered the last probe; none before the first answer."""
        return self._incarnations

    async def probe(self) -> bool:
        """Ask the store; return whether one of its servers is in an incarnation not met before."""
        asked_at_s = self._clock.elapsed_s()
        try:
            pulse = await self._store.probe()
        except StoreUnavailable as error:
            if self._is_up is not False:
                self._lost_at_s = asked_at_s
                self._observer.observe(StoreLost(error=str(error)))
            self._is_up = False
            return False
        answered_at_s = self._clock.elapsed_s()
        self._store_clock.adjust(
            asked_at_s=asked_at_s, answered_at_s=answered_at_s, store_ms=pulse.now_ms
        )
        if self._is_up is not True:
            self._observer.observe(StoreRestored(away_s=answered_at_s - self._lost_at_s))
        self._is_up = True
        self._incarnations = pulse.run_ids
        is_other = bool(self._seen) and not pulse.run_ids <= self._seen
        self._seen |= pulse.run_ids
        if is_other:  # whether or not it can be announced now
            self._observer.observe(StoreReincarnated())
        await self._meet(pulse.run_ids - self._met)
        return is_other

    async def _meet(self, unmet: frozenset[RunId]) -> None:
        """Announce incarnations that were never met here; what fails is done at the next probe."""
        for run_id in unmet:
            try:
                await self._store.meet(run_id)
            except StoreUnavailable:
                return
        self._met |= unmet

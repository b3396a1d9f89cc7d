"""Watches the store: is it there, for every call, at what time, and in the same incarnation.

Everybody else asks this watch instead of finding out by a time-out of his own.
"""

from __future__ import annotations

from typing import final

from sidecar.domain.events import (
    StoreEased,
    StoreLost,
    StoreReincarnated,
    StoreRestored,
    StoreStrained,
)
from sidecar.domain.record import RunId
from sidecar.domain.store_trouble import TROUBLE_HINTS, StoreTrouble, strain_of
from sidecar.ports import Clock, Observer, StoreUnavailable, TokenStore
from sidecar.service.store_clock import StoreClock
from sidecar.service.store_troubles import StoreTroubles


@final
class StoreWatch:
    """The state of the store as of the last probe; its properties may be read from any thread."""

    def __init__(
        self,
        *,
        store: TokenStore,
        store_clock: StoreClock,
        clock: Clock,
        observer: Observer,
        troubles: StoreTroubles,
    ) -> None:
        self._store = store
        self._store_clock = store_clock
        self._clock = clock
        self._observer = observer
        self._troubles = troubles
        self._is_up: bool | None = None
        self._trouble: StoreTrouble | None = None
        self._strained_at_s = 0.0
        self._lost_at_s = clock.elapsed_s()
        self._incarnations: frozenset[RunId] = frozenset()
        self._met: frozenset[RunId] = frozenset()
        self._seen: frozenset[RunId] = frozenset()

    @property
    def is_up(self) -> bool:
        """Whether the last probe was answered."""
        return self._is_up is True

    @property
    def trouble(self) -> StoreTrouble | None:
        """Why the last probe failed, or why other calls do though it was answered."""
        return self._trouble

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
            self._lose(error, asked_at_s=asked_at_s)
            return False
        answered_at_s = self._clock.elapsed_s()
        self._store_clock.adjust(
            asked_at_s=asked_at_s, answered_at_s=answered_at_s, store_ms=pulse.now_ms
        )
        if self._is_up is not True:
            self._troubles.forget()
            self._trouble = None
            self._observer.observe(StoreRestored(away_s=answered_at_s - self._lost_at_s))
        self._is_up = True
        self._judge(now_s=answered_at_s)
        self._incarnations = pulse.run_ids
        is_other = bool(self._seen) and not pulse.run_ids <= self._seen
        self._seen |= pulse.run_ids
        if is_other:  # whether or not it can be announced now
            self._observer.observe(StoreReincarnated())
        await self._meet(pulse.run_ids - self._met)
        return is_other

    def _lose(self, error: StoreUnavailable, *, asked_at_s: float) -> None:
        if self._is_up is not False:
            self._lost_at_s = asked_at_s
            self._observer.observe(
                StoreLost(cause=error.cause, hint=TROUBLE_HINTS[error.cause], error=str(error))
            )
        self._is_up = False
        self._trouble = error.cause

    def _judge(self, *, now_s: float) -> None:
        """Tell when calls fail though probes are answered, and when they do no more."""
        recent = self._troubles.recent()
        strain = strain_of(recent)
        if strain is not None and self._trouble is None:
            self._strained_at_s = now_s
            self._observer.observe(StoreStrained(cause=strain, hint=TROUBLE_HINTS[strain]))
        if strain is None and self._trouble is not None:
            self._observer.observe(StoreEased(strained_s=now_s - self._strained_at_s))
        self._trouble = strain

    async def _meet(self, unmet: frozenset[RunId]) -> None:
        """Announce incarnations that were never met here; what fails is done at the next probe."""
        for run_id in unmet:
            try:
                await self._store.meet(run_id)
            except StoreUnavailable:
                return
        self._met |= unmet

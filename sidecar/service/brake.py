"""The mass-death brake: nobody is sent to consent again while it looks as if everybody must be.

It counts what Akoya decides of this sidecar's refreshes, and has every settlement reserved first,
so that the fleet together never settles more than the limit. Whoever claims or settles asks it;
what it holds back stays in doubt until a person lets it go. What a release lets go is on trial, by
the names of its grants, in the store: so the fleet together lets no more go than were asked for.
"""

from __future__ import annotations

from typing import Final, final

from sidecar.domain import brake_trial
from sidecar.domain.record import GrantId
from sidecar.domain.throttle import (
    CountDecided,
    Look,
    PullBrake,
    ReleaseAll,
    ReleaseBrake,
    ReserveSettlement,
    Throttle,
    settlement_limit,
)
from sidecar.ports import StoreUnavailable, TokenStore
from sidecar.service.fleet_throttle import FleetThrottle
from sidecar.service.store_clock import StoreClock

WINDOW_MS: Final = 600_000
"""Settlements are limited within any ten minutes."""
HELD_S: Final = 30.0
"""When to ask again whoever is held back; a person decides when it helps."""


@final
class Brake:
    """One sidecar's hand on the fleet's brake."""

    def __init__(
        self,
        *,
        throttle: FleetThrottle,
        store: TokenStore,
        store_clock: StoreClock,
        limit: int | None,
    ) -> None:
        self._throttle = throttle
        self._store = store
        self._store_clock = store_clock
        self._limit = limit
        self._decided = 0
        self._denied = 0
        self._paired: dict[GrantId, None] = {}
        self._refused: dict[GrantId, None] = {}

    @property
    def is_on(self) -> bool:
        """Whether claims and settlements stop."""
        return self._throttle.seen.is_braked

    async def lets_settle(self, grant: GrantId) -> bool:
        """Return whether a doubt may be settled; one too many pulls the brake.

        Raises:
            StoreUnavailable: Nothing is known; ask again.
        """
        if self.is_on:
            return False
        throttle, is_granted = await self._throttle.answer(ReserveSettlement(grant=grant))
        if is_granted or throttle.is_braked:
            return is_granted
        most = settlement_limit(
            chosen=self._limit, throttle=throttle, now_ms=self._store_clock.now_ms()
        )
        if await self._store.reserve_settlement(grant, window_ms=WINDOW_MS, most=most):
            return True
        await self._throttle.take(PullBrake())
        return False

    def note_pair(self, grant: GrantId) -> None:
        """Take note of a refresh that brought a pair; the fleet hears of it with the next look."""
        self._decided += 1
        self._note(self._paired, grant)

    async def note_denial(self, grant: GrantId) -> None:
        """Take note of a refresh that was denied, and tell the fleet at once."""
        self._note(self._refused, grant)
        self._decided += 1
        self._denied += 1
        try:
            await self.look()
        except StoreUnavailable:
            return  # counted here; told with the next look

    async def look(self) -> Throttle:
        """Tell the fleet what was decided here, and return what holds it back now.

        Raises:
            StoreUnavailable: What was counted is kept.
        """
        if not self._decided:
            throttle, _ = await self._throttle.answer(Look())
            return throttle
        paired, refused = self._paired, self._refused
        count = CountDecided(
            decided=self._decided,
            denied=self._denied,
            paired=tuple(paired),
            refused=tuple(refused),
        )
        self._decided = self._denied = 0
        self._paired, self._refused = {}, {}
        try:
            throttle, _ = await self._throttle.answer(count)
        except StoreUnavailable:
            self._decided += count.decided
            self._denied += count.denied
            self._paired = paired | self._paired
            self._refused = refused | self._refused
            raise
        return throttle

    async def release(self, *, limit: int = brake_trial.USUAL_LIMIT) -> None:
        """Let so many grants go; if more than half of them are denied, the brake is pulled again.

        Raises:
            StoreUnavailable: They may have been let go; ask again.
        """
        await self._throttle.take(ReleaseBrake(limit=limit))

    async def release_all(self) -> None:
        """Let all go: what Akoya says is believed for an hour.

        Raises:
            StoreUnavailable: They may have been let go; ask again.
        """
        await self._throttle.take(ReleaseAll())

    def _note(self, decided: dict[GrantId, None], grant: GrantId) -> None:
        """Keep the name of a grant where a trial must know it; no trial is larger than this."""
        is_asked_for = self._throttle.seen.trial is not None and not self.is_on
        if is_asked_for and len(decided) < brake_trial.MOST_LIMIT:
            decided[grant] = None

"""The mass-death brake: nobody is sent to consent again while it looks as if everybody must be.

It counts what Akoya decides of this sidecar's refreshes, and has every settlement reserved first,
so that the fleet together never settles more than the limit. Whoever claims or settles asks it;
what it holds back stays in doubt until a person lets it go.
"""

from __future__ import annotations

from typing import Final, final

from sidecar.domain.record import GrantId
from sidecar.domain.throttle import (
    CountDecided,
    Look,
    PullBrake,
    ReleaseBrake,
    settlement_limit,
)
from sidecar.ports import StoreUnavailable, TokenStore
from sidecar.service.fleet_throttle import FleetThrottle
from sidecar.service.store_clock import StoreClock

WINDOW_MS: Final = 600_000
"""Settlements are limited within any ten minutes."""
FREE_MS: Final = 3_600_000
"""After a release nothing pulls the brake for an hour: longer than what is claimed then needs to
be denied, healed in vain and settled."""
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
        most = settlement_limit(
            chosen=self._limit, throttle=self._throttle.seen, now_ms=self._store_clock.now_ms()
        )
        if await self._store.reserve_settlement(grant, window_ms=WINDOW_MS, most=most):
            return True
        await self._throttle.take(PullBrake())
        return False

    def note_pair(self) -> None:
        """Take note of a refresh that brought a pair; the fleet hears of it with the next look."""
        self._decided += 1

    async def note_denial(self) -> None:
        """Take note of a refresh that was denied, and tell the fleet at once."""
        self._decided += 1
        self._denied += 1
        try:
            await self.look()
        except StoreUnavailable:
            return  # counted here; told with the next look

    async def look(self) -> None:
        """Tell the fleet what was decided here, and see what holds it back.

        Raises:
            StoreUnavailable: What was counted is kept.
        """
        if not self._decided:
            await self._throttle.take(Look())
            return
        count = CountDecided(decided=self._decided, denied=self._denied)
        self._decided = self._denied = 0
        try:
            await self._throttle.take(count)
        except StoreUnavailable:
            self._decided += count.decided
            self._denied += count.denied
            raise

    async def release(self) -> None:
        """Let the brake go.

        Raises:
            StoreUnavailable: It may have been let go; ask again.
        """
        await self._throttle.take(ReleaseBrake(free_ms=FREE_MS))

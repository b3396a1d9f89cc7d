"""Opens and ends the cool-downs that keep a 401 which no token can heal from rotating for ever.

It runs in the claim lane, the only part of the sidecar that changes records.
"""

from __future__ import annotations

from typing import final

from sidecar.domain.commands import CoolDown, Cooling, EndCoolDown
from sidecar.domain.events import GrantCooled
from sidecar.domain.record import ConsentId, GrantId
from sidecar.ports import StoreUnavailable
from sidecar.service.claim_parts import ClaimParts


@final
class Cooler:
    """Keeps the cool-down of a grant in its record, so that the whole fleet honours it."""

    def __init__(self, *, parts: ClaimParts) -> None:
        self._parts = parts

    async def cool(self, grant: GrantId, consent_id: ConsentId, product: str) -> None:
        """Open a cool-down, twice as long as the one before; if the store is away, none opens."""
        command = CoolDown(
            consent_id=consent_id,
            product=product,
            base_ms=int(self._parts.times.cool_first_s * 1000),
            limit_ms=int(self._parts.times.cool_limit_s * 1000),
        )
        try:
            verdict = await self._parts.store.apply(grant, command)
        except StoreUnavailable:
            return
        if isinstance(verdict, Cooling):
            self._parts.observer.observe(
                GrantCooled(
                    grant=grant,
                    product=product,
                    cool_for_s=self._parts.store_clock.wait_s(verdict.until_ms),
                )
            )

    async def end(self, grant: GrantId, consent_id: ConsentId, product: str) -> None:
        """End the cool-down that `product` opened; if the store is away, the next 2xx will."""
        try:
            await self._parts.store.apply(
                grant, EndCoolDown(consent_id=consent_id, product=product)
            )
        except StoreUnavailable:
            return

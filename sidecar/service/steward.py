"""Carries out what the grants API wants changed, in the claim lane: only there records change.

Exchanges, imports and revocations are others' work; it puts their ends into the feed, marks grants
as dead on a client's word, and erases what was revoked long enough ago. It knows no HTTP and waits
for no client.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, assert_never, final

from sidecar.domain.commands import (
    Dead,
    Invalidate,
    Invalidated,
    Missing,
    NotPurged,
    Purge,
    Purged,
)
from sidecar.domain.events import GrantInvalidated, GrantPurged
from sidecar.domain.outcomes import (
    ConsentSuperseded,
    GrantGone,
    ImportOutcome,
    Obstacle,
    ObtainOutcome,
    Postponed,
    RevocationDone,
    RevocationKept,
    RevokeOutcome,
    Stored,
)
from sidecar.domain.record import GrantId, GrantKey, GrantRecord, GrantState, LastError
from sidecar.domain.secret import Secret
from sidecar.domain.spooled import PairForgotten
from sidecar.ports import StoreUnavailable
from sidecar.service.brake_desk import BrakeDesk
from sidecar.service.claim_parts import ClaimParts
from sidecar.service.obtainer import Import, Obtainer
from sidecar.service.revoker import Revoker

INVALIDATED: Final = "invalidated"
"""Operation and reason of a grant that a client declared dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invalidation:
    """The grant is dead now, or was before; its record as it stands."""

    record: GrantRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """Nothing of the grant is left in the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgeTooEarly:
    """The grant is revoked, but its record must stand for a while yet.

    Attributes:
        wait_s: How long until it can be erased.
    """

    record: GrantRecord
    wait_s: float


InvalidateOutcome = Invalidation | GrantGone | Postponed
PurgeOutcome = Erased | PurgeTooEarly | RevocationKept | GrantGone | ConsentSuperseded | Postponed

_STORE_AWAY: Final = Postponed(obstacle=Obstacle.STORE_AWAY, retry_in_s=1.0)


@final
class Steward:
    """The lane's side of the grants API.

    Attributes:
        brake: What a person asks of the fleet's brake.
    """

    def __init__(self, *, parts: ClaimParts, obtainer: Obtainer, revoker: Revoker) -> None:
        self._parts = parts
        self._obtainer = obtainer
        self._revoker = revoker
        self.brake = BrakeDesk(parts=parts)

    async def obtain(self, key: GrantKey, code: Secret, *, redirect_uri: str) -> ObtainOutcome:
        """Exchange an authorization code."""
        outcome = await self._obtainer.obtain(key, code, redirect_uri=redirect_uri)
        if isinstance(outcome, Stored):
            await self._tell(self._parts.vault.grant_id(key), GrantState.ACTIVE, "")
        return outcome

    async def take_over(self, order: Import) -> ImportOutcome:
        """Store tokens that were obtained elsewhere."""
        outcome = await self._obtainer.take_over(order)
        if isinstance(outcome, Stored):
            await self._tell(self._parts.vault.grant_id(order.key), GrantState.ACTIVE, "")
        return outcome

    async def revoke(self, key: GrantKey) -> RevokeOutcome:
        """Order the revocation of a grant and try at once."""
        return await self._revoker.revoke(key)

    async def invalidate(self, key: GrantKey) -> InvalidateOutcome:
        """Take a client's word that the consent is gone; Akoya is not asked.

        A claim in flight may still bring a newer pair, which makes the grant active again: then the
        word was wrong, or Akoya will say so at the next refresh.
        """
        grant = self._parts.vault.grant_id(key)
        error = LastError(operation=INVALIDATED, reason=INVALIDATED, at_ms=0)
        try:
            verdict = await self._parts.store.apply(grant, Invalidate(error=error))
            record = await self._parts.store.read(grant)
        except StoreUnavailable:
            return _STORE_AWAY
        if isinstance(verdict, Missing) or record is None:
            return GrantGone(state=None)
        match verdict:
            case Invalidated():
                self._parts.observer.observe(GrantInvalidated(grant=grant))
                await self._tell(grant, GrantState.REAUTH_REQUIRED, INVALIDATED)
            case Dead():
                pass  # what was wanted is the case already, and was told then
            case _:
                assert_never(verdict)
        return Invalidation(record=record)

    async def purge(self, key: GrantKey) -> PurgeOutcome:
        """Revoke the grant if it is not, and erase its record if it was revoked long enough ago."""
        outcome = await self._revoker.revoke(key)
        if not isinstance(outcome, RevocationDone):
            return outcome
        try:
            return await self._erase(self._parts.vault.grant_id(key))
        except StoreUnavailable:
            return _STORE_AWAY

    async def _erase(self, grant: GrantId) -> PurgeOutcome:
        record = await self._parts.store.read(grant)
        if record is None:
            return Erased()
        if record.state is not GrantState.REVOKED:
            return ConsentSuperseded()
        # First the copy in the spool: a replay would bring the erased record back.
        forgotten = PairForgotten(grant=grant, position=record.position)
        if not self._parts.journal.keep(forgotten):
            return Postponed(obstacle=Obstacle.SPOOL_AWAY, retry_in_s=1.0)
        min_age_ms = int(self._parts.times.purge_after_s * 1000)
        verdict = await self._parts.store.apply(grant, Purge(min_age_ms=min_age_ms))
        match verdict:
            case Purged():
                self._parts.observer.observe(GrantPurged(grant=grant))
                return Erased()
            case Missing():
                return Erased()
            case NotPurged(state=GrantState.REVOKED):
                return PurgeTooEarly(record=record, wait_s=verdict.wait_ms / 1000)
            case NotPurged():
                return ConsentSuperseded()
            case _:
                assert_never(verdict)

    async def _tell(self, grant: GrantId, state: GrantState, reason: str) -> None:
        """Put a change into the feed; the record itself is the truth if the store is away now."""
        try:
            await self._parts.store.tell(grant, state, reason)
        except StoreUnavailable:
            return

"""First pairs: made of tokens, kept on the disk, stored, and handed to whoever waits.

It must not know how a pair was obtained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from sidecar.domain.bounds import FUTURE_MAX_S
from sidecar.domain.commands import Committed, Duplicate
from sidecar.domain.events import TokenObtained
from sidecar.domain.outcomes import ConsentSuperseded, Stored
from sidecar.domain.record import Consent, ConsentId, GrantKey, GrantRecord
from sidecar.domain.spooled import PairReceived
from sidecar.domain.tokens import TokenPair
from sidecar.ports import SealError
from sidecar.service import faults
from sidecar.service.claim_parts import ClaimParts
from sidecar.service.vault import PairPlace


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """A first pair, sealed and in the clear; `is_durable`: it is on the disk."""

    received: PairReceived
    tokens: TokenPair
    is_durable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A first pair, whose it is, and the record that it replaces."""

    key: GrantKey
    former: GrantRecord | None
    brought: Brought
    is_import: bool

    @property
    def stored(self) -> Stored:
        """What whoever waits is told when the pair is kept."""
        brought, is_new = self.brought, self.former is None
        return Stored(pair=brought.received.pair, tokens=brought.tokens, is_new=is_new)


@dataclass(frozen=True, slots=True, kw_only=True)
class Newcomer:
    """Whose consent is new, what it replaces, and when its pair was asked for (store clock)."""

    key: GrantKey
    former: GrantRecord | None
    consent_id: ConsentId
    consented_at_ms: int | None
    asked_at_ms: int


@final
class Arrivals:
    """Stores first pairs."""

    def __init__(self, *, parts: ClaimParts) -> None:
        self._parts = parts

    async def store(self, arrival: Arrival) -> Stored | ConsentSuperseded:
        """Store the pair and tell who obtained it."""
        verdict = await self._parts.committer.commit(arrival.brought.received, is_live=True)
        if not isinstance(verdict, Committed | Duplicate):
            return ConsentSuperseded()
        try:
            await self._tell(arrival)
        except Exception as error:  # noqa: BLE001 - reported; the pair is stored, and that is the answer
            faults.report(self._parts.observer, where="arrival", error=error)
        return arrival.stored

    async def _tell(self, arrival: Arrival) -> None:
        if not arrival.is_import:
            await self._parts.restraints.gate.learn(None)
        self._parts.observer.observe(
            TokenObtained(
                grant=arrival.brought.received.grant,
                provider=arrival.key.provider,
                is_import=arrival.is_import,
                is_other_subject=self._is_other_subject(arrival),
            )
        )

    def _is_other_subject(self, arrival: Arrival) -> bool:
        """Whether the end user logged in at the bank as somebody else than before."""
        former, subject = arrival.former, arrival.brought.tokens.subject
        if former is None or not former.pair.sealed_pair:
            return False
        try:
            before = self._parts.vault.open_pair(arrival.brought.received.grant, former.pair)
        except SealError:
            return False
        return bool(before.subject and subject and before.subject != subject)


def first_pair(parts: ClaimParts, newcomer: Newcomer, tokens: TokenPair) -> PairReceived:
    """Return the sealed first pair of a consent that counts as later than the one it replaces."""
    grant = parts.vault.grant_id(newcomer.key)
    now_ms = parts.store_clock.now_ms()
    # One from the future would outrank every import until then.
    told_ms = newcomer.consented_at_ms or tokens.issued_at_s * 1000 or now_ms
    wanted_ms = min(told_ms, now_ms + FUTURE_MAX_S * 1000)
    former = newcomer.former
    after_former_ms = 0 if former is None else former.pair.consent.consented_at_ms + 1
    pair = parts.vault.seal_pair(
        tokens,
        place=PairPlace(
            grant=grant,
            sealed_key=parts.vault.seal_key(grant, newcomer.key),
            consent=Consent(
                id=newcomer.consent_id, consented_at_ms=max(wanted_ms, after_former_ms)
            ),
            generation=0,
        ),
        asked_at_ms=newcomer.asked_at_ms,
    )
    return PairReceived(grant=grant, claim_id=None, pair=pair)

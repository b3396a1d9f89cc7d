"""Turns pairs of tokens into what may be stored, and back.

The only place that knows which envelope is bound to what. It knows nothing of stores, spools or
states.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast, final

from sidecar.domain.connecting import ConnectOrder
from sidecar.domain.record import ClaimId, Consent, GrantId, GrantKey, Position, StoredPair
from sidecar.domain.sealing import KeyName, SealContext
from sidecar.domain.secret import Secret
from sidecar.domain.spooled import AnswerReceived
from sidecar.domain.tokens import TokenPair
from sidecar.ports import Sealer, SealError


@dataclass(frozen=True, slots=True, kw_only=True)
class PairPlace:
    """Where a pair belongs: the grant, its consent and the generation."""

    grant: GrantId
    sealed_key: bytes
    consent: Consent
    generation: int

    @property
    def position(self) -> Position:
        """The consent and generation of the place."""
        return Position(consent_id=self.consent.id, generation=self.generation)


@final
class Vault:
    """Seals and opens pairs, keys of grants, raw answers and orders to connect a bank."""

    def __init__(self, *, sealer: Sealer) -> None:
        self._sealer = sealer

    def grant_id(self, key: GrantKey) -> GrantId:
        """Return the keyed hash that names the grant of `key`."""
        return self._sealer.grant_id(key)

    def fingerprint(self, refresh_token: Secret) -> str:
        """Return the keyed fingerprint of a refresh token; never to be logged."""
        return self._sealer.fingerprint(refresh_token)

    def proofs(self) -> Mapping[KeyName, str]:
        """Return a one-way proof of each key; see `Sealer.proofs`."""
        return self._sealer.proofs()

    def seal_key(self, grant: GrantId, key: GrantKey) -> bytes:
        """Return the envelope of (user, provider)."""
        plain = json.dumps([key.user, key.provider]).encode()
        return self._sealer.seal(plain, context=SealContext(purpose="key", grant=grant))

    def open_key(self, grant: GrantId, sealed_key: bytes) -> GrantKey:
        """Return who the grant belongs to.

        Raises:
            SealError: See `Sealer.open`.
        """
        plain = self._sealer.open(sealed_key, context=SealContext(purpose="key", grant=grant))
        user, provider = cast("list[str]", json.loads(plain))
        return GrantKey(user=user, provider=provider)

    def seal_pair(
        self, tokens: TokenPair, *, place: PairPlace, asked_at_ms: int | None
    ) -> StoredPair:
        """Return the pair as it may lie in the store and in the spool.

        Args:
            tokens: The pair; its life and its age count from `asked_at_ms`.
            place: Where it belongs.
            asked_at_ms: When the pair was asked for (store clock), never when its answer was read,
                which may be much later; ``None``: unknown, so its id_token is not trusted.
        """
        expires_at_ms, aged_from_ms = 0, 0
        if asked_at_ms is not None:
            expires_at_ms = asked_at_ms + tokens.life_s * 1000
            aged_from_ms = asked_at_ms - tokens.age_s * 1000
        plain = json.dumps(
            {
                "id_token": None if tokens.id_token is None else tokens.id_token.reveal(),
                "refresh_token": tokens.refresh_token.reveal(),
                "subject": tokens.subject,
                "akoya_grant_id": tokens.akoya_grant_id,
                "aged_from_ms": aged_from_ms,
            }
        ).encode()
        return StoredPair(
            consent=place.consent,
            generation=place.generation,
            fingerprint=self._sealer.fingerprint(tokens.refresh_token),
            sealed_pair=self._sealer.seal(
                plain, context=_pair_context(place.grant, place.position)
            ),
            sealed_key=place.sealed_key,
            expires_at_ms=expires_at_ms,
            issued_at_s=tokens.issued_at_s,
        )

    def open_pair(self, grant: GrantId, pair: StoredPair) -> TokenPair:
        """Return the tokens in the clear; their life is in `pair`, not in the result.

        Raises:
            SealError: The envelope cannot be opened here, or holds another refresh token than its
                fingerprint says.
        """
        fields = cast("Mapping[str, str | None]", self._opened(grant, pair))
        id_token = fields["id_token"]
        refresh_token = Secret(fields["refresh_token"] or "")
        if self._sealer.fingerprint(refresh_token) != pair.fingerprint:
            raise SealError("")
        return TokenPair(
            id_token=None if id_token is None else Secret(id_token),
            refresh_token=refresh_token,
            life_s=0,
            issued_at_s=pair.issued_at_s,
            subject=fields["subject"] or "",
            akoya_grant_id=fields["akoya_grant_id"] or "",
        )

    def aged_from_ms(self, grant: GrantId, pair: StoredPair) -> int:
        """Return from when the age of the id_token counts (store clock); 0: nobody noted it.

        Raises:
            SealError: See `Sealer.open`.
        """
        aged_from_ms = self._opened(grant, pair).get("aged_from_ms")
        return aged_from_ms if isinstance(aged_from_ms, int) else 0

    def _opened(self, grant: GrantId, pair: StoredPair) -> Mapping[str, object]:
        plain = self._sealer.open(pair.sealed_pair, context=_pair_context(grant, pair.position))
        return cast("dict[str, object]", json.loads(plain))

    def is_current(self, pair: StoredPair) -> bool:
        """Whether everything of the pair that is sealed was sealed with the first key."""
        sealed = (pair.sealed_pair, pair.sealed_key)
        return all(self._sealer.is_current(envelope) for envelope in sealed if envelope)

    def reseal_pair(self, grant: GrantId, pair: StoredPair) -> StoredPair:
        """Return the very same pair, sealed with the first key.

        Raises:
            SealError: See `Sealer.open`.
        """
        key_context = SealContext(purpose="key", grant=grant)
        return replace(
            pair,
            sealed_pair=self._reseal(pair.sealed_pair, _pair_context(grant, pair.position)),
            sealed_key=self._reseal(pair.sealed_key, key_context),
        )

    def reseal_answer(self, answer: AnswerReceived) -> AnswerReceived:
        """Return the very same answer, sealed with the first key.

        Raises:
            SealError: See `Sealer.open`.
        """
        key_context = SealContext(purpose="key", grant=answer.grant)
        context = _answer_context(answer.grant, answer.claim_id, answer.position)
        return replace(
            answer,
            sealed_answer=self._reseal(answer.sealed_answer, context),
            sealed_key=self._reseal(answer.sealed_key, key_context),
        )

    def is_current_answer(self, answer: AnswerReceived) -> bool:
        """Whether everything of the answer that is sealed was sealed with the first key."""
        sealed = (answer.sealed_answer, answer.sealed_key)
        return all(self._sealer.is_current(envelope) for envelope in sealed if envelope)

    def _reseal(self, envelope: bytes, context: SealContext) -> bytes:
        """Open and seal again; nothing stays nothing (a tombstone has no tokens)."""
        if not envelope or self._sealer.is_current(envelope):
            return envelope
        return self._sealer.seal(self._sealer.open(envelope, context=context), context=context)

    def seal_answer(
        self, body: bytes, *, grant: GrantId, claim_id: ClaimId, position: Position
    ) -> bytes:
        """Return the envelope of a raw answer to a claim of `position`."""
        return self._sealer.seal(body, context=_answer_context(grant, claim_id, position))

    def open_answer(
        self, sealed_answer: bytes, *, grant: GrantId, claim_id: ClaimId, position: Position
    ) -> bytes:
        """Return the raw answer.

        Raises:
            SealError: See `Sealer.open`.
        """
        return self._sealer.open(sealed_answer, context=_answer_context(grant, claim_id, position))

    def seal_order(self, name: str, order: ConnectOrder) -> bytes:
        """Return the envelope of an order, bound to the name of its deposit."""
        plain = json.dumps([order.key.user, order.key.provider, order.return_to, order.account])
        return self._sealer.seal(plain.encode(), context=_order_context(name))

    def open_order(self, name: str, envelope: bytes) -> ConnectOrder:
        """Return the order.

        Raises:
            SealError: See `Sealer.open`.
        """
        plain = self._sealer.open(envelope, context=_order_context(name))
        user, provider, return_to, account = cast("list[str]", json.loads(plain))
        key = GrantKey(user=user, provider=provider)
        return ConnectOrder(key=key, return_to=return_to, account=account)


def _order_context(name: str) -> SealContext:
    return SealContext(purpose="order", grant=GrantId(name))


def _pair_context(grant: GrantId, position: Position) -> SealContext:
    return SealContext(
        purpose="pair",
        grant=grant,
        consent_id=position.consent_id,
        generation=position.generation,
    )


def _answer_context(grant: GrantId, claim_id: ClaimId, position: Position) -> SealContext:
    return SealContext(
        purpose="answer",
        grant=grant,
        consent_id=position.consent_id,
        generation=position.generation,
        claim_id=claim_id,
    )

"""New consents: the exchange of an authorization code, and tokens obtained elsewhere.

A consent's epoch is the ``iat`` of its first id_token, and always later than that of the consent it
was seen to replace; so two consents in one second keep their order. The pair is on disk before the
store or the caller hears of it, like that of a refresh.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from sidecar.domain.bounds import FUTURE_MAX_S
from sidecar.domain.commands import Committed, CommitVerdict, Duplicate
from sidecar.domain.events import (
    Outcome,
    TokenObtained,
    TokenRequestEnded,
    TokenRequestFailed,
)
from sidecar.domain.failure import DISPOSITIONS, FailureReason, Operation
from sidecar.domain.outcomes import (
    ConsentSuperseded,
    ExchangeFailed,
    GrantExists,
    ImportOutcome,
    Obstacle,
    ObtainOutcome,
    Postponed,
    Stored,
    Unchanged,
)
from sidecar.domain.record import (
    Consent,
    ConsentId,
    GrantKey,
    GrantRecord,
    GrantState,
)
from sidecar.domain.secret import Secret
from sidecar.domain.spooled import PairReceived
from sidecar.domain.token_wire import PairRead, read_reply
from sidecar.domain.tokens import TokenFailure, TokenPair
from sidecar.domain.wire import Broken, TokenReply
from sidecar.ports import SealError, StoreUnavailable
from sidecar.service.asking import ask
from sidecar.service.claim_parts import ClaimParts
from sidecar.service.vault import PairPlace


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """Tokens that were obtained elsewhere.

    Attributes:
        tokens: The pair; its life counts from when the order came.
        consented_at_ms: When the end user consented, or ``None``: when the id_token was issued.
        is_replacing: Replace a live grant even if it is not older.
        ordered_at_ms: When the order came (store clock); ``None``: now.
    """

    key: GrantKey
    tokens: TokenPair
    consented_at_ms: int | None
    is_replacing: bool
    ordered_at_ms: int | None = None


@final
class Obtainer:
    """Stores the first pair of a consent."""

    def __init__(self, *, parts: ClaimParts) -> None:
        self._parts = parts

    async def obtain(self, key: GrantKey, code: Secret, *, redirect_uri: str) -> ObtainOutcome:
        """Exchange an authorization code; never repeated, since a code works once."""
        if not self._parts.journal.is_writable:
            return Postponed(obstacle=Obstacle.SPOOL_AWAY, retry_in_s=1.0)
        gate = self._parts.restraints.gate
        grant = self._parts.vault.grant_id(key)
        try:
            former = await self._parts.store.read(grant)
        except StoreUnavailable:
            return Postponed(obstacle=Obstacle.STORE_AWAY, retry_in_s=1.0)
        if not await gate.lets_through():
            return Postponed(obstacle=Obstacle.BREAKER_OPEN, retry_in_s=gate.wait_s)
        exchange = _Exchange(parts=self._parts, key=key, former=former)
        with self._parts.committer.in_hand(grant):
            result = await exchange.send(code, redirect_uri=redirect_uri)
        if isinstance(result, TokenFailure):
            await gate.learn(result)
            self._parts.observer.observe(
                TokenRequestFailed(grant=grant, provider=key.provider, failure=result)
            )
            return ExchangeFailed(failure=result)
        verdict = await self._parts.committer.commit(result, is_live=True)
        await gate.learn(None)
        arrival = _Arrival(key=key, former=former, received=result, is_import=False)
        return self._conclude(arrival, verdict)

    async def take_over(self, order: Import) -> ImportOutcome:
        """Store tokens that were obtained elsewhere, unless a live grant stands against it.

        A consent that is stored meanwhile wins: nobody who gave the order knew of it. A repetition
        of the order is the same consent: nothing comes of one, or of a copy, that turns up late,
        whatever has become of the token by then.
        """
        grant = self._parts.vault.grant_id(order.key)
        try:
            former = await self._parts.store.read(grant)
        except StoreUnavailable:
            return Postponed(obstacle=Obstacle.STORE_AWAY, retry_in_s=1.0)
        if former is not None:
            refused = self._stands_against(order, former)
            if refused is not None:
                return refused
        newcomer = _Newcomer(
            key=order.key,
            former=former,
            consent_id=self._consent_of_import(order, former),
            consented_at_ms=order.consented_at_ms,
            asked_at_ms=order.ordered_at_ms or self._parts.store_clock.now_ms(),
        )
        received = _first_pair(self._parts, newcomer, order.tokens)
        if not self._parts.journal.keep(received):
            return Postponed(obstacle=Obstacle.SPOOL_AWAY, retry_in_s=1.0)
        verdict = await self._parts.committer.commit(received, is_live=True)
        arrival = _Arrival(key=order.key, former=former, received=received, is_import=True)
        return self._conclude(arrival, verdict)

    def _stands_against(
        self, order: Import, former: GrantRecord
    ) -> Unchanged | GrantExists | ConsentSuperseded | None:
        """Return why a record is not to be replaced by the order, or ``None``."""
        is_repeated = former.pair.consent.id.startswith(self._origin_of(order))
        if former.state.is_dead:
            is_revoked = former.state in (GrantState.REVOKING, GrantState.REVOKED)
            return ConsentSuperseded() if is_repeated and is_revoked else None
        fingerprint = self._parts.vault.fingerprint(order.tokens.refresh_token)
        if is_repeated or former.pair.fingerprint == fingerprint:
            return Unchanged(record=former)
        if order.is_replacing or _is_newer(order, former):
            return None
        return GrantExists(record=former)

    def _consent_of_import(self, order: Import, former: GrantRecord | None) -> ConsentId:
        """Name the consent after its token alone: whoever repeats the order means the same.

        Only where this very token was imported before, and its consent died, is it another one.
        """
        origin = self._origin_of(order)
        if former is None or not former.pair.consent.id.startswith(origin):
            return ConsentId(origin)
        died = self._parts.vault.fingerprint(Secret(f"died {former.pair.consent.id}"))
        return ConsentId(f"{origin}{died}")

    def _origin_of(self, order: Import) -> str:
        """Return what the names of all consents begin with that come of this token."""
        token = order.tokens.refresh_token.reveal()
        return f"{self._parts.vault.fingerprint(Secret(f'import {token}'))}-"

    def _conclude(self, arrival: _Arrival, verdict: CommitVerdict) -> Stored | ConsentSuperseded:
        if not isinstance(verdict, Committed | Duplicate):
            return ConsentSuperseded()
        received = arrival.received
        tokens = self._parts.vault.open_pair(received.grant, received.pair)
        self._parts.observer.observe(
            TokenObtained(
                grant=received.grant,
                provider=arrival.key.provider,
                is_import=arrival.is_import,
                is_other_subject=self._is_other_subject(arrival, tokens),
            )
        )
        return Stored(pair=received.pair, tokens=tokens, is_new=arrival.former is None)

    def _is_other_subject(self, arrival: _Arrival, tokens: TokenPair) -> bool:
        """Whether the end user logged in at the bank as somebody else than before."""
        former = arrival.former
        if former is None or not former.pair.sealed_pair:
            return False
        try:
            before = self._parts.vault.open_pair(arrival.received.grant, former.pair)
        except SealError:
            return False
        return bool(before.subject and tokens.subject and before.subject != tokens.subject)


@final
class _Exchange:
    """One POST of a code, whose answer is on disk before anybody hears of it."""

    def __init__(self, *, parts: ClaimParts, key: GrantKey, former: GrantRecord | None) -> None:
        self._parts = parts
        self._key = key
        self._former = former
        self._sent_s = parts.clock.elapsed_s()
        self._result: PairReceived | TokenFailure | None = None

    async def send(self, code: Secret, *, redirect_uri: str) -> PairReceived | TokenFailure:
        """Send the code and return the spooled pair."""
        started_s = self._parts.clock.elapsed_s()
        request = self._parts.requests.obtain(code, redirect_uri=redirect_uri)
        await ask(self._parts, request, on_answer=self._on_answer, on_send=self._on_send)
        result = self._result if self._result is not None else self._read(Broken())
        self._parts.observer.observe(
            TokenRequestEnded(
                operation=Operation.OBTAIN,
                outcome=Outcome.FAILED if isinstance(result, TokenFailure) else Outcome.OK,
                duration_s=self._parts.clock.elapsed_s() - started_s,
            )
        )
        return result

    def _on_send(self) -> None:
        self._sent_s = self._parts.clock.elapsed_s()

    def _on_answer(self, reply: TokenReply) -> None:
        self._result = self._read(reply)

    def _read(self, reply: TokenReply) -> PairReceived | TokenFailure:
        reading = read_reply(
            Operation.OBTAIN,
            reply,
            max_age_s=self._parts.policy.max_age_s,
            took_s=self._parts.clock.elapsed_s() - self._sent_s,
        )
        match reading:
            case PairRead():
                return self._keep(reading.pair)
            case TokenFailure():
                return reading
            case _:
                reason = FailureReason.MALFORMED_RESPONSE
                return TokenFailure(
                    operation=Operation.OBTAIN, reason=reason, disposition=DISPOSITIONS[reason]
                )

    def _keep(self, tokens: TokenPair) -> PairReceived:
        """Spool the pair; if the disk refuses, the commit from memory is all there is."""
        newcomer = _Newcomer(
            key=self._key,
            former=self._former,
            consent_id=ConsentId(self._parts.entropy.new_id()),
            consented_at_ms=None,
            asked_at_ms=self._parts.store_clock.at_ms(self._sent_s),
        )
        received = _first_pair(self._parts, newcomer, tokens)
        self._parts.journal.keep(received)
        return received


@dataclass(frozen=True, slots=True, kw_only=True)
class _Newcomer:
    key: GrantKey
    former: GrantRecord | None
    consent_id: ConsentId
    consented_at_ms: int | None
    asked_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Arrival:
    key: GrantKey
    former: GrantRecord | None
    received: PairReceived
    is_import: bool


def _is_newer(order: Import, former: GrantRecord) -> bool:
    return (
        order.consented_at_ms is not None
        and order.consented_at_ms > former.pair.consent.consented_at_ms
    )


def _first_pair(parts: ClaimParts, newcomer: _Newcomer, tokens: TokenPair) -> PairReceived:
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

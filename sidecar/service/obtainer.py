"""New consents: the exchange of an authorization code, and tokens obtained elsewhere.

A consent's epoch is the ``iat`` of its first id_token, and always later than that of the consent it
was seen to replace; so two consents in one second keep their order. The pair is on disk before the
store or the caller hears of it, like that of a refresh.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import final

from sidecar.domain.events import (
    Outcome,
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
    Unchanged,
)
from sidecar.domain.record import (
    ConsentId,
    GrantId,
    GrantKey,
    GrantRecord,
    GrantState,
)
from sidecar.domain.secret import Secret
from sidecar.domain.token_wire import PairRead, read_reply
from sidecar.domain.tokens import TokenFailure, TokenPair
from sidecar.domain.wire import TokenReply
from sidecar.ports import StoreUnavailable
from sidecar.service import faults
from sidecar.service.arrivals import Arrival, Arrivals, Brought, Newcomer, first_pair
from sidecar.service.asking import ask
from sidecar.service.claim_parts import ClaimParts


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
        self._arrivals = Arrivals(parts=parts)

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
        try:
            with self._parts.committer.in_hand(grant):
                await exchange.send(code, redirect_uri=redirect_uri)
        except Exception as error:
            if exchange.result is None:
                raise
            faults.report(self._parts.observer, where="exchange", error=error)
        result = exchange.result
        if isinstance(result, Brought):
            arrival = Arrival(key=key, former=former, brought=result, is_import=False)
            try:
                return await self._arrivals.store(arrival)
            except Exception as error:
                if not result.is_durable:
                    raise
                # Housekeeping stores it. Nobody may hear of a failure while the only pair is kept.
                faults.report(self._parts.observer, where="exchange", error=error)
                return arrival.stored
        return await self._failed(grant, key, result or _malformed())

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
        newcomer = Newcomer(
            key=order.key,
            former=former,
            consent_id=self._consent_of_import(order, former),
            consented_at_ms=order.consented_at_ms,
            asked_at_ms=order.ordered_at_ms or self._parts.store_clock.now_ms(),
        )
        received = first_pair(self._parts, newcomer, order.tokens)
        if not self._parts.journal.keep(received):
            return Postponed(obstacle=Obstacle.SPOOL_AWAY, retry_in_s=1.0)
        brought = Brought(received=received, tokens=order.tokens, is_durable=True)
        arrival = Arrival(key=order.key, former=former, brought=brought, is_import=True)
        return await self._arrivals.store(arrival)

    async def _failed(self, grant: GrantId, key: GrantKey, failure: TokenFailure) -> ExchangeFailed:
        """Tell why no pair came; what Akoya said is the answer, whatever fails in telling it."""
        try:
            await self._parts.restraints.gate.learn(failure)
            self._parts.observer.observe(
                TokenRequestFailed(grant=grant, provider=key.provider, failure=failure)
            )
        except Exception as error:  # noqa: BLE001 - reported
            faults.report(self._parts.observer, where="exchange", error=error)
        return ExchangeFailed(failure=failure)

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


@final
class _Exchange:
    """One POST of a code, whose answer is on disk before anybody hears of it.

    Attributes:
        result: What came of it, as soon as that is known.
    """

    def __init__(self, *, parts: ClaimParts, key: GrantKey, former: GrantRecord | None) -> None:
        self._parts = parts
        self._key = key
        self._former = former
        self._sent_s = parts.clock.elapsed_s()
        # Once, however often the answer is read: it brings one consent.
        self._consent_id = ConsentId(parts.entropy.new_id())
        self.result: Brought | TokenFailure | None = None

    async def send(self, code: Secret, *, redirect_uri: str) -> None:
        """Send the code; `result` says what came of it."""
        started_s = self._parts.clock.elapsed_s()
        request = self._parts.requests.obtain(code, redirect_uri=redirect_uri)
        reply = await ask(self._parts, request, on_answer=self._on_answer, on_send=self._on_send)
        if self.result is None:
            await self._read_again(reply)
        self._parts.observer.observe(
            TokenRequestEnded(
                operation=Operation.OBTAIN,
                outcome=Outcome.OK if isinstance(self.result, Brought) else Outcome.FAILED,
                duration_s=self._parts.clock.elapsed_s() - started_s,
            )
        )

    def _on_send(self) -> None:
        self._sent_s = self._parts.clock.elapsed_s()

    def _on_answer(self, reply: TokenReply) -> None:
        try:
            self.result = self._read(reply)
        except Exception as error:  # noqa: BLE001 - reported; the answer is read again
            faults.report(self._parts.observer, where="exchange", error=error)

    async def _read_again(self, reply: TokenReply) -> None:
        """Read an answer that a fault of ours kept from being read: a code brings no other."""
        for pause_s in self._parts.times.owner_retry_pauses_s:
            self._on_answer(reply)
            if self.result is not None:
                return
            await asyncio.sleep(pause_s)

    def _read(self, reply: TokenReply) -> Brought | TokenFailure:
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
                return _malformed()

    def _keep(self, tokens: TokenPair) -> Brought:
        """Spool the pair; if the disk refuses, the commit from memory is all there is."""
        newcomer = Newcomer(
            key=self._key,
            former=self._former,
            consent_id=self._consent_id,
            consented_at_ms=None,
            asked_at_ms=self._parts.store_clock.at_ms(self._sent_s),
        )
        received = first_pair(self._parts, newcomer, tokens)
        is_durable = self._parts.journal.keep(received)
        return Brought(received=received, tokens=tokens, is_durable=is_durable)


def _malformed() -> TokenFailure:
    reason = FailureReason.MALFORMED_RESPONSE
    return TokenFailure(operation=Operation.OBTAIN, reason=reason, disposition=DISPOSITIONS[reason])


def _is_newer(order: Import, former: GrantRecord) -> bool:
    return (
        order.consented_at_ms is not None
        and order.consented_at_ms > former.pair.consent.consented_at_ms
    )

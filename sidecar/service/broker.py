"""Gives a bearer for a grant: from memory, from the store, or by a refresh.

It serves what memory holds while the store is away, never hands out a token past its end, and
refreshes a token in use before it ends. It knows nothing of HTTP, and it never presents a refresh
token itself: the claim lane does.
"""

from __future__ import annotations

import asyncio
from typing import assert_never, final

from sidecar.domain.commands import HealingOver
from sidecar.domain.events import RecordUnreadable
from sidecar.domain.notices import Distress, Notice
from sidecar.domain.outcomes import (
    FoundNewer,
    GrantGone,
    Obstacle,
    Postponed,
    Refreshed,
    RefreshOutcome,
)
from sidecar.domain.record import GrantId, GrantKey, GrantRecord, Position
from sidecar.domain.tokens import (
    HealVerdict,
    TokenFound,
    TokenLookup,
    TokenSource,
)
from sidecar.domain.transitions_claim import bounded, refusal_of
from sidecar.domain.waiting import worth_waiting_s
from sidecar.ports import SealError, StoreUnavailable
from sidecar.service.claim_parts import RefreshWish
from sidecar.service.flights import Flights
from sidecar.service.healer import Healer
from sidecar.service.lease_refusals import without_lease
from sidecar.service.patience import Patience
from sidecar.service.refusals import refusal
from sidecar.service.serving_parts import ServingParts
from sidecar.service.token_cache import CachedToken, is_replacing

ROUNDS = 3
SWEEP_EVERY_S = 30.0
UNREADABLE_RETRY_S = 30.0


@final
class Broker:
    """The token source of the proxy; belongs to the loop that serves requests."""

    def __init__(self, *, parts: ServingParts) -> None:
        self._parts = parts
        self.flights = Flights(parts=parts, landed=self._landed)
        self._healer = Healer(parts=parts, refreshed=self._refreshed)

    def peek(self, key: GrantKey) -> TokenFound | None:
        """Return a fresh, recently confirmed bearer from memory; ``None``: look it up."""
        token = self._parts.cache.get(self._parts.vault.grant_id(key))
        if token is None or self._parts.store_clock.now_ms() >= token.refresh_at_ms:
            return None
        age_s = self._parts.clock.elapsed_s() - token.checked_at_s
        return token.found if age_s < self._parts.times.store_check_every_s else None

    def patience(self) -> Patience:
        """Return what one call may wait for tokens, in its look-up and its heal together."""
        return Patience(wait_s=self._parts.policy.wait_s, clock=self._parts.clock)

    async def token_for(self, key: GrantKey, *, patience: Patience | None = None) -> TokenLookup:
        """Return a bearer, refreshed if need be, or why there is none now."""
        patience = patience or self.patience()
        with patience.running():
            return await self._token_for(key, patience)

    async def _token_for(self, key: GrantKey, patience: Patience) -> TokenLookup:
        grant = self._parts.vault.grant_id(key)
        try:
            record = await self._parts.reader.read(grant)
        except StoreUnavailable:
            return self._from_memory(grant)
        found = await self._from_record(key, grant, record, patience=patience)
        token = self._parts.cache.get(grant)
        if token is not None and isinstance(found, TokenFound):
            self._parts.uses.note(token)
        return found

    async def heal(
        self,
        key: GrantKey,
        rejected: TokenFound,
        *,
        product: str,
        patience: Patience | None = None,
    ) -> HealVerdict:
        """Replace a bearer that the upstream answered with 401; see `Healer`."""
        patience = patience or self.patience()
        with patience.running():
            return await self._healer.heal(key, rejected, product=product, patience=patience)

    def accepted(self, key: GrantKey, found: TokenFound, *, product: str) -> None:
        """Take note of a 2xx: it ends the cool-down that this product opened."""
        del key
        if found.cooling_product == product:
            self._parts.cache.doubt(found.grant)
            self._healer.end_cool_down(found, product=product)

    async def renew(
        self, key: GrantKey, *, known: Position, wait_s: float, overrides_backoff: bool = False
    ) -> RefreshOutcome:
        """Have the pair at `known` replaced now; for the grants API."""
        wish = RefreshWish(
            grant=self._parts.vault.grant_id(key),
            provider=key.provider,
            known=known,
            is_ordered=True,
            overrides_backoff=overrides_backoff,
        )
        return await self.flights.board(wish, wait_s=wait_s)

    async def listen(self) -> None:
        """Take peers' hints until cancelled: check what changed, wake whoever waits for it."""
        async for hint in self._parts.store.listen():
            match hint:
                case Notice():
                    held = self._parts.cache.get(hint.grant)
                    known = None if held is None else held.found.position
                    told = Position(consent_id=hint.consent_id, generation=hint.generation)
                    if known != told or hint.state.is_dead:
                        self._parts.cache.doubt(hint.grant)
                    self._parts.hints.fire(hint.grant)
                case Distress():
                    continue
                case _:
                    assert_never(hint)

    async def sweep(self) -> None:
        """Forget ended bearers, every so often, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            self._parts.cache.sweep()

    def forget(self, key: GrantKey) -> None:
        """Have the store asked before this grant's bearer is handed out again."""
        self._parts.cache.doubt(self._parts.vault.grant_id(key))

    async def _refreshed(
        self, wish: RefreshWish, record: GrantRecord, patience: Patience
    ) -> TokenLookup:
        """Return a bearer newer than the wish's position; a torn one is refreshed again at once."""
        known_wait = self.known_wait(record)
        if known_wait is not None:
            return refusal(wish.grant, known_wait)
        unwanted = wish.known
        for _ in range(ROUNDS):
            outcome = await self.flights.board(wish, wait_s=patience.left_s)
            if isinstance(outcome, GrantGone):
                return refusal(wish.grant, outcome)
            token = self._parts.cache.get(wish.grant)
            is_newer = token is not None and all(
                # Both: a store that fell behind shows a former consent, and then this one again.
                is_replacing(token.found.position, known)
                for known in (unwanted, wish.known)
            )
            if token is not None and is_newer and self._is_usable(token):
                return token.told_from(TokenSource.REFRESH)
            if isinstance(outcome, Postponed):
                return refusal(wish.grant, outcome)
            newest = _position_of(outcome)
            known = newest if is_replacing(newest, wish.known) else wish.known
            wish = RefreshWish(grant=wish.grant, provider=wish.provider, known=known)
        return refusal(wish.grant, Postponed(obstacle=Obstacle.FAILED, retry_in_s=1.0))

    def known_wait(self, record: GrantRecord) -> Postponed | None:
        """Return what no caller need wait for, by the record as it was just read.

        The lane would say the same, but only when the grant's bank has a berth for it. A record
        with an instant beyond all bounds goes to the lane, which corrects it.
        """
        now_ms = self._parts.store_clock.now_ms()
        verdict = refusal_of(record, now_ms) if bounded(record, now_ms) == record else None
        if verdict is None or isinstance(verdict, HealingOver):
            return None
        outcome = without_lease(verdict, self._parts.store_clock, self._parts.times)
        if not isinstance(outcome, Postponed):
            return None
        return None if worth_waiting_s(outcome, self._parts.times) > 0 else outcome

    def _from_memory(self, grant: GrantId) -> TokenLookup:
        """Answer while the store is away: what memory holds, until it ends; nothing is claimed."""
        token = self._parts.cache.get(grant)
        if token is not None and self._is_usable(token):
            return token.told_from(TokenSource.STALE)
        return refusal(grant, Postponed(obstacle=Obstacle.STORE_AWAY, retry_in_s=1.0))

    async def _from_record(
        self, key: GrantKey, grant: GrantId, record: GrantRecord | None, *, patience: Patience
    ) -> TokenLookup:
        if record is None or record.state.is_dead:
            self._parts.cache.drop(grant)
            return refusal(grant, GrantGone(state=None if record is None else record.state))
        was_held = self._parts.cache.get(grant)
        try:
            token = self._parts.cache.take_record(grant, record)
        except SealError as error:
            self._parts.observer.observe(RecordUnreadable(grant=grant, key_id=error.key_id))
            unreadable = Postponed(obstacle=Obstacle.UNREADABLE, retry_in_s=UNREADABLE_RETRY_S)
            return refusal(grant, unreadable)
        wish = RefreshWish(grant=grant, provider=key.provider, known=token.found.position)
        if self._is_usable(token):
            self._hurry(token, wish)
            source = TokenSource.MEMORY if token is was_held else TokenSource.STORE
            return token.told_from(source)
        return await self._refreshed(wish, record, patience)

    def _is_usable(self, token: CachedToken) -> bool:
        return self._parts.store_clock.now_ms() < token.expires_at_ms

    def _hurry(self, token: CachedToken, wish: RefreshWish) -> None:
        """Refresh a bearer that is due, behind its callers' backs and not in every request."""
        now_s = self._parts.clock.elapsed_s()
        is_due = self._parts.store_clock.now_ms() >= token.refresh_at_ms
        if is_due and now_s >= token.hurried_until_s:
            token.hurried_until_s = now_s + self._parts.policy.wait_s
            self.flights.start(wish, wait_s=self._parts.policy.wait_s)

    def _take(self, grant: GrantId, record: GrantRecord) -> None:
        try:
            self._parts.cache.take_record(grant, record)
        except SealError as error:
            self._parts.observer.observe(RecordUnreadable(grant=grant, key_id=error.key_id))

    def _landed(self, grant: GrantId, outcome: RefreshOutcome) -> None:
        """Keep what a flight brought before anybody who waits for it goes on."""
        match outcome:
            case Refreshed():
                self._parts.cache.take_pair(grant, outcome.pair, outcome.tokens)
            case FoundNewer():
                self._take(grant, outcome.record)
            case GrantGone():
                self._parts.cache.drop(grant)
            case Postponed():
                return
            case _:
                assert_never(outcome)


def _position_of(outcome: Refreshed | FoundNewer) -> Position:
    if isinstance(outcome, Refreshed):
        return outcome.pair.position
    return outcome.record.position

"""Answers to a 401 of the upstream: another token where that can help, a cool-down where it cannot.

Akoya says the same (401, code 602) of an expired token, a revoked consent and a product that the
user is not entitled to. So a rejected generation is replaced once; when its successor is rejected
too, 401s start no refresh for a while, or a user without one product would rotate for ever.

The first pair of a consent may be replaced at any age; a refreshed one that is rejected while young
opens the cool-down. Its age counts from when it was asked for, not from when it was stored.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import final

from sidecar.domain.bounds import is_running
from sidecar.domain.events import RecordUnreadable
from sidecar.domain.outcomes import GrantGone, Obstacle, Postponed
from sidecar.domain.record import GrantId, GrantKey, GrantRecord
from sidecar.domain.tokens import (
    HealDeclined,
    HealGranted,
    HealVerdict,
    TokenFound,
    TokenLookup,
    TokenSource,
)
from sidecar.ports import SealError, StoreUnavailable
from sidecar.service.claim_parts import RefreshWish
from sidecar.service.patience import Patience
from sidecar.service.refusals import refusal
from sidecar.service.serving_parts import ServingParts
from sidecar.service.token_cache import CachedToken, is_replacing

Refreshed = Callable[[RefreshWish, GrantRecord, Patience], Awaitable[TokenLookup]]
"""Has a wish fulfilled, unless the record says that it cannot be just now."""


@final
class Healer:
    """Decides what a 401 of the upstream is worth."""

    def __init__(self, *, parts: ServingParts, refreshed: Refreshed) -> None:
        self._parts = parts
        self._refreshed = refreshed

    async def heal(
        self, key: GrantKey, rejected: TokenFound, *, product: str, patience: Patience
    ) -> HealVerdict:
        """Return another token, a refusal, or that no other token would help."""
        grant = rejected.grant
        held = self._parts.cache.get(grant)
        if held is not None and self._is_memory_newer(held, rejected):
            return HealGranted(found=held.told_from(TokenSource.MEMORY))
        try:
            record = await self._parts.reader.read(grant)
        except StoreUnavailable:
            return refusal(grant, Postponed(obstacle=Obstacle.STORE_AWAY, retry_in_s=1.0))
        if record is None or record.state.is_dead:
            self._parts.cache.drop(grant)
            return refusal(grant, GrantGone(state=None if record is None else record.state))
        if record.position == rejected.position:
            if await self._is_cool(rejected, record, product=product):
                return HealDeclined()
        else:
            newer = self._take(rejected, record)
            if newer is not None:
                return HealGranted(found=newer.told_from(TokenSource.STORE))
        wish = RefreshWish(grant=grant, provider=key.provider, known=rejected.position)
        lookup = await self._refreshed(wish, record, patience)
        return HealGranted(found=lookup) if isinstance(lookup, TokenFound) else lookup

    def end_cool_down(self, found: TokenFound, *, product: str) -> None:
        """A 2xx on the product that opened the cool-down ends it, behind the caller's back."""
        end = partial(self._parts.cooler.end, found.grant, found.position.consent_id, product)
        self._parts.lane.launch(end, where="cool_down")

    async def _is_cool(self, rejected: TokenFound, record: GrantRecord, *, product: str) -> bool:
        """Whether a refresh would not help; opens the cool-down where that is news."""
        now_ms = self._parts.store_clock.now_ms()
        longest_ms = int(self._parts.times.cool_limit_s * 1000)
        if is_running(record.cool_until_ms, now_ms=now_ms, longest_ms=longest_ms):
            return True
        age_s = (now_ms - self._aged_from_ms(rejected.grant, record)) / 1000
        is_young = record.pair.generation > 0 and 0 <= age_s < self._parts.times.young_token_s
        if is_young:
            cool = partial(
                self._parts.cooler.cool, rejected.grant, rejected.position.consent_id, product
            )
            self._parts.lane.launch(cool, where="cool_down")
        return is_young

    def _aged_from_ms(self, grant: GrantId, record: GrantRecord) -> int:
        """Return from when the bearer's age counts: a pair may be stored long after it was issued.

        One that waited in the socket of a stopped process, or in a spool, is not young.
        """
        try:
            aged_from_ms = self._parts.vault.aged_from_ms(grant, record.pair)
        except SealError:
            aged_from_ms = 0
        return min(aged_from_ms or record.committed_at_ms, record.committed_at_ms)

    def _take(self, rejected: TokenFound, record: GrantRecord) -> CachedToken | None:
        """Return the newer token of the store, if it can be used."""
        try:
            token = self._parts.cache.take_record(rejected.grant, record)
        except SealError as error:
            self._parts.observer.observe(
                RecordUnreadable(grant=rejected.grant, key_id=error.key_id)
            )
            return None
        is_newer = is_replacing(token.found.position, rejected.position)
        return token if is_newer and self._is_usable(token) else None

    def _is_usable(self, token: CachedToken) -> bool:
        return self._parts.store_clock.now_ms() < token.expires_at_ms

    def _is_memory_newer(self, held: CachedToken, rejected: TokenFound) -> bool:
        """Whether memory has a later generation of the consent, which was not rejected."""
        is_same_consent = held.found.position.consent_id == rejected.position.consent_id
        is_newer = is_replacing(held.found.position, rejected.position)
        return is_same_consent and is_newer and self._is_usable(held)

"""The bearers of this sidecar in memory: opened once, kept small, only as good as their horizon.

It takes what the store or a claim brings and forgets what has ended; when an entry must be checked
again, and what follows, is the broker's business.
"""

from __future__ import annotations

from dataclasses import replace
from typing import final

from sidecar.domain import policy
from sidecar.domain.record import GrantId, GrantRecord, Position, StoredPair
from sidecar.domain.secret import Secret
from sidecar.domain.tokens import TokenFound, TokenPair, TokenSource
from sidecar.ports import Clock
from sidecar.service.store_clock import StoreClock
from sidecar.service.vault import Vault


@final
class CachedToken:
    """A bearer, what it is good for, and when the store last confirmed it.

    Attributes:
        found: The bearer as the hot path hands it out.
        consented_at_ms: The epoch of its consent.
        refresh_at_ms: From when it is refreshed behind its callers (store clock).
        expires_at_ms: From when it is not handed out any more (store clock).
        checked_at_s: When the store was last asked (`Clock.elapsed_s`).
        hurried_until_s: Until when no further refresh ahead is started.
        use_told_until_s: Until when the fleet need not be told again that the grant is in use.
    """

    __slots__ = (
        "checked_at_s",
        "consented_at_ms",
        "expires_at_ms",
        "found",
        "hurried_until_s",
        "refresh_at_ms",
        "use_told_until_s",
    )

    def __init__(
        self,
        *,
        found: TokenFound,
        consented_at_ms: int,
        horizon: policy.Horizon,
        checked_at_s: float,
    ) -> None:
        self.found = found
        self.consented_at_ms = consented_at_ms
        self.refresh_at_ms = horizon.refresh_at_ms
        self.expires_at_ms = horizon.expires_at_ms
        self.checked_at_s = checked_at_s
        self.hurried_until_s = 0.0
        self.use_told_until_s = 0.0

    @property
    def order(self) -> tuple[int, str, int]:
        """Which pair of the grant it is, as `StoredPair.order`; made when asked, to stay small."""
        position = self.found.position
        return (self.consented_at_ms, position.consent_id, position.generation)

    def told_from(self, source: TokenSource) -> TokenFound:
        """Return the bearer, saying where it came from."""
        return replace(self.found, source=source)


@final
class TokenCache:
    """Bearers by grant; belongs to one event loop."""

    def __init__(
        self,
        *,
        vault: Vault,
        clock: Clock,
        store_clock: StoreClock,
        refresh_policy: policy.RefreshPolicy,
    ) -> None:
        self._vault = vault
        self._clock = clock
        self._store_clock = store_clock
        self._policy = refresh_policy
        self._tokens: dict[GrantId, CachedToken] = {}

    def __len__(self) -> int:
        return len(self._tokens)

    def get(self, grant: GrantId) -> CachedToken | None:
        """Return what is held for the grant, usable or not."""
        return self._tokens.get(grant)

    def drop(self, grant: GrantId) -> None:
        """Forget the grant's bearer."""
        self._tokens.pop(grant, None)

    def doubt(self, grant: GrantId) -> None:
        """Have the store asked before the bearer is handed out again."""
        token = self._tokens.get(grant)
        if token is not None:
            token.checked_at_s = float("-inf")

    def take_record(self, grant: GrantId, record: GrantRecord) -> CachedToken:
        """Hold what the store shows, unless memory has a newer generation of the same consent.

        Raises:
            SealError: The pair cannot be opened here.
        """
        held = self._tokens.get(grant)
        position = record.position
        if held is not None and held.found.position.consent_id == position.consent_id:
            is_same = held.found.position.generation == position.generation
            if held.found.position.generation > position.generation or (
                is_same and held.found.cooling_product == record.cool_product
            ):
                held.checked_at_s = self._clock.elapsed_s()
                return held
        tokens = self._vault.open_pair(grant, record.pair)
        return self._put(
            grant,
            record.pair,
            tokens.id_token,
            committed_at_ms=record.committed_at_ms,
            cooling_product=record.cool_product,
        )

    def take_pair(self, grant: GrantId, pair: StoredPair, tokens: TokenPair) -> CachedToken:
        """Hold a pair that is durable here, whether or not the store has it yet.

        A newer one stays: what a slow claim brings may be outdated by the time it lands.
        """
        held = self._tokens.get(grant)
        if held is not None and held.order >= pair.order:
            return held
        return self._put(
            grant,
            pair,
            tokens.id_token,
            committed_at_ms=self._store_clock.now_ms(),
            cooling_product="",
        )

    def sweep(self) -> None:
        """Forget what is of no use any more."""
        now_ms = self._store_clock.now_ms()
        for grant in [g for g, token in self._tokens.items() if token.expires_at_ms <= now_ms]:
            del self._tokens[grant]

    def _put(
        self,
        grant: GrantId,
        pair: StoredPair,
        bearer: Secret | None,
        *,
        committed_at_ms: int,
        cooling_product: str,
    ) -> CachedToken:
        committed_at_ms = min(committed_at_ms, self._store_clock.now_ms())
        expires_at_ms = policy.believed_expiry_ms(
            expires_at_ms=pair.expires_at_ms,
            committed_at_ms=committed_at_ms,
            policy=self._policy,
        )
        horizon = policy.horizon(
            expires_at_ms=expires_at_ms if bearer else 0,
            committed_at_ms=committed_at_ms,
            jitter=policy.grant_jitter(grant),
            policy=self._policy,
        )
        token = CachedToken(
            found=TokenFound(
                grant=grant,
                bearer=bearer or Secret(""),
                position=pair.position,
                source=TokenSource.MEMORY,
                cooling_product=cooling_product,
            ),
            consented_at_ms=pair.consent.consented_at_ms,
            horizon=horizon,
            checked_at_s=self._clock.elapsed_s(),
        )
        held = self._tokens.get(grant)
        if held is not None:
            token.use_told_until_s = held.use_told_until_s
        self._tokens[grant] = token
        return token


def is_replacing(newer: Position, known: Position) -> bool:
    """Whether a pair is none of those that somebody knows and wants replaced.

    A pair of another consent is one: whichever was rejected, it was not this.
    """
    return newer.consent_id != known.consent_id or newer.generation > known.generation

"""Stops token requests when Akoya refuses the app's own credentials, so that no grant is blamed.

It knows the breaker's state of this sidecar and asks the store for the fleet's one canary.
"""

from __future__ import annotations

from typing import final

from sidecar.domain.breaker import CredentialsBreaker
from sidecar.domain.events import BreakerClosed, BreakerName, BreakerOpened
from sidecar.domain.failure import FailureReason
from sidecar.domain.tokens import TokenFailure
from sidecar.ports import Observer, StoreUnavailable, TokenStore

_NO_NEWS = frozenset(
    {
        FailureReason.UNREACHABLE,
        FailureReason.ANSWER_LOST,
        FailureReason.SERVER_ERROR,
        FailureReason.RATE_LIMITED,
        FailureReason.UNKNOWN,
        FailureReason.MALFORMED_RESPONSE,
    }
)
"""Failures that say nothing about the app's credentials."""


@final
class CredentialsGate:
    """Decides whether a claim may leave, from what Akoya said to the last ones."""

    def __init__(self, *, store: TokenStore, observer: Observer, canary_every_s: float) -> None:
        self._store = store
        self._observer = observer
        self._canary_every_ms = int(canary_every_s * 1000)
        self._breaker = CredentialsBreaker()

    @property
    def is_open(self) -> bool:
        """Whether claims are stopped but for a canary."""
        return self._breaker.is_open

    async def lets_through(self) -> bool:
        """Return whether a claim may leave now: always while closed, else one canary a time."""
        if not self._breaker.is_open:
            return True
        try:
            return await self._store.take_canary(
                BreakerName.CREDENTIALS.value, self._canary_every_ms
            )
        except StoreUnavailable:
            return False

    def learn(self, failure: TokenFailure | None) -> None:
        """Take in how a token request ended; ``None``: well."""
        was_open = self._breaker.is_open
        if failure is not None and failure.reason is FailureReason.CLIENT_CREDENTIALS_INVALID:
            self._breaker = self._breaker.refused()
            if self._breaker.is_open and not was_open:
                self._observer.observe(
                    BreakerOpened(name=BreakerName.CREDENTIALS, reason=failure.reason)
                )
        elif failure is None or failure.reason not in _NO_NEWS:
            self._breaker = self._breaker.accepted()
            if was_open:
                self._observer.observe(BreakerClosed(name=BreakerName.CREDENTIALS))

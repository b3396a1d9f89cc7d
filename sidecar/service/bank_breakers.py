"""One breaker for each bank: where its token requests fail, only its own refreshes stop.

It is this sidecar's alone: peers find out for themselves, within seconds where there is traffic,
and a bank that is sick for one of them only is not given up by all. It does not know what failed.
"""

from __future__ import annotations

from typing import final

from sidecar.domain.breaker import BankBreaker
from sidecar.domain.events import ProviderBreakerClosed, ProviderBreakerOpened
from sidecar.domain.tokens import TokenFailure
from sidecar.ports import Clock, Observer


@final
class BankBreakers:
    """The banks' breakers of one sidecar."""

    def __init__(self, *, clock: Clock, observer: Observer) -> None:
        self._clock = clock
        self._observer = observer
        self._breakers: dict[str, BankBreaker] = {}

    def wait_s(self, provider: str) -> float:
        """Return how long no refresh of this bank may leave; 0: one may, if only as a canary."""
        breaker = self._breakers.get(provider)
        if breaker is None or breaker.canary_at_s is None:
            return 0.0
        return max(0.0, breaker.canary_at_s - self._clock.elapsed_s())

    def note_leaving(self, provider: str) -> None:
        """Take note that a refresh leaves where none must wait: an open breaker's next canary."""
        breaker = self._breakers.get(provider, BankBreaker())
        after = breaker.with_canary(self._clock.elapsed_s())
        if after is not None and after.is_open:
            self._breakers[provider] = after

    def learn(self, provider: str, failure: TokenFailure | None) -> None:
        """Take in how one presentation to this bank ended; ``None``: well."""
        before = self._breakers.get(provider, BankBreaker())
        after = before.after(failure, self._clock.elapsed_s())
        self._breakers[provider] = after
        if after.is_open and not before.is_open and failure is not None:
            self._observer.observe(ProviderBreakerOpened(provider=provider, reason=failure.reason))
        elif before.is_open and not after.is_open:
            self._observer.observe(ProviderBreakerClosed(provider=provider))

"""Stops token requests when Akoya refuses the app itself, so that no grant is blamed.

The breaker is the fleet's: two refusals in a row, whoever met them, stop everybody but one canary
at a time, and the first answer to an app that is known lets everybody go on. It does not know what
the request was for.
"""

from __future__ import annotations

from typing import final

from sidecar.domain.bounds import is_running
from sidecar.domain.breaker import Hearing, hearing_of
from sidecar.domain.throttle import CountAcceptance, CountRefusal, TakeCanary
from sidecar.domain.tokens import TokenFailure
from sidecar.ports import StoreUnavailable
from sidecar.service.fleet_throttle import FleetThrottle
from sidecar.service.store_clock import StoreClock


@final
class CredentialsGate:
    """Decides whether a token request may leave, from what Akoya said to the last ones."""

    def __init__(
        self, *, throttle: FleetThrottle, store_clock: StoreClock, canary_every_s: float
    ) -> None:
        self._throttle = throttle
        self._store_clock = store_clock
        self._canary_every_ms = int(canary_every_s * 1000)

    @property
    def is_open(self) -> bool:
        """Whether token requests are stopped but for a canary."""
        return self._throttle.seen.is_open

    @property
    def wait_s(self) -> float:
        """How long no request may leave, as far as is known; 0: one may, if only as a canary."""
        seen, now_ms = self._throttle.seen, self._store_clock.now_ms()
        waits = seen.is_open and is_running(
            seen.canary_at_ms, now_ms=now_ms, longest_ms=self._canary_every_ms
        )
        return (seen.canary_at_ms - now_ms) / 1000 if waits else 0.0

    async def lets_through(self) -> bool:
        """Return whether a request may leave now: always while closed, else one canary a time."""
        if not self.is_open:
            return True
        if self.wait_s:
            return False
        try:
            return await self._throttle.take(TakeCanary(canary_ms=self._canary_every_ms))
        except StoreUnavailable:
            return False

    async def learn(self, failure: TokenFailure | None) -> None:
        """Take in how a token request ended; ``None``: well. What cannot be told now is let go."""
        try:
            match hearing_of(failure):
                case Hearing.REFUSED if failure is not None:
                    await self._throttle.take(
                        CountRefusal(reason=failure.reason, canary_ms=self._canary_every_ms)
                    )
                case Hearing.ACCEPTED if self._throttle.seen.refusals:
                    await self._throttle.take(CountAcceptance())
                case _:
                    pass
        except StoreUnavailable:
            return

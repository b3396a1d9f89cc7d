"""The store's clock as this sidecar sees it: the one clock that all peers share.

Expiry instants are kept on the store's clock, so that a sidecar whose own clock is wrong serves and
schedules correctly. Between two probes the clock runs on CLOCK_BOOTTIME and never steps.
"""

from __future__ import annotations

from typing import final

from sidecar.ports import Clock


@final
class StoreClock:
    """Estimates the store's time from the last probe; may be read from any thread."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._offset_ms = clock.now_s() * 1000 - clock.elapsed_s() * 1000

    def now_ms(self) -> int:
        """Return the store's time in milliseconds; before the first probe, the wall clock's."""
        return self.at_ms(self._clock.elapsed_s())

    def at_ms(self, elapsed_s: float) -> int:
        """Return what the store's clock showed, as it runs now, at an instant of `elapsed_s`."""
        return int(elapsed_s * 1000 + self._offset_ms)

    def adjust(self, *, asked_at_s: float, answered_at_s: float, store_ms: int) -> None:
        """Take a probe's answer in; both instants are of `Clock.elapsed_s`."""
        self._offset_ms = store_ms - (asked_at_s + answered_at_s) * 500

    def wait_s(self, until_ms: int) -> float:
        """Return how long it is until an instant of the store's clock; never negative."""
        return max(0.0, (until_ms - self.now_ms()) / 1000)

"""What one call may still wait for tokens: its look-up, its heal and every round of them together.

Upstream time does not count: the clock of a patience runs only while a token is waited for. It does
not know who waits or for what.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import final

from sidecar.ports import Clock


@final
class Patience:
    """The waits of one call, bounded by their sum."""

    def __init__(self, *, wait_s: float, clock: Clock) -> None:
        """Allow `wait_s` in all."""
        self._clock = clock
        self._left_s = wait_s
        self._until_s: float | None = None

    @property
    def left_s(self) -> float:
        """How long the call may still wait; never negative."""
        if self._until_s is None:
            return self._left_s
        return max(0.0, self._until_s - self._clock.elapsed_s())

    @contextmanager
    def running(self) -> Generator[None]:
        """Count the time in here as waiting."""
        self._until_s = self._clock.elapsed_s() + self._left_s
        try:
            yield
        finally:
            self._left_s = self.left_s
            self._until_s = None

    def shorten(self, wait_s: float) -> None:
        """Wait no longer than `wait_s` from now on."""
        self._left_s = min(self._left_s, wait_s)

"""A clock that stands still until a test moves it."""

from __future__ import annotations

from typing import final


@final
class FakeClock:
    """A `sidecar.ports.Clock`; wall time and elapsed time go on together unless one is set.

    Attributes:
        wall_s: What `now_s` returns.
        running_s: What `elapsed_s` returns.
    """

    def __init__(self, *, wall_s: float = 1_700_000_000.0) -> None:
        self.wall_s = wall_s
        self.running_s = 1000.0

    def now_s(self) -> float:
        """Wall clock in seconds since the epoch."""
        return self.wall_s

    def elapsed_s(self) -> float:
        """Seconds that never step."""
        return self.running_s

    def advance(self, span_s: float) -> None:
        """Let time pass."""
        self.wall_s += span_s
        self.running_s += span_s

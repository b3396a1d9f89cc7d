"""How long an event loop is kept busy by one turn, in time of its own thread and not of the clock.

So a busy machine, which lets the thread wait, makes no turn longer. It must not know what runs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

TICK_S: Final = 0.0005


@dataclass(slots=True, kw_only=True)
class Turns:
    """What was measured.

    Attributes:
        longest_s: CPU time of the thread between two ticks, each the first thing of a turn.
        ticks: How many there were.
        told: Told each turn.
    """

    longest_s: float = 0.0
    ticks: int = 0
    told: Callable[[float], None] | None = None
    _last_s: float = 0.0
    _handle: asyncio.TimerHandle | None = None

    def tick(self) -> None:
        """Measure up to now, and come again soon."""
        now_s = time.thread_time()
        if self.ticks:
            turn_s = now_s - self._last_s
            self.longest_s = max(self.longest_s, turn_s)
            if self.told is not None:
                self.told(turn_s)
        self.ticks += 1
        self._last_s = time.thread_time()
        self._handle = asyncio.get_running_loop().call_later(TICK_S, self.tick)

    def stop(self) -> None:
        """Measure no more."""
        if self._handle is not None:
            self._handle.cancel()


@contextmanager
def measured_turns(told: Callable[[float], None] | None = None) -> Generator[Turns]:
    """Measure the turns of the running loop while the block lasts."""
    turns = Turns(told=told)
    turns.tick()
    try:
        yield turns
    finally:
        turns.stop()

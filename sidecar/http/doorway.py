"""Counts what is in flight at one listener, so that it can be kept few and ended in order.

It refuses nobody itself: whoever lets a request in looks at `is_draining` and `is_full` before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import final


@final
class Doorway:
    """The way in to one listener; made inside a running loop.

    Attributes:
        in_flight: Requests between their start and their end.
        is_draining: Whether new ones are to be refused from now on.
    """

    def __init__(self, *, most: int) -> None:
        """Let up to `most` requests be in flight."""
        self.in_flight = 0
        self.is_draining = False
        self._most = most
        self._aside = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def is_full(self) -> bool:
        """Whether one more would be one too many."""
        return self.in_flight - self._aside >= self._most

    @property
    def is_crowded(self) -> bool:
        """Whether there are too many, since one came back from `aside` meanwhile."""
        return self.in_flight - self._aside > self._most

    @contextmanager
    def aside(self) -> Generator[None]:
        """Take no place while a client takes its time; afterwards, look at `is_crowded`."""
        self._aside += 1
        try:
            yield
        finally:
            self._aside -= 1

    def enter(self) -> None:
        """Count a request in, refused or not."""
        self.in_flight += 1
        self._idle.clear()

    def leave(self) -> None:
        """Count a request out."""
        self.in_flight -= 1
        if not self.in_flight:
            self._idle.set()

    async def empty(self) -> None:
        """Return once nothing is in flight."""
        await self._idle.wait()

"""Wakes whoever waits for a peer to change a grant.

Hints may be lost, so every wait has a bound; it knows nothing of what a hint means.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import final

from sidecar.domain.record import GrantId


@final
class Hints:
    """Waiting places by grant; belongs to one event loop."""

    def __init__(self) -> None:
        self._waiting: dict[GrantId, asyncio.Event] = {}
        self._waiters: Counter[asyncio.Event] = Counter()

    def fire(self, grant: GrantId) -> None:
        """Wake everybody who waits for this grant."""
        event = self._waiting.pop(grant, None)
        if event is not None:
            event.set()

    async def wait(self, grant: GrantId, *, at_most_s: float) -> None:
        """Return at the next hint about this grant, or when the time is over."""
        event = self._waiting.setdefault(grant, asyncio.Event())
        self._waiters[event] += 1
        try:
            async with asyncio.timeout(at_most_s):
                await event.wait()
        except TimeoutError:
            return
        finally:
            self._waiters[event] -= 1
            # The others who wait for this event still need it.
            if not self._waiters[event]:
                del self._waiters[event]
                if self._waiting.get(grant) is event:
                    del self._waiting[grant]

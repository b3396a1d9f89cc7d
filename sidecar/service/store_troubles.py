"""Remembers for a while what went wrong with calls of the store, whichever loop made them.

It passes every event on and decides nothing: the watch asks it whether the store is under strain.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from threading import Lock
from typing import Final, final

from sidecar.domain.events import Event, StoreTroubled
from sidecar.domain.store_trouble import STRAIN_S, StoreTrouble
from sidecar.ports import Clock, Observer

MOST_KEPT: Final = 1000


@final
class StoreTroubles:
    """Implements `sidecar.ports.Observer` for another one behind it; told from several threads."""

    def __init__(self, *, behind: Observer, clock: Clock) -> None:
        self._behind = behind
        self._clock = clock
        self._lock = Lock()
        self._met: deque[tuple[float, StoreTrouble]] = deque(maxlen=MOST_KEPT)

    def observe(self, event: Event) -> None:
        """Take note of a trouble of the store, and pass every event on."""
        if isinstance(event, StoreTroubled):
            with self._lock:
                self._met.append((self._clock.elapsed_s(), event.cause))
        self._behind.observe(event)

    def recent(self) -> Mapping[StoreTrouble, int]:
        """Return in how many different seconds of the last `STRAIN_S` which cause was met."""
        since_s = self._clock.elapsed_s() - STRAIN_S
        with self._lock:
            while self._met and self._met[0][0] < since_s:
                self._met.popleft()
            return Counter(cause for _, cause in {(int(at_s), cause) for at_s, cause in self._met})

    def forget(self) -> None:
        """Start anew, since the store was away meanwhile: that is told otherwise."""
        with self._lock:
            self._met.clear()

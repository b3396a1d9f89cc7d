"""Tells of resources that the process ran out of: every time as a count, a spell of it once.

It decides when a spell begins; what ran out is found where it was needed. It must not know sockets
or files.
"""

from __future__ import annotations

from typing import Final, final

from sidecar.domain.events import Resource, ResourceExhausted
from sidecar.ports import Clock, Observer

SPELL_ENDS_AFTER_S: Final = 60.0
"""Without a shortage for so long, the next one is a new spell. Around a limit things succeed and
fail in turn, so the first success ends nothing."""


@final
class Shortages:
    """The shortages of one process, or of one of its parts."""

    def __init__(self, *, observer: Observer, clock: Clock) -> None:
        self._observer = observer
        self._clock = clock
        self._last_s: dict[Resource, float] = {}

    def note(self, resource: Resource) -> None:
        """Tell that something could not be done for lack of `resource`."""
        now_s = self._clock.elapsed_s()
        last_s = self._last_s.get(resource)
        self._last_s[resource] = now_s
        is_new = last_s is None or now_s - last_s >= SPELL_ENDS_AFTER_S
        self._observer.observe(ResourceExhausted(resource=resource, is_new=is_new))

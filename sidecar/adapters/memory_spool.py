"""A spool without a disk: the reference that every other spool is compared with.

It is the fold and nothing else, and can be told to fail. It must not be used where tokens matter:
it forgets everything with the process.
"""

from __future__ import annotations

from typing import final

from sidecar.domain.spooled import SpoolEntry, SpoolState
from sidecar.ports import Clock, SpoolError


@final
class MemorySpool:
    """Implements `sidecar.ports.Spool` in memory.

    Attributes:
        fails: While set, no entry is taken down and `write` raises.
        written: The entries that were taken down, oldest first.
    """

    def __init__(self, *, clock: Clock) -> None:
        self.fails = False
        self.written: list[SpoolEntry] = []
        self._clock = clock
        self._state = SpoolState()
        self._is_closed = False

    @property
    def state(self) -> SpoolState:
        """What the entries add up to, those included that could not be taken down."""
        return self._state

    @property
    def parked_since_s(self) -> float:
        """When the oldest pair that the store has not confirmed was written, or 0."""
        return self._state.parked_since_s

    @property
    def fault(self) -> str:
        """Why `write` would fail; "": it would not."""
        if self._is_closed:
            return "EBADF"
        return "ENOSPC" if self.fails else ""

    @property
    def is_writable(self) -> bool:
        """Whether `write` would succeed."""
        return not self.fault

    def write(self, entry: SpoolEntry, *, durable: bool) -> None:
        """Fold `entry` in, whether it must be `durable` or not.

        Raises:
            SpoolError: It was told to fail, or was closed.
        """
        del durable  # nothing here is
        self._state.apply(entry, at_s=self._clock.now_s())
        if self.fault:
            raise SpoolError(self.fault)
        self.written.append(entry)

    def close(self) -> None:
        """Take nothing down any more."""
        self._is_closed = True

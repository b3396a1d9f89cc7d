"""Writes the spool and tells how it went; the rest of the services never see a disk error.

It decides nothing: whether a claim may leave without a spool is asked of `is_writable`.
"""

from __future__ import annotations

from typing import final

from sidecar.domain.events import Event, SpoolFailed, SpoolMeasured, SpoolWritten
from sidecar.domain.spooled import SpoolEntry, SpoolState
from sidecar.ports import Clock, Observer, Spool, SpoolError
from sidecar.service import faults


@final
class Journal:
    """The spool, with its failures turned into values and events."""

    def __init__(self, *, spool: Spool, clock: Clock, observer: Observer) -> None:
        self._spool = spool
        self._clock = clock
        self._observer = observer
        self._seems_writable = True

    @property
    def state(self) -> SpoolState:
        """What the spool holds; read only."""
        return self._spool.state

    @property
    def is_writable(self) -> bool:
        """Whether an answer could be kept: without that no claim may leave."""
        return self._spool.is_writable

    @property
    def seems_writable(self) -> bool:
        """Whether it was when last seen; asks no disk, and may be read from any thread."""
        return self._seems_writable

    def keep(self, entry: SpoolEntry) -> bool:
        """Write durably; return whether it is on disk. The state has it either way."""
        return self._write(entry, durable=True)

    def note(self, entry: SpoolEntry) -> bool:
        """Write without waiting for the disk: an entry that a restart could do without."""
        return self._write(entry, durable=False)

    def measure(self) -> None:
        """Tell how much only this disk knows, and whether it takes more."""
        fault = self._spool.fault
        self._see(fault)
        self._tell(
            SpoolMeasured(
                is_writable=not fault,
                entries=len(self.state.pairs),
                parked=len(self.state.parked),
                oldest_parked_at_s=self._spool.parked_since_s,
            )
        )

    def close(self) -> None:
        """Let the spool go."""
        self._spool.close()

    def _write(self, entry: SpoolEntry, *, durable: bool) -> bool:
        started_s = self._clock.elapsed_s()
        try:
            self._spool.write(entry, durable=durable)
        except SpoolError as error:
            self._see(error.errno_name)
            return False
        self._see("")
        if durable:
            self._tell(SpoolWritten(duration_s=self._clock.elapsed_s() - started_s))
        return True

    def _see(self, fault: str) -> None:
        """Tell a fault once, until the spool was seen without one."""
        if fault and self._seems_writable:
            self._tell(SpoolFailed(errno_name=fault))
        self._seems_writable = not fault

    def _tell(self, event: Event) -> None:
        """Tell how it went; what is on the disk is there, whoever fails to hear of it."""
        faults.tell(self._observer, event, where="spool")

"""The life of the process: starting, serving, draining, stopped; and the order in which it ends.

Draining ends first what no request asked for, then takes the doors (no new request), then the
claims (none starts, running ones end), then the pairs that the store has not confirmed. Nothing is
cancelled before the time is over, and whatever is left then lies in the spool.

It does not know what a door or a claim is made of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, final

from sidecar.domain.events import LifecycleDraining, LifecycleReady, LifecycleStopped
from sidecar.ports import Clock, Observer
from sidecar.service.claim_parts import Restraints
from sidecar.service.health import HealthReport, Phase
from sidecar.service.journal import Journal
from sidecar.service.lane import ClaimLane
from sidecar.service.store_watch import StoreWatch

PARKED_POLL_S = 0.05


class Door(Protocol):
    """A listener that takes requests in."""

    def drain(self) -> None:
        """Refuse new requests from now on."""
        ...

    async def drained(self) -> None:
        """Return once nothing is in flight."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """What the health of the process is read from."""

    watch: StoreWatch
    journal: Journal
    restraints: Restraints
    lane: ClaimLane
    observer: Observer
    clock: Clock


@final
class Lifecycle:
    """Knows the phase, answers probes and carries the drain out."""

    def __init__(self, *, vitals: Vitals) -> None:
        self._vitals = vitals
        self._phase = Phase.STARTING
        self._started_at_s = vitals.clock.elapsed_s()

    def report(self) -> HealthReport:
        """Return the health of this moment."""
        return HealthReport(
            phase=self._phase,
            store_up=self._vitals.watch.is_up,
            spool_writable=self._vitals.journal.seems_writable,
            breaker_open=self._vitals.restraints.gate.is_open,
            brake_on=self._vitals.restraints.brake.is_on,
            parked=self._parked,
            store_trouble=self._vitals.watch.trouble,
        )

    def ready(self, *, version: str) -> None:
        """Say that every listener is open and the store was asked once."""
        self._phase = Phase.SERVING
        started_in_s = self._vitals.clock.elapsed_s() - self._started_at_s
        self._vitals.observer.observe(LifecycleReady(version=version, started_in_s=started_in_s))

    async def drain(
        self,
        doors: Sequence[Door],
        *,
        claims_ended: Callable[[], Awaitable[None]],
        timeout_s: float,
    ) -> None:
        """End in order, in at most `timeout_s`."""
        self._phase = Phase.DRAINING
        self._vitals.lane.serve_callers_only()
        self._vitals.observer.observe(
            LifecycleDraining(claims=self._vitals.lane.running, parked=self._parked)
        )
        for door in doors:
            door.drain()
        try:
            async with asyncio.timeout(timeout_s):
                for door in doors:
                    await door.drained()
                self._vitals.lane.shut()
                await claims_ended()
                while self._parked:  # noqa: ASYNC110 - the spool's state is another thread's
                    await asyncio.sleep(PARKED_POLL_S)
        except TimeoutError:
            self._vitals.lane.shut()

    def stopped(self) -> None:
        """Say that nothing runs any more; what is parked lies in the spool."""
        self._phase = Phase.STOPPED
        self._vitals.observer.observe(
            LifecycleStopped(
                parked=self._parked, drained=not (self._parked or self._vitals.lane.running)
            )
        )

    @property
    def _parked(self) -> int:
        return len(self._vitals.journal.state.parked)

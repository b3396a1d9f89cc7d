"""What the sidecar says of itself to probes: a phase and a few facts, nothing secret.

It only names the values; the lifecycle fills them in, and `sidecar.http.probes` renders them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from sidecar.domain.store_trouble import StoreTrouble


class Phase(StrEnum):
    """Where the process stands in its life."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthReport:
    """The sidecar at one moment.

    Attributes:
        store_up: Whether the store answered last; a sidecar without it still serves from memory.
        store_trouble: Why it did not, or why other calls fail though it did; ``None``: all is well.
        spool_writable: Whether a claim may leave.
        breaker_open: Whether token requests are stopped.
        brake_on: Whether claims and settlements are stopped until a person lets the brake go.
        parked: Pairs that lie in the spool only.
    """

    phase: Phase
    store_up: bool
    spool_writable: bool
    breaker_open: bool
    brake_on: bool
    parked: int
    store_trouble: StoreTrouble | None = None


class Health(Protocol):
    """Who can say how the sidecar is."""

    def report(self) -> HealthReport:
        """Return the state of this moment; must neither block nor raise."""
        ...

"""What a wish is told for which there is no lease: a newer pair, an end, or when to ask again.

One mapping of verdicts to outcomes; it tells nobody and changes nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from sidecar.domain.commands import (
    AcquireVerdict,
    BackingOff,
    Busy,
    Dead,
    Doubted,
    Fresh,
    HealingOver,
    Held,
    Leased,
    Missing,
    NewIncarnation,
    ProbeWithheld,
    Quarantined,
)
from sidecar.domain.outcomes import FoundNewer, GrantGone, Obstacle, Postponed
from sidecar.domain.policy import ProtocolTimes
from sidecar.service.brake import HELD_S
from sidecar.service.store_clock import StoreClock


def without_lease(
    verdict: AcquireVerdict | None, clock: StoreClock, times: ProtocolTimes
) -> FoundNewer | GrantGone | Postponed:
    """Return what came of a wish whose acquire ended so; ``None``: the store is away."""
    match verdict:
        case Fresh():
            return FoundNewer(record=verdict.record)
        case Missing():
            return GrantGone(state=None)
        case Dead():
            return GrantGone(state=verdict.state)
        case Quarantined():
            postponed = _until(Obstacle.QUARANTINED, verdict.until_ms, clock)
            return replace(postponed, age_s=times.quarantine_s - postponed.retry_in_s)
        case Held():
            postponed = _until(Obstacle.HELD, verdict.until_ms, clock)
            return replace(postponed, age_s=times.hold_s - postponed.retry_in_s)
        case Doubted():
            age_s = (clock.now_ms() - verdict.since_ms) / 1000
            return replace(_until(Obstacle.IN_DOUBT, verdict.until_ms, clock), age_s=age_s)
        case Busy():
            return _until(Obstacle.BUSY, verdict.until_ms, clock)
        case BackingOff():
            return _until(Obstacle.BACKING_OFF, verdict.until_ms, clock)
        case ProbeWithheld():
            return Postponed(obstacle=Obstacle.PROBE_WITHHELD, retry_in_s=HELD_S)
        case NewIncarnation() | None:
            return Postponed(obstacle=Obstacle.STORE_AWAY, retry_in_s=1.0)
        case Leased() | HealingOver():
            message = "a lease or a settled doubt needs no explanation"
            raise AssertionError(message)
        case _:
            assert_never(verdict)


def _until(obstacle: Obstacle, until_ms: int, clock: StoreClock) -> Postponed:
    return Postponed(obstacle=obstacle, retry_in_s=clock.wait_s(until_ms))

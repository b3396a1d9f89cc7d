"""What holds a whole fleet back: the mass-death brake, and the breaker on the app's credentials.

One value for the fleet, kept in the store. Each step on it is one pure function here and one branch
of ``throttle.lua`` there; a differential test holds the two together. It knows no grant and no
clock, and it stops nothing itself: whoever claims or settles asks first.

The brake is for the day on which many users seem to lose their consent at once. That is nearly
always a fault of ours (a restored backup, the wrong environment), so grants are left in doubt until
a person lets the brake go. What a release lets go is on trial: see `sidecar.domain.brake_trial`.
The breaker is for refusals that are no grant's fault.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, assert_never

from sidecar.domain.bounds import is_running
from sidecar.domain.brake_trial import Fate, Trial
from sidecar.domain.failure import FailureReason
from sidecar.domain.throttle_steps import (
    CountAcceptance,
    CountDecided,
    CountGrants,
    CountRefusal,
    Look,
    PullBrake,
    ReleaseAll,
    ReleaseBrake,
    ReserveSettlement,
    TakeCanary,
    ThrottleStep,
)
from sidecar.domain.windows import Slice, Window, counted, totals

__all__ = [
    "DENIED_OF",
    "FREE_MS",
    "GRANTS_OF_LIMIT",
    "LEAST_DECIDED",
    "LEAST_LIMIT",
    "MOST_LIMIT",
    "REFUSALS_TO_OPEN",
    "SLICES",
    "SLICE_MS",
    "BrakeCause",
    "CountAcceptance",
    "CountDecided",
    "CountGrants",
    "CountRefusal",
    "Look",
    "PullBrake",
    "ReleaseAll",
    "ReleaseBrake",
    "ReserveSettlement",
    "TakeCanary",
    "Throttle",
    "ThrottleStep",
    "is_free",
    "running_trial",
    "settlement_limit",
    "take",
]

REFUSALS_TO_OPEN: Final = 2
SLICE_MS: Final = 30_000
SLICES: Final = 10
"""Decided refreshes are counted over the last five minutes."""
LEAST_DECIDED: Final = 25
DENIED_OF: Final = 5
"""The brake is pulled when more than one of so many was denied."""
LEAST_LIMIT: Final = 5
GRANTS_OF_LIMIT: Final = 1000
"""One grant of so many may be settled in one window; of a small fleet `LEAST_LIMIT`."""
MOST_LIMIT: Final = 1_000_000
"""No count of grants raises the limit beyond this."""
FREE_MS: Final = 3_600_000
"""After a release of all nothing pulls the brake for an hour: longer than what is claimed then
needs to be denied, healed without success, and settled."""


class BrakeCause(StrEnum):
    """Why the brake was pulled."""

    SETTLEMENTS = "settlements"
    """More grants were about to turn ``reauth_required`` than one window allows."""
    DENIALS = "denials"
    """Too many of the last refreshes were denied."""
    TRIAL = "trial"
    """Too many of the grants that a release let go were denied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttle:
    """What holds the fleet back now; instants are on the store's clock, 0 is "not set".

    Attributes:
        braked_at_ms: When the brake was pulled; 0: it is off.
        brake_cause: Why.
        free_until_ms: Until when nothing pulls it, since a person let all go.
        trial: What a release lets go, or the one that pulled the brake last.
        grants: How many grants there were at the last count.
        decided: Refreshes of the last minutes that Akoya decided, and those that it denied.
        refusals: How often in a row Akoya refused the app itself.
        refusal_reason: How it did so last.
        opened_at_ms: When the breaker opened; 0: it is closed.
        canary_at_ms: From when one claim may try while it is open.
        revision: Grows with each change, so that answers that overtook one another are told apart.
    """

    braked_at_ms: int = 0
    brake_cause: BrakeCause | None = None
    free_until_ms: int = 0
    trial: Trial | None = None
    grants: int = 0
    decided: Window = ()
    refusals: int = 0
    refusal_reason: FailureReason | None = None
    opened_at_ms: int = 0
    canary_at_ms: int = 0
    revision: int = 0

    @property
    def is_braked(self) -> bool:
        """Whether claims and settlements stop."""
        return self.braked_at_ms > 0

    @property
    def is_open(self) -> bool:
        """Whether token requests stop but for a canary."""
        return self.opened_at_ms > 0


def take(throttle: Throttle, step: ThrottleStep, now_ms: int) -> tuple[Throttle, bool]:
    """Return the throttle after a step, and whether what was asked for is granted.

    That is a canary or a settlement; of every other step it is ``False``.
    """
    after, is_granted = _taken(throttle, step, now_ms)
    if after != throttle:
        after = replace(after, revision=throttle.revision + 1)
    return after, is_granted


def _taken(throttle: Throttle, step: ThrottleStep, now_ms: int) -> tuple[Throttle, bool]:
    match step:
        case Look():
            return throttle, False
        case CountDecided():
            return _count_decided(throttle, step, now_ms), False
        case PullBrake():
            return _pulled(throttle, BrakeCause.SETTLEMENTS, now_ms), False
        case ReserveSettlement():
            return _reserve(throttle, step, now_ms)
        case ReleaseBrake():
            return _released(throttle, step, now_ms), False
        case ReleaseAll():
            return _released_all(throttle, now_ms), False
        case CountGrants():
            return replace(throttle, grants=step.grants), False
        case CountRefusal():
            return _count_refusal(throttle, step, now_ms), False
        case CountAcceptance():
            return _accepted(throttle), False
        case TakeCanary():
            return _take_canary(throttle, step, now_ms)
        case _:
            assert_never(step)


def settlement_limit(*, chosen: int | None, throttle: Throttle, now_ms: int) -> int | None:
    """Return how many grants may be settled in one window; ``None``: any number.

    Args:
        chosen: The operator's own limit, if there is one.
        throttle: As it stands.
        now_ms: The store's clock.
    """
    if is_free(throttle, now_ms):
        return None
    by_number = max(LEAST_LIMIT, throttle.grants // GRANTS_OF_LIMIT)
    return chosen or min(by_number, MOST_LIMIT)


def is_free(throttle: Throttle, now_ms: int) -> bool:
    """Whether nothing pulls the brake, since a person let all go less than `FREE_MS` ago."""
    return is_running(throttle.free_until_ms, now_ms=now_ms, longest_ms=FREE_MS)


def running_trial(throttle: Throttle, now_ms: int) -> Trial | None:
    """Return what a release lets go now, or ``None``: the usual rules apply."""
    trial = throttle.trial
    if trial is None or throttle.is_braked or is_free(throttle, now_ms):
        return None
    return trial if trial.is_running(now_ms) else None


def _count_decided(throttle: Throttle, step: CountDecided, now_ms: int) -> Throttle:
    throttle = _without_old_trial(throttle, now_ms)
    number = now_ms // SLICE_MS
    # A slice of the future is of another clock.
    known = tuple(each for each in throttle.decided if each.number <= number)
    added = Slice(number=number, ended=step.decided, bad=step.denied)
    after = replace(throttle, decided=counted(known, added, slices=SLICES))
    trial = running_trial(after, now_ms)
    if trial is not None:
        trial = trial.noting(step.refused, Fate.DENIED).noting(step.paired, Fate.PAIR)
        return _tried(after, trial, now_ms)
    decided, denied = totals(after.decided)
    if decided >= LEAST_DECIDED and denied * DENIED_OF > decided:
        return _pulled(after, BrakeCause.DENIALS, now_ms)
    return after


def _without_old_trial(throttle: Throttle, now_ms: int) -> Throttle:
    """Return the throttle without a trial whose day is over; the usual rules begin afresh."""
    is_held = throttle.is_braked or is_free(throttle, now_ms)
    if throttle.trial is None or is_held or running_trial(throttle, now_ms) is not None:
        return throttle
    return replace(throttle, trial=None, decided=())


def _tried(throttle: Throttle, trial: Trial, now_ms: int) -> Throttle:
    """Return the throttle with a trial as it stands now; a full one ends."""
    if not trial.is_full:
        return replace(throttle, trial=trial)
    if trial.is_failed:
        return replace(throttle, trial=trial, braked_at_ms=now_ms, brake_cause=BrakeCause.TRIAL)
    return replace(throttle, trial=None, decided=())  # what it showed has been judged


def _reserve(throttle: Throttle, step: ReserveSettlement, now_ms: int) -> tuple[Throttle, bool]:
    trial = running_trial(throttle, now_ms)
    if trial is not None:
        return _tried(throttle, trial.noting((step.grant,), Fate.SETTLED), now_ms), True
    if throttle.brake_cause is BrakeCause.TRIAL and throttle.trial is not None:
        # It was the last one of the trial, and its answer was lost.
        return throttle, throttle.trial.is_settled(step.grant)
    return throttle, False


def _pulled(throttle: Throttle, cause: BrakeCause, now_ms: int) -> Throttle:
    if throttle.is_braked or is_free(throttle, now_ms) or running_trial(throttle, now_ms):
        return throttle
    return replace(throttle, braked_at_ms=now_ms, brake_cause=cause)


def _released(throttle: Throttle, step: ReleaseBrake, now_ms: int) -> Throttle:
    """Begin a trial; one that runs goes on, so that a second release lets no more go."""
    if not throttle.is_braked:
        return throttle
    return replace(
        throttle,
        braked_at_ms=0,
        brake_cause=None,
        free_until_ms=0,
        trial=Trial(limit=step.limit, began_at_ms=now_ms),
        decided=(),
    )


def _released_all(throttle: Throttle, now_ms: int) -> Throttle:
    if not throttle.is_braked and running_trial(throttle, now_ms) is None:
        return throttle
    return replace(
        throttle,
        braked_at_ms=0,
        brake_cause=None,
        free_until_ms=now_ms + FREE_MS,
        trial=None,
        decided=(),
    )


def _count_refusal(throttle: Throttle, step: CountRefusal, now_ms: int) -> Throttle:
    refusals = throttle.refusals + 1
    opens = refusals >= REFUSALS_TO_OPEN and not throttle.is_open
    return replace(
        throttle,
        refusals=refusals,
        refusal_reason=step.reason,
        opened_at_ms=now_ms if opens else throttle.opened_at_ms,
        canary_at_ms=now_ms + step.canary_ms,
    )


def _accepted(throttle: Throttle) -> Throttle:
    return replace(throttle, refusals=0, refusal_reason=None, opened_at_ms=0, canary_at_ms=0)


def _take_canary(throttle: Throttle, step: TakeCanary, now_ms: int) -> tuple[Throttle, bool]:
    if not throttle.is_open:
        return throttle, True
    if is_running(throttle.canary_at_ms, now_ms=now_ms, longest_ms=step.canary_ms):
        return throttle, False
    return replace(throttle, canary_at_ms=now_ms + step.canary_ms), True

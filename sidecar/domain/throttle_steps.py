"""The steps that can be taken on what holds a fleet back: values, in which nothing is decided.

What each does is in `sidecar.domain.throttle`, and once more in ``throttle.lua``.
"""

from __future__ import annotations

from dataclasses import dataclass

from sidecar.domain.failure import FailureReason
from sidecar.domain.record import GrantId


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Change nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CountDecided:
    """So many refreshes were decided, so many of them denied; may pull the brake.

    Attributes:
        paired: The grants whose refresh brought a pair, as far as a trial must know them.
        refused: Those whose refresh was denied.
    """

    decided: int
    denied: int
    paired: tuple[GrantId, ...] = ()
    refused: tuple[GrantId, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PullBrake:
    """One settlement more would be one too many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveSettlement:
    """A doubt is about to be settled: granted where it is one of those that a trial lets go.

    Where no trial runs and the brake is off, the usual limit decides.
    """

    grant: GrantId


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseBrake:
    """A person lets `limit` grants go; too many denials among them pull the brake again."""

    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseAll:
    """A person lets all go; nothing pulls the brake for `FREE_MS`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CountGrants:
    """There are so many grants."""

    grants: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CountRefusal:
    """Akoya refused the app itself; the next canary may leave after `canary_ms`."""

    reason: FailureReason
    canary_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CountAcceptance:
    """Akoya answered as it does to an app that it knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeCanary:
    """Ask to be the one that may try; the next one may after `canary_ms`."""

    canary_ms: int


ThrottleStep = (
    Look
    | CountDecided
    | PullBrake
    | ReserveSettlement
    | ReleaseBrake
    | ReleaseAll
    | CountGrants
    | CountRefusal
    | CountAcceptance
    | TakeCanary
)

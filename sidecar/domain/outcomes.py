"""How a wish for tokens ended: the values that the claim lane hands to its callers.

They hold tokens in the clear (masked in `repr`), so that a caller can be served before the store
knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sidecar.domain.record import GrantRecord, GrantState, StoredPair
from sidecar.domain.tokens import TokenFailure, TokenPair


class Obstacle(StrEnum):
    """Why there is no newer pair just now; each heals by itself or by an operator."""

    BUSY = "busy"
    """A peer holds the lease."""
    HELD = "held"
    """A claim may be in flight."""
    IN_DOUBT = "in_doubt"
    """Akoya denied the token, and the fleet looks for a newer one."""
    QUARANTINED = "quarantined"
    BACKING_OFF = "backing_off"
    STORE_AWAY = "store_away"
    SPOOL_AWAY = "spool_away"
    BREAKER_OPEN = "breaker_open"
    """Akoya refuses the app, or the bank's token requests fail."""
    BRAKE_ON = "brake_on"
    """Too many grants seemed to die at once: a person must look and let the brake go."""
    PROBE_WITHHELD = "probe_withheld"
    """A claim died with its owner, and nobody may ask again by itself (a setting)."""
    UNREADABLE = "unreadable"
    """The record is sealed with a key that this sidecar does not have."""
    FAILED = "failed"
    """The token service failed or could not be reached."""
    REPLAYING = "replaying"
    """The sidecar has just started: what its spool holds goes to the store before any claim."""
    DRAINING = "draining"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refreshed:
    """A pair that is durable here, whatever the store does now."""

    pair: StoredPair
    tokens: TokenPair


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundNewer:
    """The store has a newer pair than the one to be replaced."""

    record: GrantRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Postponed:
    """No newer pair now.

    Attributes:
        retry_in_s: When asking again may help.
        failure: What Akoya said, where it was asked.
        age_s: How long a doubt or a quarantine has lasted; how long ago a hold was last kept.
        is_cut_short: The caller's wait ended first: nothing is known of what it waited for.
    """

    obstacle: Obstacle
    retry_in_s: float
    failure: TokenFailure | None = None
    age_s: float = 0.0
    is_cut_short: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantGone:
    """There is nothing to refresh: a dead state, or ``None`` where there is no record.

    Attributes:
        failure: What Akoya said, where this claim ended the grant.
    """

    state: GrantState | None
    failure: TokenFailure | None = None


RefreshOutcome = Refreshed | FoundNewer | Postponed | GrantGone


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A first pair of a new consent is durable and in the store."""

    pair: StoredPair
    tokens: TokenPair
    is_new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Unchanged:
    """The imported pair is the stored one, or what became of it."""

    record: GrantRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantExists:
    """A live grant stands and the import did not claim to be newer."""

    record: GrantRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentSuperseded:
    """A newer consent of the same grant, or a revocation of this one, came in between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeFailed:
    """Akoya gave no pair for the code."""

    failure: TokenFailure


ObtainOutcome = Stored | ConsentSuperseded | ExchangeFailed | Postponed
ImportOutcome = Stored | Unchanged | GrantExists | ConsentSuperseded | Postponed


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationDone:
    """The grant is revoked here and at Akoya."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationKept:
    """The grant is served no more; Akoya will be told as soon as it can be.

    Attributes:
        failure: What Akoya said, where it was asked.
    """

    retry_in_s: float
    failure: TokenFailure | None = None


RevokeOutcome = RevocationDone | RevocationKept | GrantGone | Postponed

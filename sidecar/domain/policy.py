"""When to refresh, how long to wait, when to stop: the protocol's times and the rules on them.

Pure functions of instants, lives and a given random fraction; nothing here reads a clock or decides
what an answer means (see `token_wire`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sidecar.domain.bounds import LONGEST_WAIT_S
from sidecar.domain.events import LossCause
from sidecar.domain.failure import FailureReason
from sidecar.domain.record import GrantId, GrantRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolTimes:
    """The protocol's time constants in seconds; safety never rests on them.

    They bound how long a doubt lasts and how soon a stranger may ask again; `docs/explanation/
    refresh-protocol.md` says what each must satisfy. Tests shorten them by composition.
    """

    lease_s: float = 10.0
    send_window_s: float = 2.0
    hold_s: float = 300.0
    keep_every_s: float = 15.0
    quarantine_s: float = 60.0
    heal_s: float = 600.0
    slow_claim_s: float = 30.0
    watchdog_ticks: int = 600
    acquire_patience_s: float = 2.0
    owner_retry_pauses_s: tuple[float, ...] = (0.1, 0.5, 2.0)
    backoff_first_s: float = 0.2
    backoff_limit_s: float = 60.0
    unknown_backoff_limit_s: float = LONGEST_WAIT_S
    rate_limit_least_s: float = 1.0
    override_every_s: float = 30.0
    commit_retry_first_s: float = 0.05
    commit_retry_limit_s: float = 2.0
    peer_poll_first_s: float = 0.1
    peer_poll_factor: float = 1.6
    peer_poll_limit_s: float = 2.0
    housekeeping_every_s: float = 0.2
    store_probe_every_s: float = 1.0
    revoke_retry_s: float = 5.0
    cool_first_s: float = 30.0
    cool_limit_s: float = 3600.0
    young_token_s: float = 30.0
    store_check_every_s: float = 5.0
    canary_every_s: float = 30.0
    purge_after_s: float = 86400.0
    due_poll_s: float = 1.5
    ahead_least_s: float = 30.0
    use_flush_s: float = 10.0
    sweep_every_s: float = 600.0
    sweep_poll_s: float = 30.0

    def fault_pause_s(self, failures: int) -> float:
        """Return how long to wait after a fault of ours before the same is tried again."""
        first_s, limit_s = self.commit_retry_first_s, self.commit_retry_limit_s
        return backoff(failures=failures, fraction=0.0, first_s=first_s, limit_s=limit_s)


DEFAULT_LIFE_S: Final = 900
"""Life of an id_token that tells none: Akoya asks recipients to assume fifteen minutes."""

EXPIRY_MARGIN_S: Final = 5.0
"""A token this close to its end is not handed out: the request needs some time to arrive."""

LEAD_FRACTION: Final = 0.2
LEAD_FLOOR_S: Final = 60.0
LEAD_LIMIT_S: Final = 1800.0
LEAD_JITTER: Final = 0.1


class RefreshAhead(StrEnum):
    """Which grants are refreshed before their id_token expires."""

    ACTIVE = "active"
    """Those that somebody used not long ago."""
    ALL = "all"
    OFF = "off"
    """None: a grant is refreshed when it is used and its token has expired."""


class ProbePolicy(StrEnum):
    """Who may present a refresh token again whose answer died with its owner."""

    AFTER_HOLD = "after_hold"
    """Anybody, once the hold is over."""
    OWNER_ONLY = "owner_only"
    """The owner's own restart; a stranger where a person orders it."""
    MANUAL = "manual"
    """Nobody, but where a person orders it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshPolicy:
    """What operators may choose about refreshing.

    Attributes:
        lead_s: How long before expiry to refresh; ``None``: a fifth of the life, within bounds.
        ahead: Which grants are refreshed before they expire.
        active_window_s: How long after its last use a grant counts as in use.
        keepalive_s: How old a pair may become although nobody uses it; 0: as old as it likes.
        max_age_s: Upper bound on the trusted life of an id_token.
        wait_s: How long a request waits for a refresh.
        exchange_wait_s: How long a caller of the grants API waits for Akoya.
        probes: Who may present a token again whose answer died with its owner.
        brake_limit: Grants that may be settled in ten minutes; ``None``: by their number.
    """

    lead_s: float | None = None
    ahead: RefreshAhead = RefreshAhead.ACTIVE
    active_window_s: float = 86400.0
    keepalive_s: float = 0.0
    max_age_s: int = 86400
    wait_s: float = 10.0
    exchange_wait_s: float = 15.0
    probes: ProbePolicy = ProbePolicy.AFTER_HOLD
    brake_limit: int | None = None

    @property
    def is_ahead(self) -> bool:
        """Whether any token is refreshed before it expires."""
        return self.ahead is not RefreshAhead.OFF


class Freshness(StrEnum):
    """What a stored token is good for now."""

    FRESH = "fresh"
    STALE = "stale"
    """Still good; it is time to refresh it behind the caller's back."""
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizon:
    """When a token is due for a refresh, and when it is no longer handed out (store clock)."""

    refresh_at_ms: int
    expires_at_ms: int

    def assess(self, now_ms: int) -> Freshness:
        """Return what the token is good for at `now_ms`."""
        if now_ms >= self.expires_at_ms:
            return Freshness.EXPIRED
        return Freshness.STALE if now_ms >= self.refresh_at_ms else Freshness.FRESH


def horizon(
    *, expires_at_ms: int, committed_at_ms: int, jitter: float, policy: RefreshPolicy
) -> Horizon:
    """Return when a token that was committed and expires at these instants is due.

    `jitter` is the grant's own fraction in [0, 1), so that a fleet does not refresh at one instant.
    """
    life_s = max(0.0, (expires_at_ms - committed_at_ms) / 1000)
    lead_s = lead(life_s=life_s, jitter=jitter, policy=policy)
    margin_s = min(EXPIRY_MARGIN_S, life_s * LEAD_FRACTION / 2)
    usable_until_ms = expires_at_ms - int(margin_s * 1000)
    refresh_at_ms = expires_at_ms - int(lead_s * 1000) if policy.is_ahead else usable_until_ms
    return Horizon(refresh_at_ms=min(refresh_at_ms, usable_until_ms), expires_at_ms=usable_until_ms)


def believed_expiry_ms(*, expires_at_ms: int, committed_at_ms: int, policy: RefreshPolicy) -> int:
    """Return until when a stored token is trusted: `max_age_s` after its commit at most.

    The version that wrote the record may have had another bound, or none.
    """
    return min(expires_at_ms, committed_at_ms + policy.max_age_s * 1000)


def lead(*, life_s: float, jitter: float, policy: RefreshPolicy) -> float:
    """Return how long before expiry a token of `life_s` is refreshed: never above half its life."""
    wanted_s = policy.lead_s
    if wanted_s is None:
        wanted_s = min(max(life_s * LEAD_FRACTION, LEAD_FLOOR_S), LEAD_LIMIT_S)
    return min(wanted_s * (1 + LEAD_JITTER * jitter), life_s / 2)


def grant_jitter(grant: GrantId) -> float:
    """Return the grant's own fraction in [0, 1): the same on every peer."""
    return int(grant[:8], 16) / 2**32


def backoff(*, failures: int, fraction: float, first_s: float, limit_s: float) -> float:
    """Return a pause that doubles with each failure in a row, jittered down by at most a half."""
    pause_s = min(limit_s, first_s * 2.0 ** min(failures, 30))
    return pause_s * (1 - fraction / 2)


def loss_cause(record: GrantRecord) -> LossCause:
    """Tell why a denied grant has no successor, from the record at the end of its healing.

    `CONSENT_OR_EXPIRY` is no loss: the only presentation of a pair that was committed live was
    refused, so the consent ended at Akoya or at the bank (or another client spent the token, which
    looks the same on the wire).
    """
    if record.last_error is not None and record.last_error.reason == FailureReason.ROTATION_LOST:
        return LossCause.RESPONSE_LOST
    if record.is_probe:
        return LossCause.OWNER_DIED
    if record.committed_run_id != record.run_id:
        return LossCause.STORE_ROLLBACK
    return LossCause.RESPONSE_LOST if record.marks > 1 else LossCause.CONSENT_OR_EXPIRY

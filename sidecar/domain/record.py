"""The record of one grant: who, which consent, which generation, in which state.

One record holds everything the fleet knows about a grant, so that every transition touches one
key of the store. Instants ending in ``_at_ms``/``_until_ms`` are milliseconds on the *store's*
clock, the only clock that all peers share; 0 means "not set".

It decides nothing (see `sidecar.domain.transitions`) and does not know how it is stored or sealed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

GrantId = NewType("GrantId", str)
"""Keyed hash of (provider, user): names a grant in the store, in logs and nowhere a person."""

ConsentId = NewType("ConsentId", str)
"""Random 128 bits in hex: one act of consent of the end user (one code exchange or import)."""

ClaimId = NewType("ClaimId", str)
"""Random 128 bits in hex: one attempt to spend a refresh token; makes every script repeatable."""

RunId = NewType("RunId", str)
"""Redis' ``run_id``: names one incarnation of the store; it changes with a restart or failover."""

ReplicaId = NewType("ReplicaId", str)
"""Random id kept in the spool directory: survives a restart of the process."""

BootId = NewType("BootId", str)
"""Random id of one start of the process."""


class GrantState(StrEnum):
    """Where a grant stands in the refresh protocol."""

    ACTIVE = "active"
    LEASED = "leased"
    SENDING = "sending"
    IN_DOUBT = "in_doubt"
    REAUTH_REQUIRED = "reauth_required"
    REVOKING = "revoking"
    REVOKED = "revoked"

    @property
    def public(self) -> str:
        """The state as the grants API shows it: a leased or sending grant is ``refreshing``."""
        return "refreshing" if self in (GrantState.LEASED, GrantState.SENDING) else self.value

    @property
    def is_dead(self) -> bool:
        """Whether no token of this grant may be served or spent any more."""
        return self in DEAD_STATES


DEAD_STATES = frozenset({GrantState.REAUTH_REQUIRED, GrantState.REVOKING, GrantState.REVOKED})
PUBLIC_STATES = tuple(dict.fromkeys(state.public for state in GrantState))
"""Each state that the grants API shows, once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantKey:
    """Who a grant belongs to: the application's user id and Akoya's provider id."""

    user: str
    provider: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """One consent and its epoch; the later one (tie: the greater id) replaces the other."""

    id: ConsentId
    consented_at_ms: int

    @property
    def order(self) -> tuple[int, str]:
        """Sorts consents of one grant by which replaces which."""
        return (self.consented_at_ms, self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A point in the life of a grant: a generation of a consent."""

    consent_id: ConsentId
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPair:
    """One generation of a consent, as it lies in the store and the spool: sealed.

    Attributes:
        consent: The consent the pair belongs to.
        generation: 0 for the first pair of the consent, one more for each refresh.
        fingerprint: Keyed fingerprint of the refresh token; never logged.
        sealed_pair: Envelope of both tokens; a pair is never split.
        sealed_key: Envelope of (user, provider), so that a list can name them.
        expires_at_ms: Until when the id_token is trusted, on the store's clock; 0: not at all.
        issued_at_s: ``iat`` of the id_token on the identity provider's clock, or 0.
    """

    consent: Consent
    generation: int
    fingerprint: str = field(repr=False)
    sealed_pair: bytes = field(repr=False)
    sealed_key: bytes = field(repr=False)
    expires_at_ms: int
    issued_at_s: int

    @property
    def position(self) -> Position:
        """The consent and generation of this pair."""
        return Position(consent_id=self.consent.id, generation=self.generation)

    @property
    def order(self) -> tuple[int, str, int]:
        """Sorts pairs of one grant: newer consent first decides, then the generation."""
        return (*self.consent.order, self.generation)


@dataclass(frozen=True, slots=True, kw_only=True)
class LastError:
    """The last failed token request of a grant, as the grants API shows it."""

    operation: str
    reason: str
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantRecord:
    """Everything the fleet knows about one grant.

    Attributes:
        pair: The newest pair known to the store; a tombstone (``revoked``) keeps its position only,
            with both envelopes of tokens empty.
        state: Where the protocol stands.
        claim_id: The running claim, in ``leased`` and ``sending`` (and kept by ``revoking``
            while one runs).
        replica_id: Its owner's spool. In ``active``: the spool that proved the owner of an answer
            which was never seen to be dead, and may ask again.
        boot_id: Its owner's process.
        lease_until_ms: End of the lease; meaningful in ``leased`` only.
        marked_at_ms: When ``sending`` began.
        hold_until_ms: In ``sending``: from when a stranger may probe. In ``in_doubt``: end of
            healing.
        marks: How often a claim of this generation may have left a sidecar.
        is_probe: A claim of this generation has no end, and nobody is known to hold its answer: the
            lease, or the next one, or the denial in ``in_doubt`` follows it.
        run_id: Incarnation of the store at the last lease step.
        committed_run_id: Incarnation in which this generation was both marked and committed live
            (or obtained or imported); empty after a replay.
        quarantine_until_ms: No claim before this instant, since the store may have lost writes.
        not_before_ms: Backoff after a failure.
        overridden_at_ms: When an operator's order last skipped the backoff.
        failures: Failures in a row.
        last_error: The last failed token request.
        committed_at_ms: When this generation was committed.
        changed_at_ms: When ``state`` last became in_doubt, reauth_required, revoking or revoked.
        cool_until_ms: Until when a 401 of a data call starts no refresh.
        cool_count: How many cool-downs followed one another.
        cool_product: The product whose 401 opened the cool-down.
    """

    pair: StoredPair
    state: GrantState = GrantState.ACTIVE
    claim_id: ClaimId | None = None
    replica_id: ReplicaId | None = None
    boot_id: BootId | None = None
    lease_until_ms: int = 0
    marked_at_ms: int = 0
    hold_until_ms: int = 0
    marks: int = 0
    is_probe: bool = False
    run_id: RunId | None = None
    committed_run_id: RunId | None = None
    quarantine_until_ms: int = 0
    not_before_ms: int = 0
    overridden_at_ms: int = 0
    failures: int = 0
    last_error: LastError | None = None
    committed_at_ms: int = 0
    changed_at_ms: int = 0
    cool_until_ms: int = 0
    cool_count: int = 0
    cool_product: str = ""

    @property
    def position(self) -> Position:
        """The consent and generation this record stands at."""
        return self.pair.position

"""What can be asked of a grant's record, and what can come back.

A command is applied to one record in one step at one `Moment`; its type parameter names the
verdicts it can give. Every command is safe to apply twice in a row: the record is the same
afterwards and the second verdict means the same to the caller, so a lost reply is repaired by
asking again.

The rules are in `sidecar.domain.transitions`, and once more as ``.lua`` scripts in the store.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from sidecar.domain.record import (
    BootId,
    ClaimId,
    Consent,
    ConsentId,
    GrantRecord,
    GrantState,
    LastError,
    Position,
    ReplicaId,
    RunId,
    StoredPair,
)

VerdictT_co = TypeVar("VerdictT_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Where and when a command is applied: the store's clock and the store's incarnation."""

    now_ms: int
    run_id: RunId


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """That the store lives: its clock, and the incarnation of each of its servers that answers."""

    now_ms: int
    run_ids: frozenset[RunId]


@dataclass(frozen=True, slots=True, kw_only=True)
class Incarnation:
    """An incarnation of the store and when the fleet first met it (store clock)."""

    run_id: RunId
    met_at_ms: int


class Command(Generic[VerdictT_co]):
    """One step on one record; the parameter is the union of its verdicts."""

    __slots__ = ()


# --- verdicts -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """There is no record of this grant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dead:
    """The grant is ``reauth_required``, ``revoking`` or ``revoked``."""

    state: GrantState


@dataclass(frozen=True, slots=True, kw_only=True)
class Fresh:
    """Another claim or a new consent already replaced what the caller wanted replaced."""

    record: GrantRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Leased:
    """The caller holds the lease and may mark; nothing has been sent for it yet."""

    record: GrantRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class NewIncarnation:
    """The store runs an incarnation that the caller has not announced yet: announce, ask again."""

    run_id: RunId


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """The store may have lost writes; no claim before ``until_ms``."""

    until_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A claim may be in flight; ask again at ``until_ms``."""

    until_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubted:
    """The fleet checks a denial, since ``since_ms``; ask again at ``until_ms``."""

    until_ms: int
    since_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HealingOver:
    """The grant is in doubt and nobody healed it in time: it may be settled."""

    record: GrantRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class BackingOff:
    """A failure asked for patience until ``until_ms``; an order that came too soon, until then."""

    until_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """Another claim holds the lease until ``until_ms``; nothing was sent for it yet."""

    until_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeWithheld:
    """A claim's owner is gone and its hold is over; the caller may not ask again for it."""


AcquireVerdict = (
    Missing
    | Dead
    | Fresh
    | Leased
    | NewIncarnation
    | Quarantined
    | Held
    | Doubted
    | HealingOver
    | BackingOff
    | Busy
    | ProbeWithheld
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The step was taken (now, or by an earlier call with the same claim)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The step does not apply: the record moved on, the lease ended or the store changed."""


StepVerdict = Done | Refused
SettleVerdict = Done | Dead | Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """The pair is the newest in the store.

    Attributes:
        was: The state it replaced; ``None`` where there was no record or an older consent.
        is_gap: Whether the store never saw a generation between the stored one and this.
    """

    was: GrantState | None
    is_gap: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Stale:
    """The store has a newer generation of this consent: the copy is worthless."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicate:
    """The store has this very pair."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forked:
    """Two pairs of one generation exist (a grace window of the IdP); the later ``iat`` was kept."""

    is_ours_kept: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Superseded:
    """A newer consent stands: the copy or order is worthless. Never revoke it at the IdP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeSuccessor:
    """The grant is to be revoked; the pair was stored only so that it can be revoked at the IdP."""


CommitVerdict = Committed | Stale | Duplicate | Forked | Superseded | RevokeSuccessor


@dataclass(frozen=True, slots=True, kw_only=True)
class Healed:
    """The store has a newer pair than the denied one: use it."""

    record: GrantRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanlyDenied:
    """Provably nobody holds a successor: the denial may be settled at once (after the brake)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InDoubt:
    """Somebody may hold a successor: the fleet has until ``until_ms`` to bring it."""

    until_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BeingRevoked:
    """The grant is being revoked; the denial changes nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotOurs:
    """Another claim owns the record by now: read it again and stop."""


DenyVerdict = Missing | Healed | CleanlyDenied | InDoubt | BeingRevoked | NotOurs


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationBegun:
    """The grant is ``revoking`` and is served no more.

    Attributes:
        record: The record with the newest pair the store knows.
        in_flight_until_ms: While a claim may be in flight, the end of its hold; else 0.
    """

    record: GrantRecord
    in_flight_until_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AlreadyRevoked:
    """The tombstone of this consent stands."""


RevokeBeginVerdict = RevocationBegun | AlreadyRevoked | Superseded


@dataclass(frozen=True, slots=True, kw_only=True)
class Invalidated:
    """The grant is ``reauth_required`` now."""

    was: GrantState


InvalidateVerdict = Missing | Dead | Invalidated


@dataclass(frozen=True, slots=True, kw_only=True)
class Cooling:
    """A 401 of a data call starts no refresh before ``until_ms``."""

    until_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Purged:
    """Nothing of the grant is left in the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotPurged:
    """Only a grant that has been ``revoked`` for long enough can be purged.

    Attributes:
        state: Its state now.
        wait_ms: How long until it can be purged, where waiting helps; else 0.
    """

    state: GrantState
    wait_ms: int


# --- commands -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Acquire(Command[AcquireVerdict]):
    """Take the lease of a grant whose `known` position the caller wants replaced.

    Attributes:
        incarnation: The incarnation the caller has announced to the fleet, if any.
        quarantine_ms: How long claims stop after the store's incarnation was first met.
        may_probe: Whether the caller may present a token again whose answer nobody is known to
            hold.
        override_every_ms: An operator's order skips the backoff, unless another one did so less
            than this long ago; 0: it is no such order. Nothing else is skipped.
        may_go_on: Whether it may do so at least where its own spool proved the former owner dead,
            and it gave back the claim that it made then.
    """

    claim_id: ClaimId
    replica_id: ReplicaId
    boot_id: BootId
    known: Position
    incarnation: Incarnation | None
    lease_ms: int
    quarantine_ms: int
    may_probe: bool = True
    override_every_ms: int = 0
    may_go_on: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkSending(Command[StepVerdict]):
    """Record, before the first byte leaves, that the refresh token may be spent from now on."""

    claim_id: ClaimId
    position: Position
    hold_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepHold(Command[StepVerdict]):
    """Say that the claim is still in flight; a refusal never stops the reader of the answer."""

    claim_id: ClaimId
    hold_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Release(Command[StepVerdict]):
    """Give the lease back where no successor can appear any more.

    A claim that began as a probe leaves the grant marked: whoever comes next probes too, since the
    owner of the answer that was never seen may still have it.

    Attributes:
        is_unspent: The request surely was not processed, so the mark does not count.
        is_orphan: The claim was that of a dead process of the caller's spool, which may go on.
        backoff_ms: No claim for this long from now, `LONGEST_WAIT_MS` at most; 0: none.
        error: What went wrong, with any ``at_ms`` (the store's clock is put in its place).
    """

    claim_id: ClaimId
    is_unspent: bool
    backoff_ms: int
    error: LastError | None
    is_orphan: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit(Command[CommitVerdict]):
    """Make `pair` the newest one if it is; never looks at a lease.

    Attributes:
        claim_id: The claim that brought it, ``None`` for a first pair or a replay.
        is_live: It comes straight from the IdP or an import, not from a spool. A first pair that
            was offered before comes from nowhere better than a spool: the store may have had it.
    """

    pair: StoredPair
    claim_id: ClaimId | None
    is_live: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Deny(Command[DenyVerdict]):
    """The IdP said that the refresh token of `position` is invalid or already claimed.

    Attributes:
        is_sole: The claim sent its request exactly once.
        heal_ms: How long the fleet has to bring a successor, unless the denial is clean.
    """

    claim_id: ClaimId
    position: Position
    is_sole: bool
    heal_ms: int
    error: LastError


@dataclass(frozen=True, slots=True, kw_only=True)
class Settle(Command[SettleVerdict]):
    """Turn a doubt whose healing time is over into ``reauth_required``.

    `Done` comes to one caller alone, who tells it; `Dead` to each that comes later.
    """

    position: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptOrphan(Command[Leased | Refused]):
    """Take over, at once, the claim of a dead process whose spool the caller holds."""

    orphan_claim_id: ClaimId
    replica_id: ReplicaId
    claim_id: ClaimId
    boot_id: BootId
    lease_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginRevocation(Command[RevokeBeginVerdict]):
    """Stop serving the grant; the order names its consent, so it can never hit a newer one."""

    consent: Consent


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishRevocation(Command[StepVerdict]):
    """The IdP was told with the token of `position`; erase the tokens and leave a tombstone."""

    position: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrap(Command[StepVerdict]):
    """Replace the envelopes of the very same pair by ones sealed with another key."""

    position: Position
    fingerprint: str
    sealed_pair: bytes
    sealed_key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Invalidate(Command[InvalidateVerdict]):
    """Mark the grant ``reauth_required`` without asking the IdP (a consent webhook says so)."""

    error: LastError


@dataclass(frozen=True, slots=True, kw_only=True)
class CoolDown(Command[Missing | Refused | Cooling]):
    """Open a cool-down of 401 heals: `base_ms`, doubling with each to `limit_ms`; one at a time."""

    consent_id: ConsentId
    product: str
    base_ms: int
    limit_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EndCoolDown(Command[StepVerdict]):
    """A 2xx on the product that opened the cool-down ends it and forgets its doubling."""

    consent_id: ConsentId
    product: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Purge(Command[Missing | Purged | NotPurged]):
    """Erase the tombstone of a grant revoked at least `min_age_ms` ago."""

    min_age_ms: int

"""Records and commands for examples: small, readable and with every default in one place."""

from __future__ import annotations

from typing import Final

from sidecar.domain import transitions
from sidecar.domain.commands import (
    Acquire,
    BeginRevocation,
    Commit,
    Deny,
    FinishRevocation,
    Incarnation,
    Leased,
    MarkSending,
    Moment,
    Release,
)
from sidecar.domain.record import (
    BootId,
    ClaimId,
    Consent,
    ConsentId,
    GrantRecord,
    LastError,
    Position,
    ReplicaId,
    RunId,
    StoredPair,
)
from sidecar.domain.transitions import AnyCommand

NOW: Final = 1_700_000_000_000
RUN: Final = RunId("a1" * 20)
OTHER_RUN: Final = RunId("b2" * 20)
CONSENT: Final = Consent(id=ConsentId("c1" * 16), consented_at_ms=NOW - 1_000_000)
NEWER_CONSENT: Final = Consent(id=ConsentId("c2" * 16), consented_at_ms=NOW - 500_000)
MINE: Final = ClaimId("d1" * 16)
THEIRS: Final = ClaimId("d2" * 16)
MY_REPLICA: Final = ReplicaId("e1" * 16)
THEIR_REPLICA: Final = ReplicaId("e2" * 16)
BOOT: Final = BootId("f1" * 16)
DENIED: Final = LastError(operation="refresh", reason="refresh_token_rejected", at_ms=0)
LEASE_MS: Final = 10_000
HOLD_MS: Final = 300_000
HEAL_MS: Final = 600_000
QUARANTINE_MS: Final = 60_000


def at(offset_ms: int = 0, run_id: RunId = RUN) -> Moment:
    """Return the moment so long after `NOW`."""
    return Moment(now_ms=NOW + offset_ms, run_id=run_id)


def pair(generation: int = 0, consent: Consent = CONSENT, *, branch: str = "") -> StoredPair:
    """Return a pair; another `branch` is another token of the same generation."""
    name = f"{consent.id}-{generation}{branch}"
    return StoredPair(
        consent=consent,
        generation=generation,
        fingerprint=f"fp-{name}",
        sealed_pair=f"sealed-{name}".encode(),
        sealed_key=b"sealed-key",
        expires_at_ms=NOW + 900_000,
        issued_at_s=NOW // 1000 + generation,
    )


START: Final = pair().position


def active(generation: int = 0, consent: Consent = CONSENT) -> GrantRecord:
    """Return a record whose pair was committed live in `RUN`, at `NOW`."""
    return GrantRecord(
        pair=pair(generation, consent), run_id=RUN, committed_run_id=RUN, committed_at_ms=NOW
    )


def acquire(known: Position, claim_id: ClaimId = MINE, met: Incarnation | None = None) -> Acquire:
    """Return the command by which `claim_id` asks for the lease."""
    return Acquire(
        claim_id=claim_id,
        replica_id=MY_REPLICA if claim_id == MINE else THEIR_REPLICA,
        boot_id=BOOT,
        known=known,
        incarnation=met or Incarnation(run_id=RUN, met_at_ms=NOW - 10 * QUARANTINE_MS),
        lease_ms=LEASE_MS,
        quarantine_ms=QUARANTINE_MS,
    )


def mark(position: Position, claim_id: ClaimId = MINE) -> MarkSending:
    """Return the mark of a claim."""
    return MarkSending(claim_id=claim_id, position=position, hold_ms=HOLD_MS)


def live(brought: StoredPair, claim_id: ClaimId | None = MINE) -> Commit:
    """Return the commit of a pair that comes straight from the identity provider."""
    return Commit(pair=brought, claim_id=claim_id, is_live=True)


def replay(brought: StoredPair) -> Commit:
    """Return the commit of a pair out of a spool."""
    return Commit(pair=brought, claim_id=None, is_live=False)


def deny(position: Position, claim_id: ClaimId = MINE, *, is_sole: bool = True) -> Deny:
    """Return the denial of a claim's token."""
    return Deny(
        claim_id=claim_id, position=position, is_sole=is_sole, heal_ms=HEAL_MS, error=DENIED
    )


def release(
    claim_id: ClaimId = MINE,
    *,
    is_unspent: bool = False,
    backoff_ms: int = 0,
    error: LastError | None = None,
) -> Release:
    """Return the release of a claim."""
    return Release(claim_id=claim_id, is_unspent=is_unspent, backoff_ms=backoff_ms, error=error)


def after(record: GrantRecord | None, *steps: tuple[AnyCommand, Moment]) -> GrantRecord:
    """Return the record after the steps, whatever they answered."""
    for command, moment in steps:
        record, _ = transitions.apply(record, command, moment)
    assert record is not None
    return record


def leased(claim_id: ClaimId = MINE, generation: int = 0) -> GrantRecord:
    """Return an active record after `claim_id` took its lease at `NOW`."""
    start = active(generation)
    record, verdict = transitions.apply(start, acquire(start.position, claim_id), at())
    assert isinstance(verdict, Leased)
    assert record is not None
    return record


def sending(claim_id: ClaimId = MINE, generation: int = 0) -> GrantRecord:
    """Return a record whose claim was marked at `NOW`."""
    record = leased(claim_id, generation)
    return after(record, (mark(record.position, claim_id), at()))


def in_doubt(*, is_clean: bool = False) -> GrantRecord:
    """Return a record whose token was denied at `NOW`."""
    record = sending()
    return after(record, (deny(record.position, is_sole=is_clean), at()))


def revoking(record: GrantRecord) -> GrantRecord:
    """Return the record after an order to revoke its consent at `NOW`."""
    return after(record, (BeginRevocation(consent=record.pair.consent), at()))


def revoked() -> GrantRecord:
    """Return the tombstone of a grant revoked at `NOW`."""
    return after(revoking(active()), (FinishRevocation(position=START), at()))

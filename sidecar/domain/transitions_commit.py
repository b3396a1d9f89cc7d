"""Which pair of a grant is the newest: commit, and the re-sealing of a pair.

Decides by the order of consents and then by the generation, and by nothing else: whoever brings
the newer pair holds the only live token in the world, so neither a lease nor a state can refuse
it. Does not know leases, holds or what is inside an envelope.

Only a claim that was marked and committed in the running incarnation of the store, and the first
pair of a consent, prove that nobody else holds something newer. Every other pair (a replay from a
spool, a commit repeated across a failover) leaves the record's incarnation and quarantine as they
are: it may be an older copy than the one a slower peer is about to replay.
"""

from __future__ import annotations

from dataclasses import replace

from sidecar.domain.commands import (
    Commit,
    Committed,
    CommitVerdict,
    Done,
    Duplicate,
    Forked,
    Moment,
    Refused,
    RevokeSuccessor,
    Rewrap,
    Stale,
    StepVerdict,
    Superseded,
)
from sidecar.domain.record import GrantRecord, GrantState, RunId, StoredPair
from sidecar.domain.transitions_claim import without_claim


def commit(
    record: GrantRecord | None, command: Commit, moment: Moment
) -> tuple[GrantRecord | None, CommitVerdict]:
    """Make the pair the newest one, if it is; a pair born under a revocation is to be revoked."""
    ours = command.pair
    if record is None:
        stored = _stored(GrantRecord(pair=ours), command, moment)
        return stored, Committed(was=None, is_gap=False)
    stands = record.pair
    if ours.consent.id != stands.consent.id:
        if ours.consent.order < stands.consent.order:
            return record, Superseded()
        stored = _stored(_without_cool_down(record), command, moment)
        return stored, Committed(was=None, is_gap=False)
    if ours.generation < stands.generation:
        return record, Stale()
    if ours.generation == stands.generation:
        return _compare(record, ours, moment)
    stored = _stored(record, command, moment)
    if record.state in (GrantState.REVOKING, GrantState.REVOKED):
        return _to_revoke(record, stored, moment), RevokeSuccessor()
    return stored, Committed(was=record.state, is_gap=ours.generation > stands.generation + 1)


def verdict_on_copy(record: GrantRecord | None, pair: StoredPair) -> CommitVerdict | None:
    """Return what a copy from a spool comes to where it changes nothing; ``None``: it is news."""
    anywhen = Moment(now_ms=0, run_id=RunId(""))
    offered = Commit(pair=pair, claim_id=None, is_live=False)
    after, verdict = commit(record, offered, anywhen)
    return verdict if after == record else None


def _stored(record: GrantRecord, command: Commit, moment: Moment) -> GrantRecord:
    is_first = command.is_live and command.pair.generation == 0
    is_proven = is_first or _is_marked_here(record, command, moment)
    consent = command.pair.consent
    if record.pair.consent.id == consent.id:
        consent = record.pair.consent  # the instant of a consent never changes
    return replace(
        without_claim(record),
        pair=replace(command.pair, consent=consent),
        state=GrantState.ACTIVE,
        marks=0,
        run_id=moment.run_id if is_first else record.run_id,
        committed_run_id=moment.run_id if is_proven else None,
        quarantine_until_ms=0 if is_first else record.quarantine_until_ms,
        not_before_ms=0,
        failures=0,
        committed_at_ms=moment.now_ms,
    )


def _is_marked_here(record: GrantRecord, command: Commit, moment: Moment) -> bool:
    return (
        command.is_live
        and command.claim_id is not None
        and record.state is GrantState.SENDING
        and record.claim_id == command.claim_id
        and record.run_id == moment.run_id
        and record.quarantine_until_ms == 0
    )


def _without_cool_down(record: GrantRecord) -> GrantRecord:
    return replace(record, cool_until_ms=0, cool_count=0, cool_product="")


def _to_revoke(record: GrantRecord, stored: GrantRecord, moment: Moment) -> GrantRecord:
    was_revoking = record.state is GrantState.REVOKING
    return replace(
        stored,
        state=GrantState.REVOKING,
        changed_at_ms=record.changed_at_ms if was_revoking else moment.now_ms,
    )


def _compare(
    record: GrantRecord, ours: StoredPair, moment: Moment
) -> tuple[GrantRecord, CommitVerdict]:
    """Two pairs of one generation: the same one, or a fork by a grace window of the IdP."""
    stands = record.pair
    is_ending = record.state in (GrantState.REVOKING, GrantState.REVOKED)
    if ours.fingerprint == stands.fingerprint:
        # An answer that got lost must come again: the pair is still to be revoked.
        is_unrevoked = record.state is GrantState.REVOKING
        return record, RevokeSuccessor() if is_unrevoked else Duplicate()
    if ours.issued_at_s <= stands.issued_at_s:
        return record, Forked(is_ours_kept=False)
    kept = replace(
        record,
        pair=replace(ours, consent=stands.consent),
        committed_run_id=None,
        committed_at_ms=moment.now_ms,
    )
    if is_ending:
        return _to_revoke(record, kept, moment), RevokeSuccessor()
    if record.state in (GrantState.IN_DOUBT, GrantState.REAUTH_REQUIRED):
        # What was denied was the other token.
        kept = replace(without_claim(kept), state=GrantState.ACTIVE, marks=0)
    return kept, Forked(is_ours_kept=True)


def rewrap(
    record: GrantRecord | None, command: Rewrap, _moment: Moment
) -> tuple[GrantRecord | None, StepVerdict]:
    """Replace the envelopes of the very pair that stands; never bring back an erased one.

    A tombstone has no tokens, but its owner's name is sealed too.
    """
    if (
        record is None
        or record.position != command.position
        or record.pair.fingerprint != command.fingerprint
        or bool(record.pair.sealed_pair) != bool(command.sealed_pair)
    ):
        return record, Refused()
    pair = replace(record.pair, sealed_pair=command.sealed_pair, sealed_key=command.sealed_key)
    return replace(record, pair=pair), Done()

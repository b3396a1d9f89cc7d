"""How a grant ends on purpose: the order to revoke, its tombstone, and its erasure.

An order names its consent, so it can never hit a newer one, and it leaves a record even where
there was none: a pair that was on its way then meets the tombstone and is revoked, not served.
Does not know how the identity provider is told.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from sidecar.domain.commands import (
    AlreadyRevoked,
    BeginRevocation,
    Done,
    FinishRevocation,
    Missing,
    Moment,
    NotPurged,
    Purge,
    Purged,
    Refused,
    RevocationBegun,
    RevokeBeginVerdict,
    StepVerdict,
    Superseded,
)
from sidecar.domain.record import Consent, GrantRecord, GrantState, StoredPair
from sidecar.domain.transitions_claim import bounded, without_claim

BEFORE_FIRST_PAIR: Final = -1
"""The generation of a tombstone whose consent never brought a pair to the store."""


def begin_revocation(
    record: GrantRecord | None, command: BeginRevocation, moment: Moment
) -> tuple[GrantRecord | None, RevokeBeginVerdict]:
    """Stop serving the consent, or say that it is over or replaced."""
    ordered = command.consent
    if record is None:
        return _begun(_tombstone(ordered, b"", moment), moment)
    stands = record.pair.consent
    if stands.id != ordered.id:
        if ordered.order < stands.order:
            return record, Superseded()
        return _begun(_tombstone(ordered, record.pair.sealed_key, moment), moment)
    if record.state is GrantState.REVOKED:
        return record, AlreadyRevoked()
    record = bounded(record, moment.now_ms)
    match record.state:
        case GrantState.REVOKING:
            return _begun(record, moment)
        case GrantState.SENDING:  # its successor may still come: its owner and its hold are kept
            kept = record
        case _:
            kept = without_claim(record)
    revoking = replace(kept, state=GrantState.REVOKING, changed_at_ms=moment.now_ms)
    return _begun(revoking, moment)


def _tombstone(consent: Consent, sealed_key: bytes, moment: Moment) -> GrantRecord:
    return GrantRecord(
        pair=StoredPair(
            consent=consent,
            generation=BEFORE_FIRST_PAIR,
            fingerprint="",
            sealed_pair=b"",
            sealed_key=sealed_key,
            expires_at_ms=0,
            issued_at_s=0,
        ),
        state=GrantState.REVOKING,
        changed_at_ms=moment.now_ms,
    )


def _begun(record: GrantRecord, moment: Moment) -> tuple[GrantRecord, RevocationBegun]:
    is_in_flight = record.claim_id is not None and record.hold_until_ms > moment.now_ms
    in_flight_until_ms = record.hold_until_ms if is_in_flight else 0
    return record, RevocationBegun(record=record, in_flight_until_ms=in_flight_until_ms)


def finish_revocation(
    record: GrantRecord | None, command: FinishRevocation, moment: Moment
) -> tuple[GrantRecord | None, StepVerdict]:
    """Erase the tokens once the identity provider was told with the newest of them."""
    if record is None or record.position != command.position:
        return record, Refused()
    if record.state is GrantState.REVOKED:
        return record, Done()
    if record.state is not GrantState.REVOKING:
        return record, Refused()
    revoked = replace(
        without_claim(record),
        pair=replace(record.pair, sealed_pair=b"", expires_at_ms=0),
        state=GrantState.REVOKED,
        changed_at_ms=moment.now_ms,
    )
    return revoked, Done()


def purge(
    record: GrantRecord | None, command: Purge, moment: Moment
) -> tuple[GrantRecord | None, Missing | Purged | NotPurged]:
    """Erase a tombstone old enough that no copy of its pairs is on its way any more."""
    if record is None:
        return None, Missing()
    if record.state is not GrantState.REVOKED:
        return record, NotPurged(state=record.state, wait_ms=0)
    record = bounded(record, moment.now_ms)
    wait_ms = record.changed_at_ms + command.min_age_ms - moment.now_ms
    if wait_ms > 0:
        return record, NotPurged(state=record.state, wait_ms=wait_ms)
    return None, Purged()

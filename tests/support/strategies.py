"""Hypothesis strategies for the values of the domain."""

from __future__ import annotations

from hypothesis import strategies as st

from sidecar.domain.record import (
    BootId,
    ClaimId,
    Consent,
    ConsentId,
    GrantRecord,
    GrantState,
    LastError,
    ReplicaId,
    RunId,
    StoredPair,
)

chances = st.randoms(use_true_random=False)
"""A `random.Random` whose choices Hypothesis makes, records and shrinks."""

_texts = st.text(st.characters(codec="utf-8"), max_size=6)
_numbers = st.integers(-(2**53) + 1, 2**53 - 1)


@st.composite
def records(draw: st.DrawFn) -> GrantRecord:
    """Draw any record at all, possible or not."""
    some_error = st.builds(LastError, operation=_texts, reason=_texts, at_ms=_numbers)
    return GrantRecord(
        pair=StoredPair(
            consent=Consent(id=ConsentId(draw(_texts)), consented_at_ms=draw(_numbers)),
            generation=draw(_numbers),
            fingerprint=draw(_texts),
            sealed_pair=draw(st.binary(max_size=6)),
            sealed_key=draw(st.binary(max_size=6)),
            expires_at_ms=draw(_numbers),
            issued_at_s=draw(_numbers),
        ),
        state=draw(st.sampled_from(GrantState)),
        claim_id=draw(st.none() | _texts.map(ClaimId)),
        replica_id=draw(st.none() | _texts.map(ReplicaId)),
        boot_id=draw(st.none() | _texts.map(BootId)),
        lease_until_ms=draw(_numbers),
        marked_at_ms=draw(_numbers),
        hold_until_ms=draw(_numbers),
        marks=draw(_numbers),
        is_probe=draw(st.booleans()),
        run_id=draw(st.none() | _texts.map(RunId)),
        committed_run_id=draw(st.none() | _texts.map(RunId)),
        quarantine_until_ms=draw(_numbers),
        not_before_ms=draw(_numbers),
        overridden_at_ms=draw(_numbers),
        failures=draw(_numbers),
        last_error=draw(st.none() | some_error),
        committed_at_ms=draw(_numbers),
        changed_at_ms=draw(_numbers),
        cool_until_ms=draw(_numbers),
        cool_count=draw(_numbers),
        cool_product=draw(_texts),
    )

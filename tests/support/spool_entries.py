"""Entries of a spool for tests: a few by hand, and any at all by Hypothesis.

It must not know a spool.
"""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import strategies as st

from sidecar.domain.record import (
    ClaimId,
    Consent,
    ConsentId,
    GrantId,
    Position,
    ReplicaId,
    StoredPair,
)
from sidecar.domain.spooled import (
    AnswerReceived,
    ClaimEnded,
    ClaimIntended,
    ConsentEnded,
    PairConfirmed,
    PairForgotten,
    PairReceived,
    RevocationOrdered,
    RevocationSettled,
    SpoolEntry,
    SpoolState,
)

GRANT = GrantId("0a" * 16)
OTHER_GRANT = GrantId("0b" * 16)
CLAIM = ClaimId("c1" * 16)
OTHER_CLAIM = ClaimId("c2" * 16)
REPLICA = ReplicaId("5e" * 16)
OLD_CONSENT = Consent(id=ConsentId("d1" * 16), consented_at_ms=1_000)
CONSENT = Consent(id=ConsentId("d2" * 16), consented_at_ms=2_000)


def pair(
    generation: int,
    *,
    grant: GrantId = GRANT,
    consent: Consent = CONSENT,
    claim_id: ClaimId | None = None,
    sealed_pair: bytes = b"sealed pair",
) -> PairReceived:
    """Return the entry of a pair; pairs of one generation are the same unless changed."""
    return PairReceived(
        grant=grant,
        claim_id=claim_id,
        pair=StoredPair(
            consent=consent,
            generation=generation,
            fingerprint=f"{generation:032x}",
            sealed_pair=sealed_pair,
            sealed_key=b"sealed key",
            expires_at_ms=1_700_000_900_000,
            issued_at_s=1_700_000_000,
        ),
    )


def position(generation: int, *, consent: Consent = CONSENT) -> Position:
    """Return a generation of a consent."""
    return Position(consent_id=consent.id, generation=generation)


def confirmed(generation: int, *, grant: GrantId = GRANT) -> PairConfirmed:
    """Return the entry that the store took this generation."""
    return PairConfirmed(grant=grant, position=position(generation))


def forgotten(generation: int, *, consent: Consent = CONSENT) -> PairForgotten:
    """Return the entry that copies up to this generation are worthless."""
    return PairForgotten(grant=GRANT, position=position(generation, consent=consent))


def intent(claim_id: ClaimId = CLAIM, *, grant: GrantId = GRANT) -> ClaimIntended:
    """Return the entry that a claim may leave."""
    return ClaimIntended(grant=grant, claim_id=claim_id, replica_id=REPLICA, position=position(4))


def answer(claim_id: ClaimId = CLAIM, *, sealed: bytes = b"sealed answer") -> AnswerReceived:
    """Return the entry of a raw answer."""
    return AnswerReceived(
        grant=GRANT,
        claim_id=claim_id,
        position=position(4),
        consent=CONSENT,
        sealed_key=b"sealed key",
        sealed_answer=sealed,
        sent_at_ms=1_700_000_000_123,
    )


def fold(entries: Iterable[SpoolEntry], *, at_s: float = 1.0) -> SpoolState:
    """Return what entries add up to that were all written at one instant."""
    state = SpoolState()
    for entry in entries:
        state.apply(entry, at_s=at_s)
    return state


_grants = st.sampled_from([GRANT, OTHER_GRANT])
_claims = st.sampled_from([CLAIM, OTHER_CLAIM, ClaimId("c3" * 16)])
_consents = st.sampled_from([OLD_CONSENT, CONSENT])
_generations = st.integers(min_value=-1, max_value=3)
_positions = st.builds(
    Position, consent_id=_consents.map(lambda consent: consent.id), generation=_generations
)
_envelopes = st.binary(max_size=40)
_pairs = st.builds(
    StoredPair,
    consent=_consents,
    generation=_generations,
    fingerprint=st.sampled_from(["f1" * 16, "f2" * 16]),
    sealed_pair=_envelopes,
    sealed_key=_envelopes,
    expires_at_ms=st.integers(min_value=0, max_value=2**53),
    issued_at_s=st.integers(min_value=0, max_value=3),
)

spool_entries: st.SearchStrategy[SpoolEntry] = st.one_of(
    st.builds(
        ClaimIntended,
        grant=_grants,
        claim_id=_claims,
        replica_id=st.sampled_from([REPLICA, ReplicaId("6e" * 16)]),
        position=_positions,
    ),
    st.builds(
        AnswerReceived,
        grant=_grants,
        claim_id=_claims,
        position=_positions,
        consent=_consents,
        sealed_key=_envelopes,
        sealed_answer=_envelopes,
        sent_at_ms=st.integers(min_value=0, max_value=2**53),
    ),
    st.builds(PairReceived, grant=_grants, claim_id=st.none() | _claims, pair=_pairs),
    st.builds(PairConfirmed, grant=_grants, position=_positions),
    st.builds(ClaimEnded, grant=_grants, claim_id=_claims),
    st.builds(PairForgotten, grant=_grants, position=_positions),
    st.builds(RevocationOrdered, grant=_grants, consent=_consents),
    st.builds(RevocationSettled, grant=_grants, consent=_consents),
    st.builds(ConsentEnded, grant=_grants, consent=_consents),
)
"""Any entry, of a world small enough that entries often meet."""

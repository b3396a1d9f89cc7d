from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from sidecar.domain.spooled import (
    ENDED_KEPT_S,
    ClaimEnded,
    ConsentEnded,
    PairReceived,
    RevocationOrdered,
    RevocationSettled,
    SpoolEntry,
    SpoolState,
)
from tests.support.spool_entries import (
    CLAIM,
    CONSENT,
    GRANT,
    OLD_CONSENT,
    OTHER_CLAIM,
    OTHER_GRANT,
    answer,
    confirmed,
    fold,
    forgotten,
    intent,
    pair,
    spool_entries,
)


def _changed(received: PairReceived, *, fingerprint: str, issued_at_s: int) -> PairReceived:
    changed = replace(received.pair, fingerprint=fingerprint, issued_at_s=issued_at_s)
    return replace(received, pair=changed)


def test_a_newer_generation_replaces_its_predecessor() -> None:
    """Of one consent, the pair with the highest generation is held, whenever it came."""
    assert fold([pair(5), pair(6)]).pairs == {GRANT: pair(6)}
    assert fold([pair(6), pair(5)]).pairs == {GRANT: pair(6)}


def test_pairs_are_held_in_the_order_in_which_they_came() -> None:
    """A replay begins with the newest, also after a restart: a store forgets what came last."""
    state = fold([pair(5), pair(1, grant=OTHER_GRANT), pair(6)])

    again = fold([entry for entry, _ in state.live_entries()])

    assert list(state.pairs) == list(again.pairs) == [OTHER_GRANT, GRANT]


def test_a_newer_consent_replaces_every_generation_of_an_older_one() -> None:
    """Two consents of one grant may be on their way at once: the newer one wins."""
    old = pair(9, consent=OLD_CONSENT, claim_id=CLAIM)
    new = pair(0, claim_id=OTHER_CLAIM)

    assert fold([old, new]).pairs == {GRANT: new}
    assert fold([new, old]).pairs == {GRANT: new}


def test_of_two_pairs_of_one_generation_the_one_issued_later_is_held() -> None:
    """A grace window of the identity provider can make two; both sides keep the same one."""
    early = _changed(pair(5), fingerprint="e" * 32, issued_at_s=10)
    late = _changed(pair(5), fingerprint="f" * 32, issued_at_s=11)
    as_late = _changed(pair(5), fingerprint="0" * 32, issued_at_s=11)

    assert fold([early, late]).pairs == {GRANT: late}
    assert fold([late, early]).pairs == {GRANT: late}
    assert fold([late, as_late]).pairs == {GRANT: late}
    assert fold([early, confirmed(5), late]).parked == {GRANT}


def test_a_pair_sealed_anew_keeps_what_the_store_said_about_it() -> None:
    """The same pair under another key takes the place of its copy and stays confirmed."""
    sealed_anew = pair(5, sealed_pair=b"sealed by another key")

    state = fold([pair(5), confirmed(5), sealed_anew])

    assert state.pairs == {GRANT: sealed_anew}
    assert state.parked == set()


def test_an_unchanged_refresh_token_in_the_next_generation_is_a_new_pair() -> None:
    """An answer without a new refresh token still has to reach the store."""
    kept = _changed(pair(6), fingerprint=pair(5).pair.fingerprint, issued_at_s=0)

    state = fold([pair(5), confirmed(5), kept])

    assert state.pairs == {GRANT: kept}
    assert state.parked == {GRANT}


def test_a_pair_is_parked_until_the_store_confirms_that_very_pair() -> None:
    """A confirmation of another generation says nothing about the pair that is held."""
    state = fold([pair(5), pair(5, grant=OTHER_GRANT), confirmed(4)])
    assert state.parked == {GRANT, OTHER_GRANT}

    state.apply(confirmed(5), at_s=2.0)

    assert state.parked == {OTHER_GRANT}
    assert state.pairs.keys() == {GRANT, OTHER_GRANT}


def test_the_oldest_parked_pair_tells_since_when() -> None:
    """The instant is that of the oldest unconfirmed pair that is still held."""
    state = SpoolState()
    assert state.parked_since_s == 0.0

    state.apply(pair(5), at_s=10.0)
    state.apply(pair(5, grant=OTHER_GRANT), at_s=20.0)
    state.apply(pair(5), at_s=30.0)
    assert state.parked_since_s == 10.0

    state.apply(confirmed(5), at_s=40.0)
    assert state.parked_since_s == 20.0

    state.apply(confirmed(5, grant=OTHER_GRANT), at_s=50.0)
    assert state.parked_since_s == 0.0


def test_a_pair_ends_its_claim_even_when_a_newer_one_is_held() -> None:
    """Whoever has the pair of a claim need not ask for its end any more."""
    state = fold([intent(), answer(), intent(OTHER_CLAIM), pair(9), pair(5, claim_id=CLAIM)])

    assert state.intents.keys() == {OTHER_CLAIM}
    assert state.answers == {}
    assert state.pairs == {GRANT: pair(9)}


def test_an_answer_leaves_the_intent_until_the_claim_has_ended() -> None:
    """An answer without a pair in it must not hide that its claim may have been repeated."""
    state = fold([intent(), answer()])
    assert (state.intents, state.answers) == ({CLAIM: intent()}, {CLAIM: answer()})

    state.apply(ClaimEnded(grant=GRANT, claim_id=CLAIM), at_s=2.0)

    assert (state.intents, state.answers) == ({}, {})


def test_a_pair_is_forgotten_up_to_the_named_generation_of_its_consent() -> None:
    """What is newer than the worthless copy, or of another consent, stays."""
    assert fold([pair(5), forgotten(5)]) == SpoolState()
    assert fold([pair(5), forgotten(6)]) == SpoolState()
    assert fold([pair(5), forgotten(4)]) == fold([pair(5)])
    assert fold([pair(5), forgotten(5, consent=OLD_CONSENT)]) == fold([pair(5)])
    assert fold([forgotten(5)]) == SpoolState()


def test_a_revocation_order_stands_until_it_or_a_newer_consent_is_settled() -> None:
    """An order names its consent; an older one neither replaces nor settles a newer one."""
    order = RevocationOrdered(grant=GRANT, consent=CONSENT)
    old_order = RevocationOrdered(grant=GRANT, consent=OLD_CONSENT)
    settled = RevocationSettled(grant=GRANT, consent=CONSENT)
    old_settled = RevocationSettled(grant=GRANT, consent=OLD_CONSENT)

    assert fold([old_order, order]).orders == {GRANT: order}
    assert fold([order, old_order]).orders == {GRANT: order}
    assert fold([order, old_settled]).orders == {GRANT: order}
    assert fold([order, settled]).orders == {}
    assert fold([old_order, settled]).orders == {}
    assert fold([settled]).orders == {}


def test_a_carried_out_revocation_is_remembered_for_a_while() -> None:
    """The newest of a grant counts; what is too old goes when another is added."""
    ended = ConsentEnded(grant=GRANT, consent=CONSENT)
    old = ConsentEnded(grant=GRANT, consent=OLD_CONSENT)
    other = ConsentEnded(grant=OTHER_GRANT, consent=CONSENT)
    state = SpoolState()

    state.apply(old, at_s=1.0)
    state.apply(ended, at_s=2.0)
    state.apply(old, at_s=3.0)
    assert state.ended == {GRANT: (ended, 2.0)}
    state.apply(other, at_s=2.0 + ENDED_KEPT_S)

    assert state.ended == {OTHER_GRANT: (other, 2.0 + ENDED_KEPT_S)}


@given(entries=st.lists(spool_entries, max_size=30))
def test_an_entry_written_twice_adds_nothing(entries: list[SpoolEntry]) -> None:
    """A doubled entry leaves the state, and since when a pair is parked, as it was."""
    once, twice = SpoolState(), SpoolState()

    for at_s, entry in enumerate(entries):
        once.apply(entry, at_s=at_s)
        twice.apply(entry, at_s=at_s)
        twice.apply(entry, at_s=at_s + 0.5)

    assert once == twice


@given(entries=st.lists(spool_entries, max_size=30))
def test_the_live_entries_are_the_state(entries: list[SpoolEntry]) -> None:
    """They fold to the same state on their own, and change nothing on top of it."""
    state = SpoolState()
    for at_s, entry in enumerate(entries):
        state.apply(entry, at_s=at_s)
    live = list(state.live_entries())

    alone = SpoolState()
    for entry, written_at_s in live:
        alone.apply(entry, at_s=written_at_s)
    assert alone == state

    for entry, written_at_s in live:
        state.apply(entry, at_s=written_at_s)
    assert state == alone


@given(entries=st.lists(spool_entries, max_size=30))
def test_only_a_held_pair_is_parked(entries: list[SpoolEntry]) -> None:
    """What waits for the store is in the state to be offered."""
    state = fold(entries)

    assert state.parked <= state.pairs.keys()
    assert (state.parked_since_s == 0.0) == (not state.parked)

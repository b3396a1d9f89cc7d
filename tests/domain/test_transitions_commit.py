"""Each row of the table that stores a pair."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidecar.domain import transitions
from sidecar.domain.commands import (
    Committed,
    Done,
    Duplicate,
    Forked,
    Refused,
    Rewrap,
    Stale,
    Superseded,
)
from sidecar.domain.record import GrantRecord, GrantState, StoredPair
from sidecar.domain.transitions_commit import verdict_on_copy
from tests.support.records import (
    CONSENT,
    DENIED,
    NEWER_CONSENT,
    NOW,
    START,
    active,
    after,
    at,
    in_doubt,
    live,
    pair,
    replay,
    revoked,
    revoking,
    sending,
)


def test_a_first_pair_makes_the_grant() -> None:
    """A code exchange or an import creates the record, proven in this incarnation."""
    record, verdict = transitions.apply(None, live(pair(), None), at())

    assert record == active()
    assert verdict == Committed(was=None, is_gap=False)


def test_the_successor_ends_the_claim_and_all_its_traces() -> None:
    """The next generation starts active, unmarked and without a backoff."""
    failing = replace(sending(), failures=3, not_before_ms=NOW + 9, last_error=DENIED)

    record, verdict = transitions.apply(failing, live(pair(1)), at(40))

    assert verdict == Committed(was=GrantState.SENDING, is_gap=False)
    assert record == replace(active(1), committed_at_ms=NOW + 40, last_error=DENIED)


def test_a_cool_down_outlives_a_generation_but_not_a_consent() -> None:
    """A new token does not make an unentitled product work; a new consent may."""
    cooled = replace(active(), cool_until_ms=NOW + 9, cool_count=2, cool_product="balances")

    refreshed = after(cooled, (live(pair(1)), at()))
    consented = after(cooled, (live(pair(0, NEWER_CONSENT), None), at()))

    assert (refreshed.cool_count, refreshed.cool_product) == (2, "balances")
    assert consented == active(0, NEWER_CONSENT)


def test_a_missed_generation_is_told() -> None:
    """The store never saw what lay between: it lost a commit or a replay came out of order."""
    _, verdict = transitions.apply(active(), replay(pair(2)), at())

    assert verdict == Committed(was=GrantState.ACTIVE, is_gap=True)


def test_an_older_copy_changes_nothing() -> None:
    """A replay of what was replaced is told to be worthless."""
    assert transitions.apply(active(2), replay(pair(1)), at()) == (active(2), Stale())


def test_the_same_pair_twice_is_a_duplicate() -> None:
    """Repeating a commit is safe in every state."""
    for record in (active(1), sending(generation=1), replace(active(1), state=GrantState.REVOKED)):
        assert transitions.apply(record, live(pair(1)), at()) == (record, Duplicate())


def test_of_two_pairs_of_a_generation_the_later_is_kept() -> None:
    """A grace window made two; the identity provider's later iat decides, in any order."""
    later = replace(pair(1, branch="'"), issued_at_s=pair(1).issued_at_s + 1)

    came_second = transitions.apply(active(1), replay(later), at())
    came_first = transitions.apply(replace(active(1), pair=later), replay(pair(1)), at())

    assert came_second[1] == Forked(is_ours_kept=True)
    assert came_second[0] is not None
    assert came_second[0].pair == later
    assert came_second[0].committed_run_id is None
    assert came_first == (replace(active(1), pair=later), Forked(is_ours_kept=False))


def test_a_later_fork_of_a_denied_token_makes_the_grant_active() -> None:
    """What was denied was the other token."""
    doubted = in_doubt()
    later = replace(pair(branch="'"), issued_at_s=pair().issued_at_s + 1)

    record, verdict = transitions.apply(doubted, replay(later), at())

    assert verdict == Forked(is_ours_kept=True)
    assert record is not None
    assert (record.state, record.marks, record.hold_until_ms) == (GrantState.ACTIVE, 0, 0)


def test_an_older_consent_is_superseded_whatever_its_generation() -> None:
    """A late answer for a replaced consent is dropped, and must not be revoked."""
    stands = active(0, NEWER_CONSENT)

    assert transitions.apply(stands, live(pair(9)), at()) == (stands, Superseded())


def test_consents_of_one_instant_are_ordered_by_their_ids() -> None:
    """Two consents never both win, even given in the same millisecond."""
    twin = replace(NEWER_CONSENT, consented_at_ms=CONSENT.consented_at_ms)

    forth = transitions.apply(active(), live(pair(0, twin), None), at())
    back = transitions.apply(active(0, twin), live(pair(), None), at())

    assert forth[1] == Committed(was=None, is_gap=False)
    assert back == (active(0, twin), Superseded())


def test_only_the_very_pair_is_rewrapped() -> None:
    """A rotation of keys never touches another pair and never revives an erased one."""
    again = Rewrap(
        position=START, fingerprint=pair().fingerprint, sealed_pair=b"new", sealed_key=b"key"
    )

    record, verdict = transitions.apply(active(), again, at())

    assert verdict == Done()
    assert record is not None
    assert (record.pair.sealed_pair, record.pair.sealed_key) == (b"new", b"key")
    for other in (None, active(1), replace(active(), pair=pair(branch="'")), revoked()):
        assert transitions.apply(other, again, at()) == (other, Refused())


def test_a_tombstone_is_rewrapped_without_tokens() -> None:
    """A former key can be retired though tombstones name their owners; no token comes back."""
    gone = revoked()
    again = Rewrap(
        position=gone.position,
        fingerprint=gone.pair.fingerprint,
        sealed_pair=b"",
        sealed_key=b"key",
    )

    record, verdict = transitions.apply(gone, again, at())

    assert verdict == Done()
    assert record == replace(gone, pair=replace(gone.pair, sealed_key=b"key"))
    assert transitions.apply(active(), again, at()) == (active(), Refused())


STANDING = (None, active(), active(2), sending(), in_doubt(), revoked(), revoking(active()))
COPIES = (pair(), pair(1), pair(2), pair(0, NEWER_CONSENT), replace(pair(), fingerprint="another"))


@pytest.mark.parametrize("ours", COPIES)
@pytest.mark.parametrize("record", STANDING)
def test_a_copy_is_known_where_its_offer_would_change_nothing(
    record: GrantRecord | None, ours: StoredPair
) -> None:
    """Reading says the same as the offer would, and only where the offer may be left out."""
    after_it, verdict = transitions.apply(record, replay(ours), at(5))

    known = verdict_on_copy(record, ours)

    assert known == (verdict if after_it == record else None)

"""The holes a straightforward design has, each closed here by its name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidecar.domain import transitions
from sidecar.domain.commands import (
    AdoptOrphan,
    BeginRevocation,
    BeingRevoked,
    Committed,
    Done,
    Duplicate,
    FinishRevocation,
    Fresh,
    Healed,
    Incarnation,
    InDoubt,
    Leased,
    Quarantined,
    Refused,
    RevokeSuccessor,
    Settle,
    Stale,
    Superseded,
)
from sidecar.domain.record import ClaimId, GrantRecord, GrantState
from tests.support.records import (
    BOOT,
    CONSENT,
    HEAL_MS,
    HOLD_MS,
    LEASE_MS,
    MINE,
    MY_REPLICA,
    NEWER_CONSENT,
    NOW,
    OTHER_RUN,
    QUARANTINE_MS,
    START,
    THEIRS,
    acquire,
    active,
    after,
    at,
    deny,
    in_doubt,
    leased,
    live,
    mark,
    pair,
    replay,
    revoked,
    revoking,
    sending,
)

AFTER_HOLD = HOLD_MS + 1
MET = Incarnation(run_id=OTHER_RUN, met_at_ms=NOW)


def test_h1_a_paused_owner_commits_after_it_lost_its_lease() -> None:
    """The late writer holds the only live token in the world: the lease is never asked."""
    probed = after(
        sending(), (acquire(START, THEIRS), at(AFTER_HOLD)), (mark(START, THEIRS), at(AFTER_HOLD))
    )

    record, verdict = transitions.apply(probed, live(pair(1), MINE), at(AFTER_HOLD + 1))

    assert verdict == Committed(was=GrantState.SENDING, is_gap=False)
    assert record is not None
    assert record.pair == pair(1)
    _, denied = transitions.apply(record, deny(START, THEIRS), at(AFTER_HOLD + 2))
    assert denied == Healed(record=record)


def test_h2_a_store_that_forgot_is_refilled_from_a_spool() -> None:
    """A missing or older record takes the replayed pair, whatever the store once answered."""
    missing, _ = transitions.apply(None, replay(pair(7)), at(run_id=OTHER_RUN))
    older, _ = transitions.apply(active(4), replay(pair(7)), at(run_id=OTHER_RUN))

    for record in (missing, older):
        assert record is not None
        assert (record.pair, record.state) == (pair(7), GrantState.ACTIVE)
        assert record.committed_run_id is None


def test_h3_nobody_claims_an_old_token_while_spools_are_replayed() -> None:
    """After a rollback the record is quarantined, whoever asks and as often as they ask."""
    first, verdict = transitions.apply(active(), acquire(START, THEIRS, MET), at(5, OTHER_RUN))
    _, again = transitions.apply(first, acquire(START, MINE, MET), at(6, OTHER_RUN))

    until = Quarantined(until_ms=NOW + QUARANTINE_MS)
    assert verdict == until
    assert again == until


def test_h3_a_lease_from_before_a_rollback_is_void() -> None:
    """Its mark is refused, even once another claim has stamped the record."""
    before = transitions.apply(leased(), mark(START), at(5, OTHER_RUN))
    stamped = after(leased(), (acquire(START, THEIRS, MET), at(5, OTHER_RUN)))
    later = transitions.apply(stamped, mark(START), at(6, OTHER_RUN))

    assert before == (leased(), Refused())
    assert later == (stamped, Refused())


def test_h3_a_mark_from_before_a_rollback_is_not_confirmed_within_the_quarantine() -> None:
    """Its owner, whose reply was lost, does not send while a newer pair may be replayed."""
    stamped = after(sending(), (acquire(START, THEIRS, MET), at(5, OTHER_RUN)))

    within = transitions.apply(stamped, mark(START), at(6, OTHER_RUN))
    later = transitions.apply(stamped, mark(START), at(QUARANTINE_MS, OTHER_RUN))

    assert within == (stamped, Refused())
    assert later == (stamped, Done())


def test_h3_a_sent_claim_from_before_a_rollback_is_held_through_the_quarantine() -> None:
    """Neither its hold's end nor its owner's restart lets anybody claim before that."""
    short = replace(sending(), hold_until_ms=NOW + 10)
    stamped = after(short, (acquire(START, THEIRS, MET), at(5, OTHER_RUN)))
    adopt = AdoptOrphan(
        orphan_claim_id=MINE,
        replica_id=MY_REPLICA,
        claim_id=ClaimId("d9" * 16),
        boot_id=BOOT,
        lease_ms=LEASE_MS,
    )

    adopted = transitions.apply(stamped, adopt, at(20, OTHER_RUN))
    asked = transitions.apply(stamped, acquire(START, THEIRS, MET), at(20, OTHER_RUN))

    assert stamped.hold_until_ms == NOW + QUARANTINE_MS
    assert adopted == (stamped, Refused())
    assert asked == (stamped, Quarantined(until_ms=NOW + QUARANTINE_MS))


@pytest.mark.parametrize("stands", [None, active(2)])
def test_h3_a_replayed_pair_does_not_end_the_quarantine(stands: GrantRecord | None) -> None:
    """A slower peer may be about to replay a newer pair than this one."""
    record = after(stands, (replay(pair(3)), at(5, OTHER_RUN)))

    asked = transitions.apply(record, acquire(pair(3).position, MINE, MET), at(6, OTHER_RUN))

    assert asked[1] == Quarantined(until_ms=NOW + QUARANTINE_MS)


def test_h3_a_commit_repeated_across_a_rollback_does_not_end_the_quarantine() -> None:
    """The first try may have been seen, and its pair claimed, on the store that is gone."""
    record = after(sending(), (live(pair(1)), at(5, OTHER_RUN)))

    asked = transitions.apply(record, acquire(pair(1).position, MINE, MET), at(6, OTHER_RUN))

    assert record.committed_run_id is None
    assert asked[1] == Quarantined(until_ms=NOW + QUARANTINE_MS)


def test_h3_a_claim_marked_before_a_rollback_proves_nothing_after_it() -> None:
    """Its pair is stored, but a denial of the next one still asks the fleet."""
    stamped = after(sending(), (acquire(START, THEIRS, MET), at(5, OTHER_RUN)))

    record = after(stamped, (live(pair(1)), at(6, OTHER_RUN)))

    assert record.pair == pair(1)
    assert record.committed_run_id is None
    assert record.quarantine_until_ms == NOW + QUARANTINE_MS


@pytest.mark.parametrize("is_settled", [False, True])
def test_h5_a_doubted_or_lost_grant_is_healed_by_a_later_commit(*, is_settled: bool) -> None:
    """Neither in_doubt nor reauth_required is final."""
    record = in_doubt()
    if is_settled:
        record = after(record, (Settle(position=START), at(HEAL_MS)))

    healed, verdict = transitions.apply(record, replay(pair(1)), at(HEAL_MS))

    assert verdict == Committed(was=record.state, is_gap=False)
    assert healed is not None
    assert (healed.state, healed.pair) == (GrantState.ACTIVE, pair(1))


def test_h6_a_crash_before_sending_is_told_apart_from_a_crash_after_it() -> None:
    """An unsent lease is taken over when it ends; a sent claim only after its hold, as a probe."""
    unsent = transitions.apply(leased(), acquire(START, THEIRS), at(LEASE_MS))
    sent = transitions.apply(sending(), acquire(START, THEIRS), at(LEASE_MS))

    assert isinstance(unsent[1], Leased)
    assert not unsent[1].record.is_probe
    assert sent[0] == sending()
    assert not isinstance(sent[1], Leased)


def test_h7_a_revocation_order_replayed_after_a_rollback_still_ends_the_grant() -> None:
    """The order comes again from its spool and finds the grant, active as it once was."""
    record = after(
        active(3),
        (BeginRevocation(consent=CONSENT), at(run_id=OTHER_RUN)),
        (FinishRevocation(position=pair(3).position), at(run_id=OTHER_RUN)),
    )

    assert record.state is GrantState.REVOKED


@pytest.mark.parametrize("stands", [revoking(sending()), revoked()])
def test_h8_a_successor_born_under_a_revocation_is_revoked_too(stands: GrantRecord) -> None:
    """Its commit keeps it just for that, says so again when asked again, and serves it never."""
    record, verdict = transitions.apply(stands, live(pair(1)), at(5))

    assert verdict == RevokeSuccessor()
    assert record is not None
    assert (record.state, record.pair, record.claim_id) == (GrantState.REVOKING, pair(1), None)
    assert transitions.apply(record, live(pair(1)), at(5)) == (record, RevokeSuccessor())


def test_h8_a_revocation_is_not_finished_with_an_older_token() -> None:
    """Whoever told the provider about the predecessor must tell it about the successor."""
    record = after(revoking(sending()), (live(pair(1)), at(5)))

    finished = transitions.apply(record, FinishRevocation(position=START), at(6))

    assert finished == (record, Refused())


def test_h8_a_late_fork_of_a_revoked_grant_is_revoked_too() -> None:
    """Another token of the revoked generation is as alive as a successor."""
    later = replace(pair(branch="'"), issued_at_s=pair().issued_at_s + 1)

    record, verdict = transitions.apply(revoked(), replay(later), at(5))

    assert verdict == RevokeSuccessor()
    assert record is not None
    assert (record.state, record.pair) == (GrantState.REVOKING, later)


@pytest.mark.parametrize("stands", [revoking(sending()), revoking(active()), revoked()])
def test_h8_a_denial_never_overwrites_a_revocation(stands: GrantRecord) -> None:
    """The claim that was in flight is over, the order stands, and nothing is left to settle."""
    record, verdict = transitions.apply(stands, deny(START), at(5))

    assert verdict == BeingRevoked()
    assert record is not None
    assert (record.state, record.claim_id) == (stands.state, None)
    settled = transitions.apply(record, Settle(position=START), at(HEAL_MS + 6))
    assert settled == (record, Refused())


def test_h9_an_old_familys_late_generation_does_not_overwrite_a_new_consent() -> None:
    """Consents are compared before generations."""
    claimed = after(sending(generation=6), (live(pair(0, NEWER_CONSENT), None), at(1)))

    late = transitions.apply(claimed, live(pair(7)), at(2))
    denied = transitions.apply(claimed, deny(pair(6).position), at(2))
    settled = transitions.apply(claimed, Settle(position=pair(6).position), at(2))

    assert claimed.pair == pair(0, NEWER_CONSENT)
    assert late == (claimed, Superseded())
    assert denied == (claimed, Healed(record=claimed))
    assert settled == (claimed, Refused())


def test_h9_a_new_consent_revives_a_revoked_grant() -> None:
    """The tombstone is that of one consent."""
    record, verdict = transitions.apply(revoked(), live(pair(0, NEWER_CONSENT), None), at(5))

    assert verdict == Committed(was=None, is_gap=False)
    assert record is not None
    assert (record.state, record.pair) == (GrantState.ACTIVE, pair(0, NEWER_CONSENT))


def test_h9_a_late_order_of_an_old_consent_leaves_the_new_one_alone() -> None:
    """An order names its consent: it is void against a later one, whatever it had begun before."""
    ordered = after(active(3), (BeginRevocation(consent=CONSENT), at(1)))
    consented = after(ordered, (live(pair(0, NEWER_CONSENT), None), at(2)))

    again = transitions.apply(consented, BeginRevocation(consent=CONSENT), at(3))
    finished = transitions.apply(consented, FinishRevocation(position=pair(3).position), at(3))

    assert (consented.state, consented.pair) == (GrantState.ACTIVE, pair(0, NEWER_CONSENT))
    assert again == (consented, Superseded())
    assert finished == (consented, Refused())


def test_h9_a_wish_of_an_old_consent_spends_no_token_of_the_new_one() -> None:
    """Whoever knew generation 7 of the old consent takes generation 0 of the new one as it is."""
    consented = after(active(7), (live(pair(0, NEWER_CONSENT), None), at(1)))

    asked = transitions.apply(consented, acquire(pair(7).position), at(2))

    assert asked == (consented, Fresh(record=consented))


def test_h31_a_probe_after_a_hold_never_settles_at_once() -> None:
    """A paused owner may have the live pair: the denial of a probe asks the fleet first."""
    probed = after(
        sending(), (acquire(START, THEIRS), at(AFTER_HOLD)), (mark(START, THEIRS), at(AFTER_HOLD))
    )

    _, verdict = transitions.apply(probed, deny(START, THEIRS), at(AFTER_HOLD + 1))

    assert verdict == InDoubt(until_ms=NOW + AFTER_HOLD + 1 + HEAL_MS)


def test_a_replay_after_the_commit_was_seen_is_stale_or_the_same() -> None:
    """A restarted owner replays its spool into a store that has moved on, or has not."""
    moved_on = transitions.apply(active(2), replay(pair(1)), at())
    stood_still = transitions.apply(active(1), replay(pair(1)), at())

    assert moved_on == (active(2), Stale())
    assert stood_still == (active(1), Duplicate())

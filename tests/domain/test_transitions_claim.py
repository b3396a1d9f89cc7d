"""Each row of the table that takes, marks, keeps or gives back a lease."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidecar.domain import transitions
from sidecar.domain.commands import (
    AdoptOrphan,
    BackingOff,
    Busy,
    Dead,
    Done,
    Doubted,
    Fresh,
    HealingOver,
    Held,
    Incarnation,
    KeepHold,
    Leased,
    Missing,
    NewIncarnation,
    ProbeWithheld,
    Quarantined,
    Refused,
)
from sidecar.domain.record import ClaimId, GrantRecord, GrantState, Position
from tests.support.records import (
    BOOT,
    DENIED,
    HEAL_MS,
    HOLD_MS,
    LEASE_MS,
    MINE,
    MY_REPLICA,
    NEWER_CONSENT,
    NOW,
    OTHER_RUN,
    QUARANTINE_MS,
    RUN,
    START,
    THEIR_REPLICA,
    THEIRS,
    acquire,
    active,
    after,
    at,
    in_doubt,
    leased,
    mark,
    pair,
    release,
    replay,
    revoking,
    sending,
)

FRESH_CLAIM = ClaimId("d9" * 16)


def adopt(replica_id: str = MY_REPLICA) -> AdoptOrphan:
    return AdoptOrphan(
        orphan_claim_id=MINE,
        replica_id=MY_REPLICA if replica_id == MY_REPLICA else THEIR_REPLICA,
        claim_id=FRESH_CLAIM,
        boot_id=BOOT,
        lease_ms=LEASE_MS,
    )


def test_an_active_grant_is_leased_to_whoever_asks_first() -> None:
    """The lease names its owner and its end, and nothing has been sent for it."""
    record, verdict = transitions.apply(active(), acquire(START), at())

    assert record == replace(
        active(),
        state=GrantState.LEASED,
        claim_id=MINE,
        replica_id=MY_REPLICA,
        boot_id=BOOT,
        lease_until_ms=NOW + LEASE_MS,
    )
    assert isinstance(verdict, Leased)
    assert verdict.record == record


def test_a_lost_reply_to_an_acquire_is_repaired_by_asking_again() -> None:
    """The same claim gets the same lease, not a longer one."""
    record, verdict = transitions.apply(leased(), acquire(START), at(500))

    assert record == leased()
    assert verdict == Leased(record=leased())


def test_a_running_lease_is_not_taken_over() -> None:
    """A second claim is told until when the first one may still mark."""
    record, verdict = transitions.apply(leased(), acquire(START, THEIRS), at(LEASE_MS - 1))

    assert record == leased()
    assert verdict == Busy(until_ms=NOW + LEASE_MS)


def test_a_lease_that_ended_is_taken_over_and_is_no_probe() -> None:
    """Nothing was sent under it, so its successor starts as if it had never been."""
    record, verdict = transitions.apply(leased(), acquire(START, THEIRS), at(LEASE_MS))

    assert isinstance(verdict, Leased)
    assert record is not None
    assert (record.claim_id, record.is_probe) == (THEIRS, False)


def test_a_stranger_waits_for_the_hold_of_a_sent_claim() -> None:
    """A successor may exist, so nobody else claims before the hold is over."""
    record, verdict = transitions.apply(sending(), acquire(START, THEIRS), at(HOLD_MS - 1))

    assert record == sending()
    assert verdict == Held(until_ms=NOW + HOLD_MS)


def test_a_claim_after_the_hold_is_a_probe() -> None:
    """The token may be spent already, and the record says so until it is known."""
    record, verdict = transitions.apply(sending(), acquire(START, THEIRS), at(HOLD_MS))
    taken_over = after(record, (acquire(START, FRESH_CLAIM), at(HOLD_MS + LEASE_MS)))

    assert isinstance(verdict, Leased)
    assert verdict.record.is_probe
    assert verdict.record.marks == 1
    assert taken_over.is_probe


def test_nobody_leases_a_grant_that_is_missing() -> None:
    """Without a record there is nothing to claim."""
    assert transitions.apply(None, acquire(START), at()) == (None, Missing())


@pytest.mark.parametrize("state", ["reauth_required", "revoking", "revoked"])
def test_a_dead_grant_is_dead_whatever_its_position(state: str) -> None:
    """A dead record is never handed out as something newer."""
    dead = replace(active(5), state=GrantState(state))

    record, verdict = transitions.apply(dead, acquire(START), at())

    assert record == dead
    assert verdict == Dead(state=GrantState(state))


@pytest.mark.parametrize("stands", [active(1), active(0, NEWER_CONSENT), sending(generation=1)])
def test_a_caller_behind_gets_the_record_instead_of_a_lease(stands: GrantRecord) -> None:
    """Somebody refreshed already, or the user consented anew."""
    assert transitions.apply(stands, acquire(START), at()) == (stands, Fresh(record=stands))


def test_a_backoff_is_kept() -> None:
    """After a failure nobody claims before the time that it asked for."""
    failed = after(sending(), (release(backoff_ms=2_000, error=DENIED), at()))

    early = transitions.apply(failed, acquire(START), at(1_999))
    late = transitions.apply(failed, acquire(START), at(2_000))

    assert early == (failed, BackingOff(until_ms=NOW + 2_000))
    assert isinstance(late[1], Leased)


def test_a_doubt_is_held_until_its_time_is_over() -> None:
    """While the fleet looks for a successor nobody claims; afterwards the doubt may be settled."""
    doubted = in_doubt()

    early = transitions.apply(doubted, acquire(START, THEIRS), at(HEAL_MS - 1))
    late = transitions.apply(doubted, acquire(START, THEIRS), at(HEAL_MS))

    assert early == (doubted, Doubted(until_ms=NOW + HEAL_MS, since_ms=doubted.changed_at_ms))
    assert late == (doubted, HealingOver(record=doubted))


def test_an_incarnation_must_be_announced_before_a_claim() -> None:
    """Whoever does not know when the fleet met this incarnation cannot know its quarantine."""
    verdict = transitions.apply(active(), acquire(START), at(run_id=OTHER_RUN))

    assert verdict == (active(), NewIncarnation(run_id=OTHER_RUN))


def test_a_quarantine_counts_from_when_the_fleet_met_the_incarnation() -> None:
    """A grant that slept through it pays nothing weeks later."""
    met = Incarnation(run_id=OTHER_RUN, met_at_ms=NOW)

    early = transitions.apply(active(), acquire(START, MINE, met), at(1, OTHER_RUN))
    late = transitions.apply(active(), acquire(START, MINE, met), at(QUARANTINE_MS, OTHER_RUN))

    assert early[1] == Quarantined(until_ms=NOW + QUARANTINE_MS)
    assert isinstance(late[1], Leased)
    assert late[1].record.run_id != RUN


def test_a_mark_turns_a_lease_into_a_sent_claim() -> None:
    """From now on the token may be spent, and the hold keeps strangers away."""
    record, verdict = transitions.apply(leased(), mark(START), at(100))

    assert verdict == Done()
    assert record == replace(
        leased(),
        state=GrantState.SENDING,
        lease_until_ms=0,
        marked_at_ms=NOW + 100,
        hold_until_ms=NOW + 100 + HOLD_MS,
        marks=1,
    )


def test_a_lost_reply_to_a_mark_counts_no_second_time() -> None:
    """Marking again says yes and changes nothing."""
    assert transitions.apply(sending(), mark(START), at(50)) == (sending(), Done())


@pytest.mark.parametrize(
    ("record", "claim_id", "position", "late_ms"),
    [
        (leased(), THEIRS, START, 0),
        (leased(), MINE, pair(1).position, 0),
        (leased(), MINE, pair(0, NEWER_CONSENT).position, 0),
        (leased(), MINE, START, LEASE_MS + 1),
        (active(), MINE, START, 0),
        (replace(leased(), state=GrantState.REVOKING), MINE, START, 0),
        (replace(leased(), run_id=OTHER_RUN), MINE, START, 0),
        (replace(sending(), quarantine_until_ms=NOW + 1), MINE, START, 0),
        (None, MINE, START, 0),
    ],
)
def test_a_mark_without_a_standing_lease_is_refused(
    record: GrantRecord | None, claim_id: ClaimId, position: Position, late_ms: int
) -> None:
    """A late, foreign or void lease sends nothing."""
    assert transitions.apply(record, mark(position, claim_id), at(late_ms)) == (record, Refused())


def test_a_kept_hold_starts_anew() -> None:
    """While the answer is awaited strangers stay away, for the owner of the claim alone."""
    mine = transitions.apply(sending(), KeepHold(claim_id=MINE, hold_ms=HOLD_MS), at(7))
    theirs = transitions.apply(sending(), KeepHold(claim_id=THEIRS, hold_ms=HOLD_MS), at(7))
    moved = transitions.apply(sending(), KeepHold(claim_id=MINE, hold_ms=HOLD_MS), at(7, OTHER_RUN))

    assert mine == (replace(sending(), hold_until_ms=NOW + 7 + HOLD_MS), Done())
    assert theirs == (sending(), Refused())
    assert moved == (sending(), Refused())


def test_a_release_makes_the_grant_active_and_keeps_the_mark() -> None:
    """The request may have been seen, so a later denial of this token is not the only answer."""
    record, verdict = transitions.apply(sending(), release(error=DENIED), at(5))

    assert verdict == Done()
    assert record == replace(
        active(), marks=1, failures=1, last_error=replace(DENIED, at_ms=NOW + 5)
    )


def test_a_release_of_an_unspent_token_takes_the_mark_back() -> None:
    """A request that surely was not processed is as if it had not been sent."""
    record, _ = transitions.apply(sending(), release(is_unspent=True), at())
    unsent, _ = transitions.apply(leased(), release(is_unspent=True), at())

    assert record == active()
    assert unsent == active()


@pytest.mark.parametrize("is_unspent", [False, True])
@pytest.mark.parametrize("is_marked", [False, True])
def test_a_probe_that_is_given_back_stays_a_probe(
    is_unspent: bool,  # noqa: FBT001 - a parameter of the test
    is_marked: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """The claim whose answer was never seen may still be read by its owner, whatever came since."""
    over = at(HOLD_MS)
    probing = after(sending(THEIRS), (acquire(START), over))
    if is_marked:
        probing = after(probing, (mark(START), over))

    given_back = after(probing, (release(is_unspent=is_unspent), over))
    withheld = transitions.apply(given_back, replace(acquire(START), may_probe=False), over)
    ordered = transitions.apply(given_back, acquire(START), over)

    assert (given_back.state, given_back.is_probe) == (GrantState.ACTIVE, True)
    assert given_back.replica_id is None
    assert withheld == (given_back, ProbeWithheld())
    assert isinstance(ordered[1], Leased)
    assert ordered[1].record.is_probe
    assert not after(given_back, (replay(pair(1)), over)).is_probe


def test_a_probe_that_the_store_forgot_in_its_lease_stays_a_probe() -> None:
    """A new incarnation voids the lease, not the reason to ask a person first."""
    over = at(HOLD_MS)
    probing = after(sending(THEIRS), (acquire(START), over))
    met = Incarnation(run_id=OTHER_RUN, met_at_ms=NOW)

    restarted, _ = transitions.apply(probing, acquire(START, THEIRS, met), at(0, OTHER_RUN))

    assert restarted is not None
    assert (restarted.state, restarted.is_probe) == (GrantState.ACTIVE, True)


def test_whose_spool_knows_the_owner_to_be_dead_goes_on_after_giving_the_orphan_back() -> None:
    """No paused owner can have the answer; a stranger still knows nothing of that."""
    adopted = after(sending(), (adopt(), at(1)))
    given_back = after(adopted, (replace(release(FRESH_CLAIM), is_orphan=True), at(1)))
    going_on = replace(acquire(START), may_probe=False, may_go_on=True)
    strange = replace(acquire(START, THEIRS), may_probe=False, may_go_on=True)

    assert (given_back.is_probe, given_back.replica_id) == (True, MY_REPLICA)
    assert isinstance(transitions.apply(given_back, going_on, at(1))[1], Leased)
    assert transitions.apply(given_back, strange, at(1)) == (given_back, ProbeWithheld())
    ordered = after(given_back, (acquire(START, THEIRS), at(1)), (release(THEIRS), at(1)))
    assert transitions.apply(ordered, going_on, at(1)) == (ordered, ProbeWithheld())


def test_a_claim_that_runs_is_not_gone_on_with_by_its_own_spool() -> None:
    """Its hold may be over while its process reads the answer."""
    going_on = replace(acquire(START, FRESH_CLAIM), may_probe=False, may_go_on=True)
    own = replace(going_on, replica_id=MY_REPLICA)

    assert transitions.apply(sending(), own, at(HOLD_MS)) == (sending(), ProbeWithheld())


def test_a_release_without_an_error_ends_a_row_of_failures() -> None:
    """The last error stays as history."""
    failed = after(sending(), (release(error=DENIED), at()))

    again = after(failed, (acquire(START), at()), (release(), at()))

    assert (again.failures, again.last_error) == (0, replace(DENIED, at_ms=NOW))


def test_only_the_owner_of_a_claim_releases_it() -> None:
    """A second release, or a stranger's, changes nothing."""
    assert transitions.apply(sending(), release(THEIRS), at()) == (sending(), Refused())
    assert transitions.apply(active(), release(), at()) == (active(), Refused())
    assert transitions.apply(None, release(), at()) == (None, Refused())


def test_the_same_replica_takes_its_orphan_at_once() -> None:
    """Whoever holds the dead process's spool need not wait for the hold."""
    record, verdict = transitions.apply(sending(), adopt(), at(1))

    assert isinstance(verdict, Leased)
    assert record is not None
    assert (record.claim_id, record.is_probe, record.marks) == (FRESH_CLAIM, True, 1)
    assert transitions.apply(record, adopt(), at(1)) == (record, verdict)


@pytest.mark.parametrize(
    "record",
    [
        None,
        active(),
        leased(THEIRS),
        in_doubt(),
        replace(sending(), run_id=OTHER_RUN),
        replace(sending(), quarantine_until_ms=NOW + 1),
        revoking(sending()),
    ],
)
def test_nothing_else_is_an_orphan(record: GrantRecord | None) -> None:
    """Another claim, another state, another incarnation or a quarantine keep it from adoption."""
    assert transitions.apply(record, adopt(), at()) == (record, Refused())


def test_another_replicas_claim_is_no_orphan_of_ours() -> None:
    """Only the spool of its owner proves that no answer is left."""
    assert transitions.apply(sending(), adopt("theirs"), at()) == (sending(), Refused())

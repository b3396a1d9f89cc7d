from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from sidecar.domain.events import ClaimEndedAs, ClaimOutcome, RecordUnreadable, WorkFailed
from sidecar.domain.outcomes import Obstacle, Postponed
from sidecar.domain.policy import ProtocolTimes
from sidecar.domain.record import GrantKey, GrantRecord, GrantState
from sidecar.domain.tokens import TokenFound, TokenLookup, TokenRefused
from tests.support.sidecar_parts import KEY
from tests.support.virtual_fleet import Fleet, bearer_of
from tests.support.virtual_time import in_virtual_time

AWAITS_OF_A_CLAIM = [
    "before read",
    "after read",
    "before Acquire",
    "after Acquire",
    "connected",
    "after ClaimIntended",
    "before MarkSending",
    "after MarkSending",
    "admitted",
    "sent",
    "answered",
    "told",
    "before Commit",
    "after Commit",
    "back from Commit",
]


def _leave(caller: asyncio.Future[TokenLookup]) -> None:
    caller.cancel()  # it may have its answer already


@pytest.mark.parametrize("point", AWAITS_OF_A_CLAIM)
@in_virtual_time
async def test_a_client_that_leaves_at_any_step_ends_nothing(point: str) -> None:
    """I13: the claim goes on to its end, whenever its only caller is cancelled."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    caller = asyncio.ensure_future(peer.ask())
    peer.life.actions[point] = lambda: _leave(caller)

    await asyncio.gather(caller, return_exceptions=True)
    await asyncio.sleep(2)

    assert bearer_of(await peer.ask())
    await peer.rest()
    assert len(fleet.idp.refreshes()) == 1
    assert fleet.stored_token(peer) == fleet.idp.live_token(KEY)
    assert peer.of(WorkFailed) == []
    assert peer.leftovers() == []
    await fleet.end()


@in_virtual_time
async def test_one_client_that_leaves_takes_no_other_along() -> None:
    """H26: a hundred wait for one refresh; those that stay are served."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    callers = [asyncio.ensure_future(peer.ask()) for _ in range(100)]
    await asyncio.sleep(0.02)

    for caller in callers[::2]:
        caller.cancel()
    served = await asyncio.gather(*callers[1::2])

    assert len({bearer_of(lookup) for lookup in served}) == 1
    await peer.rest()
    assert len(fleet.idp.refreshes()) == 1
    assert peer.leftovers() == []
    await fleet.end()


@in_virtual_time
async def test_a_cancelled_claim_leaves_its_places_behind_it_clean() -> None:
    """The end of the loops in mid-claim: nothing hangs, no berth and no hint is kept."""
    fleet = Fleet()
    peer, other = await fleet.with_expired_grant("a"), await fleet.peer("b")
    asking = [asyncio.ensure_future(peer.ask()), asyncio.ensure_future(other.ask())]
    await asyncio.sleep(0.03)

    await peer.crash()
    await other.crash()

    await asyncio.gather(*asking, return_exceptions=True)
    left = {*peer.leftovers(), *other.leftovers()}
    assert left <= {"intents"}


@in_virtual_time
async def test_a_claim_that_waited_for_a_berth_does_not_start_in_a_shut_lane() -> None:
    """I17: after SIGTERM no claim starts, not even one that was in the queue already."""
    fleet = Fleet()
    peer = await fleet.peer()
    keys = [GrantKey(user=f"u-{number}", provider="one-bank") for number in range(12)]
    for key in keys:
        await peer.obtain(key)
    await asyncio.sleep(fleet.idp.life_s)
    fleet.idp.answer_after_s = 5.0
    asking = [asyncio.ensure_future(peer.ask(key)) for key in keys]
    await asyncio.sleep(1)

    peer.parts.lane.shut()
    lookups = await asyncio.gather(*asking)

    assert len(fleet.idp.refreshes()) == 8
    assert len([found for found in lookups if isinstance(found, TokenFound)]) == 8
    await fleet.end()


@in_virtual_time
async def test_a_cancellation_that_a_library_loses_keeps_no_pair_from_the_store() -> None:
    """A keep that is on its way when the answer comes ends as it likes; the commit follows it."""
    fleet = Fleet(times=ProtocolTimes(keep_every_s=1.0))
    peer = await fleet.with_expired_grant()
    peer.store.outlive_cancellation.add("KeepHold")
    peer.store.latency_s = lambda: 0.2
    fleet.idp.answer_after_s = 0.8

    await peer.ask()

    await asyncio.sleep(2)
    assert "at KeepHold" in peer.life.trace
    assert fleet.record(peer).state is GrantState.ACTIVE
    assert fleet.stored_token(peer) == fleet.idp.live_token(KEY)
    await fleet.end()


def _stumble() -> None:
    raise RuntimeError


@in_virtual_time
async def test_an_answer_that_a_fault_kept_from_being_read_is_read_again_at_once() -> None:
    """The answer is in memory, so a fault of the moment costs nobody anything."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    peer.life.actions["before PairReceived"] = _stumble

    assert bearer_of(await peer.ask())
    await peer.rest()

    assert [failed.where for failed in peer.of(WorkFailed)] == ["answer"]
    assert len(fleet.idp.refreshes()) == 1
    assert fleet.stored_token(peer) == fleet.idp.live_token(KEY)
    assert peer.leftovers() == []
    await fleet.end()


@in_virtual_time
async def test_an_answer_that_cannot_be_read_here_is_doubted_and_kept_for_the_next_start() -> None:
    """A bug of ours between answer and pair: nobody presents the token, and a start heals it."""
    fleet = Fleet()
    peer, other = await fleet.with_expired_grant(), await fleet.peer("b")
    peer.life.always["before PairReceived"] = _stumble

    lookup = await peer.ask()
    await peer.rest()

    assert isinstance(lookup, TokenRefused)
    assert {failed.where for failed in peer.of(WorkFailed)} == {"answer"}
    assert fleet.record(peer).state is GrantState.IN_DOUBT
    assert isinstance(await other.ask(), TokenRefused)
    assert isinstance(await peer.ask(), TokenRefused)
    assert len(fleet.idp.refreshes()) == 1
    await peer.crash()
    await peer.start()
    await peer.rest()
    assert fleet.stored_token(peer) == fleet.idp.live_token(KEY)
    assert len(fleet.idp.refreshes()) == 1
    await fleet.end()


@in_virtual_time
async def test_a_claim_whose_answer_cannot_be_opened_is_not_repeated() -> None:
    """H23: the key of a spooled answer is missing: its successor exists, nothing is presented."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    peer.life.dies_at = "after AnswerReceived"
    asking = asyncio.ensure_future(peer.ask())
    await peer.died()
    intact = list(peer.disk.entries)
    peer.disk.spoil_answers()

    await peer.start()
    await asyncio.sleep(fleet.times.hold_s + 5)
    await peer.ask()

    assert len(fleet.idp.refreshes()) == 1, "not even when the hold is over and somebody asks"
    assert len(peer.of(RecordUnreadable)) == 1
    await peer.crash()
    peer.disk.entries[: len(intact)] = intact
    await peer.start()
    await peer.rest()
    assert fleet.stored_token(peer) == fleet.idp.live_token(KEY)
    await asyncio.gather(asking, return_exceptions=True)
    await fleet.end()


@in_virtual_time
async def test_a_record_that_cannot_be_opened_is_given_back_and_never_sent() -> None:
    """H23: an unknown key stops this sidecar's claim; the grant stays active for the others."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    grant, record = peer.parts.grant(), fleet.record(peer)
    fleet.store.records[grant] = _sealed_elsewhere(record)

    outcome = await peer.parts.broker.renew(KEY, known=record.position, wait_s=5)
    await peer.rest()

    assert isinstance(outcome, Postponed)
    assert outcome.obstacle is Obstacle.UNREADABLE
    assert fleet.record(peer).state is GrantState.ACTIVE
    assert fleet.idp.refreshes() == []
    assert peer.of(RecordUnreadable)
    await fleet.end()


@in_virtual_time
async def test_a_fault_of_ours_in_the_lane_is_told_and_ends_nobody_else() -> None:
    """The outermost edge of a piece of work reports it; the caller is told to ask again."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    other_key = GrantKey(user="u-2", provider="mikomo")
    await peer.obtain(other_key)
    await asyncio.sleep(fleet.idp.life_s)
    peer.life.actions["before Acquire"] = _stumble

    lookups = await asyncio.gather(peer.ask(), peer.ask(other_key))

    kinds = sorted(type(lookup).__name__ for lookup in lookups)
    assert kinds == ["TokenFound", "TokenRefused"]
    assert [failed.where for failed in peer.of(WorkFailed)] == ["claim"]
    await fleet.end()


@in_virtual_time
async def test_each_wish_ends_with_one_outcome_in_the_metrics() -> None:
    """Won, waited, lost, taken over or in doubt: one of them, once."""
    fleet = Fleet()
    peer, other = await fleet.with_expired_grant("a"), await fleet.peer("b")

    await asyncio.gather(peer.ask(), other.ask())
    await peer.rest()
    await other.rest()

    outcomes = sorted(
        end.outcome.value for end in [*peer.of(ClaimEndedAs), *other.of(ClaimEndedAs)]
    )
    assert outcomes == [ClaimOutcome.WAITED.value, ClaimOutcome.WON.value]
    await fleet.end()


def _sealed_elsewhere(record: GrantRecord) -> GrantRecord:
    sealed = record.pair.sealed_pair.replace(b"|k1|", b"|k9|")
    return replace(record, pair=replace(record.pair, sealed_pair=sealed))

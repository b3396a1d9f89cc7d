from __future__ import annotations

import asyncio

import pytest

from sidecar.domain.events import CommitAnswer, PairCommitted, RecordQuarantined, TokenLost
from sidecar.domain.record import GrantKey, GrantState
from sidecar.domain.tokens import ProblemReason, TokenFound, TokenRefused, TokenSource
from tests.support.rotating_idp import Fault
from tests.support.sidecar_parts import KEY
from tests.support.virtual_fleet import Fleet, Peer, bearer_of, until_expiry
from tests.support.virtual_time import in_virtual_time
from tests.support.wait import until


def _away(peer: Peer, *, for_s: float) -> None:
    peer.store.is_away = True
    asyncio.get_running_loop().call_later(for_s, _return, peer)


def _return(peer: Peer) -> None:
    peer.store.is_away = False


def _is_well(fleet: Fleet, peer: Peer) -> bool:
    record = fleet.record(peer)
    is_live = fleet.stored_token(peer) == fleet.idp.live_token(KEY)
    return record.state is GrantState.ACTIVE and is_live


@in_virtual_time
async def test_without_a_store_nothing_leaves() -> None:
    """H30: no store before the mark, no claim; the grant is refreshed as soon as there is one."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    peer.store.is_away = True

    lookup = await peer.ask()

    assert isinstance(lookup, TokenRefused)
    assert lookup.reason is ProblemReason.TOKEN_UNAVAILABLE
    assert fleet.idp.refreshes() == []
    peer.store.is_away = False
    await asyncio.sleep(2)
    assert bearer_of(await peer.ask())
    await fleet.end()


@in_virtual_time
async def test_a_mark_is_repeated_within_half_the_send_window() -> None:
    """A store that hiccups for half a second at the mark costs no claim."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    peer.life.actions["before MarkSending"] = lambda: _away(peer, for_s=0.5)

    assert bearer_of(await peer.ask())

    assert len(fleet.idp.refreshes()) == 1
    await peer.rest()
    assert _is_well(fleet, peer)
    await fleet.end()


@in_virtual_time
async def test_a_mark_whose_answer_stays_away_is_taken_back_unsent() -> None:
    """The mark may have run; nothing is sent, and the release takes it back when it can."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    peer.life.actions["after MarkSending"] = lambda: _away(peer, for_s=20)

    await peer.ask()
    await peer.rest()

    assert fleet.idp.refreshes() == []
    record = fleet.record(peer)
    assert (record.state, record.marks) == (GrantState.ACTIVE, 0)
    assert peer.leftovers() == []
    await asyncio.sleep(2)
    assert bearer_of(await peer.ask())
    await fleet.end()


@in_virtual_time
async def test_a_late_mark_after_its_window_sends_nothing() -> None:
    """A process that was paused between mark and first byte does not send on an old permission."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    peer.life.actions["back from MarkSending"] = lambda: fleet.clock.advance(2.5)

    await peer.ask()

    sent_at_s = [entry.at_s for entry in fleet.idp.refreshes()]
    marked = peer.life.trace.count("at MarkSending")
    assert (len(sent_at_s), marked) == (1, 2)
    await peer.rest()
    assert _is_well(fleet, peer)
    await fleet.end()


@in_virtual_time
async def test_a_pair_is_served_and_parked_while_the_store_is_away_at_the_commit() -> None:
    """Section 9: waiters go on, the pair waits on disk and is stored when the store is back."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    peer.life.actions["told"] = lambda: _away(peer, for_s=120)
    fleet.idp.life_s = 600

    first = await peer.ask()
    await asyncio.sleep(60)
    later = await peer.ask()

    assert bearer_of(first) == bearer_of(later)
    assert isinstance(later, TokenFound)
    assert later.source is TokenSource.STALE
    assert fleet.record(peer).state is GrantState.SENDING
    assert peer.leftovers() == ["lane", "berths running", "commits", "parked"]
    await asyncio.sleep(63)
    assert _is_well(fleet, peer)
    assert fleet.record(peer).committed_run_id == fleet.store.run_id
    assert peer.leftovers() == []
    await fleet.end()


@in_virtual_time
async def test_a_commit_whose_reply_was_lost_is_a_duplicate_at_worst() -> None:
    """I18: the store took it, the reply got lost, the next try says so."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    peer.life.actions["after Commit"] = lambda: _away(peer, for_s=1)

    await peer.ask()
    await peer.rest()

    assert [event.answer for event in peer.of(PairCommitted)] == [CommitAnswer.DUPLICATE]
    assert _is_well(fleet, peer)
    await fleet.end()


@pytest.mark.parametrize("name", ["Acquire", "MarkSending", "Commit"])
@in_virtual_time
async def test_a_lost_reply_of_each_step_is_repaired_by_asking_again(name: str) -> None:
    """Each step may have run when its reply is lost; asked again it means the same."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    peer.life.actions[f"after {name}"] = lambda: peer.store.loses_replies_of.add(name)
    peer.life.actions[f"back from {name}"] = lambda: _forgive(peer, name)

    assert bearer_of(await peer.ask())

    await peer.rest()
    assert len(fleet.idp.refreshes()) == 1
    assert _is_well(fleet, peer)
    await fleet.end()


def _forgive(peer: Peer, name: str) -> None:
    asyncio.get_running_loop().call_soon(peer.store.loses_replies_of.discard, name)


@in_virtual_time
async def test_a_denial_waits_for_the_store_with_its_hold() -> None:
    """The store is away at DENY: the verdict reaches it when it is back."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.plan.append(Fault.ANSWER_LOST)
    peer.life.actions["before Deny"] = lambda: _away(peer, for_s=100)

    await peer.ask()
    await asyncio.sleep(110)

    assert fleet.record(peer).state is GrantState.IN_DOUBT
    assert peer.leftovers() == []
    await fleet.end()


@in_virtual_time
async def test_a_release_waits_for_the_store() -> None:
    """The store is away at RELEASE: the grant is given back when it is there again."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.plan.append(Fault.UNREACHABLE)
    peer.life.actions["before Release"] = lambda: _away(peer, for_s=100)

    await peer.ask()
    await peer.rest()

    assert fleet.record(peer).state is GrantState.ACTIVE
    assert fleet.record(peer).failures == 1
    await fleet.end()


@in_virtual_time
async def test_a_store_that_lost_a_commit_gets_it_back_from_the_spool() -> None:
    """H2: the store said OK and forgot; a new incarnation makes every spool replay."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    before = dict(fleet.store.records)
    await peer.ask()
    await peer.rest()
    fleet.restart_store(before)

    await asyncio.sleep(2)

    assert _is_well(fleet, peer)
    assert [event.is_replay for event in peer.of(PairCommitted)] == [False, True]
    await fleet.end()


@in_virtual_time
async def test_what_came_last_is_replayed_first() -> None:
    """A store forgets its last writes, and a big spool may take longer than the quarantine."""
    fleet = Fleet()
    peer = await fleet.peer()
    other = GrantKey(user="u-2", provider="mikomo")
    for key in (KEY, other):
        await peer.obtain(key)
    await until_expiry(fleet)
    await peer.ask()
    await peer.rest()
    peer.events.clear()
    fleet.restart_store()

    await asyncio.sleep(2)

    replayed = [event.grant for event in peer.of(PairCommitted) if event.is_replay]
    assert replayed == [peer.parts.grant(KEY), peer.parts.grant(other)]
    await fleet.end()


@in_virtual_time
async def test_a_wiped_store_is_refilled_from_the_spool() -> None:
    """Nothing is left of the data set: the newest pair of each grant creates its record."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    await peer.ask()
    await peer.rest()
    fleet.restart_store({})

    await asyncio.sleep(2)

    assert _is_well(fleet, peer)
    await fleet.end()


@in_virtual_time
async def test_claims_are_quarantined_until_every_spool_was_replayed() -> None:
    """H3, I16: after a rollback nobody claims for a minute; the replay comes first."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    other = await fleet.peer("b")
    before = dict(fleet.store.records)
    await peer.ask()
    await peer.rest()
    await until_expiry(fleet)
    peer.store.is_away = True
    fleet.restart_store(before)
    await asyncio.sleep(2)

    lookup = await other.ask()
    peer.store.is_away = False
    await asyncio.sleep(3)

    assert isinstance(lookup, TokenRefused)
    assert other.of(RecordQuarantined)
    assert len(fleet.idp.refreshes()) == 1
    assert _is_well(fleet, other)
    await fleet.end()


@in_virtual_time
async def test_h3_a_first_pair_that_was_offered_before_does_not_end_the_quarantine() -> None:
    """I10: a peer may have claimed it in the store that is gone, and holds its successor."""
    fleet = Fleet()
    owner = await fleet.peer("a")
    peer, third = await fleet.peer("b"), await fleet.peer("c")
    owner.store.loses_replies_of = {"Commit"}
    consenting = asyncio.ensure_future(owner.obtain())
    await until_expiry(fleet)
    await peer.ask()
    await until_expiry(fleet)
    peer.store.is_away = True
    fleet.restart_store({})
    await asyncio.sleep(3)
    assert fleet.record(third).pair.generation == 0

    lookup = await third.ask()
    owner.store.loses_replies_of = set()
    peer.store.is_away = False
    await consenting
    await asyncio.sleep(3)

    assert isinstance(lookup, TokenRefused)
    assert third.of(RecordQuarantined)
    assert len(fleet.idp.refreshes()) == 1
    assert _is_well(fleet, third)
    await fleet.end()


@in_virtual_time
async def test_h10_a_consent_that_the_store_forgot_does_not_outrank_a_later_one() -> None:
    """The order of consents comes from Akoya's clock, and not from a counter that can fall back."""
    fleet = Fleet()
    first, second = await fleet.peer("a"), await fleet.peer("b")
    await first.obtain()
    first.store.is_away = True
    fleet.restart_store({})
    await asyncio.sleep(10)

    await second.obtain()
    first.store.is_away = False
    await asyncio.sleep(5)

    assert _is_well(fleet, second)
    assert bearer_of(await first.ask()) == bearer_of(await second.ask())
    await fleet.end()


@pytest.mark.parametrize("late", ["a", "b"])
@in_virtual_time
async def test_an_old_copy_never_beats_the_newer_generation_of_another_spool(late: str) -> None:
    """Replays come in any order: the highest generation stands at the end."""
    fleet = Fleet()
    first, second = await fleet.with_expired_grant("a"), await fleet.peer("b")
    first.store.is_deaf = second.store.is_deaf = True
    for peer in (first, second, first):
        await peer.ask()
        await peer.rest()
        await until_expiry(fleet)
    fleet.restart_store({})
    _away(first if first.name == late else second, for_s=5)

    await asyncio.sleep(10)

    assert fleet.record(first).pair.generation == 3
    assert fleet.stored_token(first) == fleet.idp.live_token(KEY)
    await fleet.end()


@in_virtual_time
async def test_a_stuck_owner_whose_hold_ended_still_brings_its_pair() -> None:
    """H1: paused past its hold, it wakes and commits over a stranger's doubt."""
    fleet = Fleet()
    owner, stranger = await fleet.with_expired_grant("a"), await fleet.peer("b")
    owner.life.actions["told"] = lambda: _away(owner, for_s=330)
    asking = asyncio.ensure_future(owner.ask())
    await asyncio.sleep(301)
    await stranger.ask()
    await stranger.rest()
    assert fleet.record(owner).state is GrantState.IN_DOUBT

    await until(lambda: _is_well(fleet, owner), within_s=40, what="the owner's commit")

    assert bearer_of(await stranger.ask())
    assert stranger.of(TokenLost) == []
    await asking
    await fleet.end()


@pytest.mark.parametrize("is_first", [False, True])
@in_virtual_time
async def test_housekeeping_leaves_a_pair_to_whoever_brought_it(*, is_first: bool) -> None:
    """Offered as a copy first, a live pair would prove nothing: a quarantine, doubts for 600 s."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.close_after_s = 0.05
    rounds: list[asyncio.Task[None]] = []

    def keep_house() -> None:
        rounds.append(asyncio.ensure_future(peer.parts.reconciler.tick()))

    peer.life.actions["told"] = keep_house

    await (peer.obtain() if is_first else peer.ask())
    await peer.rest()
    await asyncio.gather(*rounds)

    record = fleet.record(peer)
    assert len(rounds) == 1
    assert [event.is_replay for event in peer.of(PairCommitted)] == [False]
    assert record.committed_run_id == record.run_id == fleet.store.run_id
    assert peer.leftovers() == []
    await fleet.end()


@in_virtual_time
async def test_a_claim_that_hangs_does_not_keep_its_pair_from_the_store() -> None:
    """Whatever a claim waits for after its answer, housekeeping stores the pair in the end."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.close_after_s = 1e6

    await peer.ask()
    await asyncio.sleep(fleet.times.lease_s + 1)

    assert _is_well(fleet, peer)
    await fleet.end()

from __future__ import annotations

import asyncio

import pytest

from sidecar.domain.events import GrantReauthRequired, LossCause, SpoolReplayed, TokenLost
from sidecar.domain.policy import ProtocolTimes
from sidecar.domain.record import GrantKey, GrantState
from tests.support.rotating_idp import Fault
from tests.support.sidecar_parts import KEY
from tests.support.virtual_fleet import Fleet, Peer, bearer_of
from tests.support.virtual_time import in_virtual_time

BEFORE_THE_MARK = ["before Acquire", "after Acquire", "connected", "after ClaimIntended"]
MARKED_UNSENT = ["after MarkSending", "back from MarkSending", "admitted"]
SENT_UNREAD = ["sent", "answered", "before AnswerReceived"]
ON_DISK = ["after AnswerReceived", "after PairReceived", "told", "before Commit", "at Commit"]
COMMITTED = ["after Commit", "back from Commit", "after PairConfirmed"]


async def _dies_in_a_claim(fleet: Fleet, point: str) -> Peer:
    peer = await fleet.with_expired_grant()
    peer.life.dies_at = point
    asking = asyncio.ensure_future(peer.ask())
    await peer.died()
    await asyncio.gather(asking, return_exceptions=True)
    return peer


def _is_well(fleet: Fleet, peer: Peer) -> bool:
    record = fleet.record(peer)
    is_live = fleet.stored_token(peer) == fleet.idp.live_token(KEY)
    return record.state is GrantState.ACTIVE and is_live


@pytest.mark.parametrize("point", BEFORE_THE_MARK)
@in_virtual_time
async def test_a_death_before_the_mark_costs_a_lease_at_most(point: str) -> None:
    """Nothing was sent: a peer takes over as soon as the lease ends, with the first try."""
    fleet = Fleet()
    peer = await _dies_in_a_claim(fleet, point)
    other = await fleet.peer("b")

    await asyncio.sleep(10.1)
    await other.ask()

    await other.rest()
    assert _is_well(fleet, other)
    assert len(fleet.idp.refreshes()) == 1
    await peer.start()
    await peer.rest()
    assert peer.leftovers() == []
    await fleet.end()


@pytest.mark.parametrize("point", [*BEFORE_THE_MARK, *MARKED_UNSENT])
@in_virtual_time
async def test_the_own_restart_needs_no_hold_after_a_death_before_sending(point: str) -> None:
    """The spool's lock proves the former process dead: its claim is repeated at once."""
    fleet = Fleet()
    peer = await _dies_in_a_claim(fleet, point)
    await peer.start()

    await asyncio.sleep(11)
    await peer.ask()

    await peer.rest()
    assert _is_well(fleet, peer)
    assert len(fleet.idp.refreshes()) == 1
    assert peer.leftovers() == []
    await fleet.end()


@pytest.mark.parametrize("point", MARKED_UNSENT)
@in_virtual_time
async def test_a_stranger_waits_for_the_hold_of_a_dead_claim(point: str) -> None:
    """H31: only the owner's restart may go at once; anybody else waits 300 s, then probes."""
    fleet = Fleet()
    await _dies_in_a_claim(fleet, point)
    other = await fleet.peer("b")

    await asyncio.sleep(290)
    await other.ask()
    early = len(fleet.idp.refreshes())
    await asyncio.sleep(11)
    await other.ask()

    await other.rest()
    assert early == 0
    assert len(fleet.idp.refreshes()) == 1
    assert _is_well(fleet, other)
    await fleet.end()


@pytest.mark.parametrize("point", SENT_UNREAD)
@in_virtual_time
async def test_an_answer_that_died_with_its_reader_is_told_as_such(point: str) -> None:
    """The one loss that stays: processed, and killed before the disk; doubted, then settled."""
    fleet = Fleet()
    peer = await _dies_in_a_claim(fleet, point)
    await asyncio.sleep(1)
    assert fleet.idp.refreshes()[0].is_success

    await peer.start()
    await asyncio.sleep(5)

    assert fleet.record(peer).state is GrantState.IN_DOUBT
    await asyncio.sleep(600)
    assert fleet.record(peer).state is GrantState.REAUTH_REQUIRED
    assert [event.cause for event in peer.of(TokenLost)] == [LossCause.OWNER_DIED]
    assert len(fleet.idp.refreshes()) == 2
    assert peer.leftovers() == []
    await fleet.end()


@in_virtual_time
async def test_an_orphan_races_the_dead_claim_and_may_win() -> None:
    """The dead process' request was not yet processed: the restart's claim gets the pair."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.plan.append(Fault.REQUEST_LOST)
    peer.life.dies_at = "sent"
    asking = asyncio.ensure_future(peer.ask())
    await peer.died()

    await peer.start()
    await peer.rest()

    assert _is_well(fleet, peer)
    await asyncio.gather(asking, return_exceptions=True)
    await fleet.end()


@pytest.mark.parametrize("point", [*ON_DISK, *COMMITTED])
@in_virtual_time
async def test_a_pair_on_disk_survives_any_death(point: str) -> None:
    """From the durable write on, a restart brings the pair to the store before anything else."""
    fleet = Fleet()
    peer = await _dies_in_a_claim(fleet, point)

    await peer.start()

    assert fleet.stored_token(peer) == fleet.idp.live_token(KEY)
    await peer.rest()
    assert _is_well(fleet, peer)
    assert bearer_of(await peer.ask())
    await peer.rest()
    assert peer.leftovers() == []
    assert [entry.token for entry in fleet.idp.refreshes()[:1]] == ["canary-refresh-u-1-0-0"]
    await fleet.end()


@pytest.mark.parametrize("point", ON_DISK)
@in_virtual_time
async def test_a_synced_pair_survives_the_loss_of_power(point: str) -> None:
    """What `fdatasync` returned for is there after a power failure; the raw answer may not be."""
    fleet = Fleet()
    peer = await _dies_in_a_claim(fleet, point)
    is_synced = peer.disk.entries[-1][1]
    peer.disk.lose_power()

    await peer.start()
    await peer.rest()

    assert _is_well(fleet, peer) is is_synced
    await fleet.end()


@pytest.mark.parametrize("point", ["told", "at Commit"])
@in_virtual_time
async def test_a_probe_of_a_stranger_is_healed_by_the_owners_restart(point: str) -> None:
    """The owner slept past its hold, a stranger was denied; the replay heals at any time."""
    fleet = Fleet()
    peer = await _dies_in_a_claim(fleet, point)
    other = await fleet.peer("b")
    await asyncio.sleep(301)
    await other.ask()
    await other.rest()
    assert fleet.record(other).state is GrantState.IN_DOUBT

    await peer.start()

    assert _is_well(fleet, peer)
    assert bearer_of(await other.ask())
    assert other.of(GrantReauthRequired) == []
    await fleet.end()


@in_virtual_time
async def test_even_a_settled_doubt_is_healed_by_a_late_pair() -> None:
    """H5: `reauth_required` is soft; the pair that turns up after it makes the grant active."""
    fleet = Fleet()
    peer = await _dies_in_a_claim(fleet, "told")
    other = await fleet.peer("b")
    await asyncio.sleep(301)
    await other.ask()
    await asyncio.sleep(610)
    assert fleet.record(other).state is GrantState.REAUTH_REQUIRED
    assert [event.cause for event in other.of(TokenLost)] == [LossCause.OWNER_DIED]

    await peer.start()

    assert _is_well(fleet, peer)
    await fleet.end()


@in_virtual_time
async def test_a_distressed_peer_is_answered_from_another_spool() -> None:
    """The denied peer calls the fleet, and whoever has the pair brings it: healed in no time."""
    fleet = Fleet(times=ProtocolTimes(store_probe_every_s=1e4))  # the holder notices nothing
    holder = await fleet.with_expired_grant()
    before = dict(fleet.store.records)
    await holder.ask()
    await holder.rest()
    fleet.restart_store(before)
    other = await fleet.peer("b")
    await other.ask()
    await asyncio.sleep(61)

    lookup = await other.ask()

    assert bearer_of(lookup)
    await other.rest()
    assert _is_well(fleet, other)
    assert len(fleet.store.distress) == 1
    assert other.of(TokenLost) == []
    await fleet.end()


@in_virtual_time
async def test_a_parked_pair_is_stored_before_its_grant_is_claimed() -> None:
    """H4: the store shows the old token, yet the replica that has its successor drains first."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    known = fleet.record(peer).position
    peer.life.actions["told"] = lambda: _cut_off(peer)
    await peer.ask()
    await asyncio.sleep(301)
    peer.store.is_away = False
    peer.life.trace.clear()

    await peer.parts.broker.renew(KEY, known=known, wait_s=10)

    steps = [name for name in peer.life.trace if name in ("at Commit", "at Acquire")]
    assert steps[0] == "at Commit"
    assert len(fleet.idp.refreshes()) == 1
    await peer.rest()
    assert _is_well(fleet, peer)
    await fleet.end()


@in_virtual_time
async def test_the_own_disk_is_asked_again_under_the_lease() -> None:
    """I4: a store that forgot a confirmed pair gets it back; its predecessor is not presented."""
    fleet = Fleet(times=ProtocolTimes(store_probe_every_s=1e4))  # nobody notices the rollback
    peer = await fleet.with_expired_grant()
    await fleet.forgets_what_it_confirmed(peer)
    known = fleet.record(peer).position

    await peer.parts.broker.renew(KEY, known=known, wait_s=10)

    await peer.rest()
    assert len(fleet.idp.refreshes()) == 1
    assert _is_well(fleet, peer)
    await fleet.end()


def _cut_off(peer: Peer) -> None:
    peer.store.is_away = True


@in_virtual_time
async def test_nothing_leaves_when_the_intent_cannot_be_noted() -> None:
    """Fail closed: without a spool no claim, and the lease is given back."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    peer.disk.fails_on.add("ClaimIntended")

    await peer.ask()

    await peer.rest()
    assert fleet.idp.refreshes() == []
    assert fleet.record(peer).state is GrantState.ACTIVE
    peer.disk.fails_on.clear()
    assert bearer_of(await peer.ask())
    await fleet.end()


@in_virtual_time
async def test_a_full_disk_stops_claims_before_the_lease() -> None:
    """A claim is refused when its answer could not be kept."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    peer.disk.is_full = True

    await peer.ask()

    assert peer.life.trace.count("at Acquire") == 0
    assert fleet.idp.refreshes() == []
    await fleet.end()


@in_virtual_time
async def test_an_answer_that_the_disk_refuses_goes_to_the_store_before_the_waiters() -> None:
    """Without a durable copy nobody is served what a crash could lose."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    peer.disk.fails_on.add("PairReceived")
    asking = asyncio.ensure_future(peer.ask())
    asking.add_done_callback(lambda _: peer.life.point("woken"))

    assert bearer_of(await asking)

    assert _is_well(fleet, peer)
    trace = peer.life.trace
    assert trace.index("back from Commit") < trace.index("woken")
    await fleet.end()


@in_virtual_time
async def test_an_orphan_waits_while_the_store_is_away_and_is_then_adopted() -> None:
    """The restart finds no store: the intent is kept until there is one."""
    fleet = Fleet(times=ProtocolTimes())
    peer = await _dies_in_a_claim(fleet, "admitted")
    await peer.start(is_away=True)
    await asyncio.sleep(30)
    assert fleet.idp.refreshes() == []
    peer.store.is_away = False

    await asyncio.sleep(3)

    assert _is_well(fleet, peer)
    assert [event.orphans for event in peer.of(SpoolReplayed)][-1] == 1
    await fleet.end()


@in_virtual_time
async def test_an_adoption_whose_reply_was_lost_is_repaired_by_asking_again() -> None:
    """I18: the store handed the dead claim over, and nobody heard it; asked again it says so."""
    fleet = Fleet(times=ProtocolTimes())
    peer = await _dies_in_a_claim(fleet, "admitted")
    await peer.start(is_away=True)
    peer.store.loses_replies_of.add("AdoptOrphan")
    peer.store.is_away = False
    await asyncio.sleep(3)
    assert fleet.record(peer).state is GrantState.LEASED
    peer.store.loses_replies_of.clear()

    await asyncio.sleep(1)

    assert _is_well(fleet, peer)
    assert [entry.is_success for entry in fleet.idp.refreshes()] == [True]
    await fleet.end()


@in_virtual_time
async def test_a_restart_looks_up_what_the_store_knows_and_offers_none_of_it() -> None:
    """However many users a sidecar served, its claims wait for a few calls and not for one each."""
    fleet = Fleet()
    keys = [GrantKey(user=f"user-{number}", provider=KEY.provider) for number in range(30)]
    peer = await fleet.peer()
    for key in keys:
        await peer.obtain(key)
    await peer.stop()
    before = dict(fleet.store.records)

    await peer.start()

    assert peer.parts.reconciler.has_replayed
    assert sum(replayed.pairs for replayed in peer.of(SpoolReplayed)) == len(keys)
    assert "before Commit" not in peer.life.trace
    assert peer.life.trace.count("before read_each") == 1
    assert fleet.store.records == before
    await fleet.end()

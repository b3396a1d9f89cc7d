"""What a sweep over all records puts right, because nobody else would."""

from __future__ import annotations

import asyncio
from typing import Final

import pytest

from sidecar.domain.events import DueOutcome, RecordUnreadable, SpoolResealed, StoreSwept
from sidecar.domain.policy import RefreshAhead
from sidecar.domain.record import GrantState
from sidecar.domain.spooled import AnswerReceived
from tests.support.rotating_idp import Fault
from tests.support.scheduling import LIFE_S, generations, link, looks, scheduling_fleet, users
from tests.support.sidecar_parts import KEY, KEYS, sealer
from tests.support.virtual_fleet import Fleet, Peer, bearer_of
from tests.support.virtual_time import in_virtual_time

NEW_KEY: Final = ("k2", b"2" * 32)


def _swept(peer: Peer) -> StoreSwept:
    return peer.of(StoreSwept)[-1]


async def _next_sweep(fleet: Fleet, peer: Peer) -> None:
    """Let one more sweep of the only sidecar pass."""
    before = len(peer.of(StoreSwept))
    await asyncio.sleep(fleet.times.sweep_every_s + fleet.times.sweep_poll_s)
    assert len(peer.of(StoreSwept)) == before + 1


@pytest.mark.parametrize("ahead", [RefreshAhead.ACTIVE, RefreshAhead.ALL])
def test_a_schedule_that_the_store_lost_comes_back_in_time(ahead: RefreshAhead) -> None:
    """A restart that forgot the schedule costs no grant its refresh before the token expires."""

    @in_virtual_time
    async def story() -> None:
        fleet = scheduling_fleet(ahead)
        peer = await fleet.peer()
        keys = users("mikomo", 20)
        await link(peer, keys)
        await asyncio.gather(*(peer.ask(key) for key in keys))
        await asyncio.sleep(60)
        fleet.store.due.clear()
        fleet.store.used.clear()
        fleet.store.canaries.clear()
        fleet.restart_store()
        for _ in range(10):
            await asyncio.sleep(10)
            await asyncio.gather(*(peer.ask(key) for key in keys))

        await asyncio.sleep(LIFE_S - 200)

        assert generations(fleet, peer, keys) == [1] * 20
        await fleet.end()

    story()


@in_virtual_time
async def test_a_grant_that_left_the_schedule_is_brought_back() -> None:
    """What the schedule alone forgot is missing for one sweep at most."""
    fleet = scheduling_fleet(RefreshAhead.ALL)
    peer = await fleet.peer()
    keys = users("mikomo", 10)
    await link(peer, keys)
    await asyncio.sleep(30)
    fleet.store.due.clear()

    await _next_sweep(fleet, peer)

    assert _swept(peer).scheduled == 10
    assert len(fleet.store.due) == 10
    await asyncio.sleep(LIFE_S - fleet.times.sweep_every_s - 60)
    assert generations(fleet, peer, keys) == [1] * 10
    await fleet.end()


@in_virtual_time
async def test_only_what_is_in_use_is_brought_back() -> None:
    """With `active` a sweep schedules no grant that nobody uses."""
    fleet = scheduling_fleet(RefreshAhead.ACTIVE)
    peer = await fleet.peer()
    used, unused = users("mikomo", 2)
    await link(peer, [used, unused])
    await peer.ask(used)
    await asyncio.sleep(30)
    fleet.store.due.clear()

    await _next_sweep(fleet, peer)

    assert set(fleet.store.due) == {peer.parts.grant(used)}
    await fleet.end()


@in_virtual_time
async def test_an_overdue_hold_that_nobody_remembers_is_probed() -> None:
    """The claim of a request whose sidecar is gone for good is taken up after its hold."""
    fleet = scheduling_fleet(RefreshAhead.ACTIVE)
    owner, other = await fleet.peer("a"), await fleet.peer("b")
    await owner.obtain()
    record = fleet.record(owner)
    owner.life.dies_at = "back from MarkSending"
    renewing = asyncio.ensure_future(owner.parts.broker.renew(KEY, known=record.position, wait_s=5))
    await owner.died()
    fleet.store.due.clear()

    await asyncio.sleep(2 * fleet.times.sweep_every_s)

    assert fleet.record(other).state is GrantState.ACTIVE
    assert fleet.record(other).pair.generation == 1
    assert [entry.peer for entry in fleet.idp.refreshes()] == ["b"]
    assert DueOutcome.REFRESHED in looks(other, KEY)
    await asyncio.gather(renewing, return_exceptions=True)
    await fleet.end()


@in_virtual_time
async def test_a_doubt_that_everybody_forgot_is_settled() -> None:
    """A denial whose healing time ended while every sidecar was down does not stand for ever."""
    fleet = scheduling_fleet(RefreshAhead.OFF)
    peer = await fleet.with_expired_grant()
    fleet.idp.life_s = LIFE_S
    fleet.idp.plan.append(Fault.ANSWER_LOST)
    await peer.ask()
    assert fleet.record(peer).state is GrantState.IN_DOUBT
    await peer.stop()
    await asyncio.sleep(fleet.times.heal_s)

    await peer.start()
    await asyncio.sleep(2 * fleet.times.sweep_every_s)

    assert fleet.record(peer).state is GrantState.REAUTH_REQUIRED
    assert sum(event.settled for event in peer.of(StoreSwept)) == 1
    await fleet.end()


@in_virtual_time
async def test_records_and_spool_are_sealed_anew_so_that_a_key_can_be_retired() -> None:
    """After a sweep the former key opens nothing that is needed: not the store, not the disk."""
    fleet = scheduling_fleet(RefreshAhead.OFF)
    peer = await fleet.peer()
    keys = users("mikomo", 20)
    fleet.idp.life_s = 80_000
    await link(peer, keys)
    await peer.revoke(keys[0])
    bearers = [bearer_of(await peer.ask(key)) for key in keys[1:]]
    await peer.stop()
    fleet.sealer = sealer((NEW_KEY, *KEYS))
    await peer.start()
    await asyncio.sleep(2 * fleet.times.sweep_every_s)
    await peer.stop()

    fleet.sealer = sealer((NEW_KEY,))
    await peer.start()

    grants = {peer.parts.grant(key): key for key in keys}
    assert sum(event.resealed for event in peer.of(StoreSwept)) == 20
    assert [bearer_of(await peer.ask(key)) for key in keys[1:]] == bearers
    for grant, record in fleet.store.records.items():
        assert peer.parts.vault.open_key(grant, record.pair.sealed_key) == grants[grant]
    for received in peer.spool.state.pairs.values():
        peer.parts.vault.open_pair(received.grant, received.pair)
    assert len(peer.spool.state.pairs) == 19
    assert not peer.spool.state.parked
    await fleet.end()


@in_virtual_time
async def test_an_unread_answer_in_the_spool_is_sealed_anew() -> None:
    """An answer that waits for a sidecar that can read it survives the end of its key."""
    fleet = scheduling_fleet(RefreshAhead.OFF)
    peer = await fleet.with_expired_grant()
    peer.disk.fails_on = {"PairReceived"}
    peer.life.dies_at = "told"
    asking = asyncio.ensure_future(peer.ask())
    await peer.died()
    answers = [entry for entry, _ in peer.disk.entries if isinstance(entry, AnswerReceived)]
    assert answers
    await peer.start(is_away=True)
    old, new = sealer(), sealer((NEW_KEY, *KEYS))
    assert old.is_current(answers[-1].sealed_answer)
    await peer.stop()
    fleet.sealer = sealer((NEW_KEY, *KEYS))

    await peer.start(is_away=True)
    await asyncio.sleep(60)

    state = peer.spool.state
    sealed = [answer.sealed_answer for answer in state.answers.values()]
    sealed += [received.pair.sealed_pair for received in state.pairs.values()]
    assert sealed
    assert all(new.is_current(envelope) for envelope in sealed)
    assert peer.of(SpoolResealed)[-1].unreadable == 0
    await asyncio.gather(asking, return_exceptions=True)
    await fleet.end()


@in_virtual_time
async def test_what_cannot_be_opened_is_told_and_left_alone() -> None:
    """Records sealed with a key that is missing here are counted, a few of them named."""
    fleet = scheduling_fleet(RefreshAhead.OFF)
    fleet.sealer = sealer((NEW_KEY,))
    peer = await fleet.peer()
    keys = users("mikomo", 30)
    await link(peer, keys)
    await peer.stop()
    before = dict(fleet.store.records)
    fleet.sealer = sealer()
    await peer.start()

    await asyncio.sleep(2 * fleet.times.sweep_every_s)

    assert _swept(peer).unreadable == 30
    assert _swept(peer).resealed == 0
    assert len(peer.of(RecordUnreadable)) == 20 * len(
        [event for event in peer.of(StoreSwept) if event.unreadable]
    )
    assert fleet.store.records == before
    await fleet.end()

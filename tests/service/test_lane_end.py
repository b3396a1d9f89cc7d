from __future__ import annotations

import asyncio

import pytest

from sidecar.domain.events import WorkFailed
from sidecar.domain.record import GrantState
from sidecar.service.lane import LaneWorkFailed
from tests.support.virtual_fleet import Fleet
from tests.support.virtual_time import in_virtual_time


@in_virtual_time
async def test_a_store_that_returns_during_a_drain_starts_no_claim() -> None:
    """I17: the replay reaches a shut lane; dead claims stay on the disk for the next start."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    peer.life.dies_at = "back from MarkSending"
    asking = asyncio.ensure_future(peer.ask())
    await peer.died()
    await peer.start(is_away=True)

    peer.parts.lane.shut()
    peer.store.is_away = False
    await asyncio.sleep(400)
    await peer.ask()

    assert peer.parts.reconciler.has_replayed
    assert fleet.idp.refreshes() == []
    assert peer.leftovers() == ["intents"]
    await asyncio.gather(asking, return_exceptions=True)
    await fleet.end()


@in_virtual_time
async def test_an_abandoned_claim_looks_at_its_answer_once_more_before_it_ends() -> None:
    """At the end of the drain's time a claim is told to end, and has ended when that returns.

    Its connection is gone for good, so it gives the grant back: a peer need not wait for a hold.
    """
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.answer_after_s = 1000.0
    asking = asyncio.ensure_future(peer.ask())
    await asyncio.sleep(1)

    await peer.parts.lane.abandon()

    assert peer.parts.lane.running == 0
    assert "cancelled" in peer.life.trace
    assert "told" in peer.life.trace
    record = fleet.record(peer)
    assert (record.state, record.marks) == (GrantState.ACTIVE, 1)
    assert peer.leftovers() == []
    await asyncio.gather(asking, return_exceptions=True)
    await fleet.end()


@in_virtual_time
async def test_an_abandoned_claim_does_not_wait_for_a_store_that_is_away() -> None:
    """Its intent stays on the disk, and the next start repeats it at once."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.answer_after_s = 1000.0
    asking = asyncio.ensure_future(peer.ask())
    await asyncio.sleep(1)
    peer.store.is_away = True
    began_s = fleet.clock.elapsed_s()

    await peer.parts.lane.abandon()

    assert fleet.clock.elapsed_s() - began_s <= 1.1
    assert fleet.record(peer).state is GrantState.SENDING
    assert peer.leftovers() == ["intents"]
    await asyncio.gather(asking, return_exceptions=True)
    fleet.idp.answer_after_s = 0.05
    await peer.crash()
    await peer.start()
    await asyncio.sleep(1)
    assert fleet.record(peer).pair.generation == 1
    await fleet.end()


@in_virtual_time
async def test_work_that_is_ended_before_its_first_step_tells_whoever_waits_for_it() -> None:
    """Abandoned in the very step in which it was submitted, it leaves nobody waiting for ever."""
    fleet = Fleet()
    peer = await fleet.peer()

    async def never_begun() -> None:
        raise AssertionError

    waiting = asyncio.ensure_future(peer.parts.lane.run(never_begun, where="exchange"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    await peer.parts.lane.abandon()

    with pytest.raises(LaneWorkFailed):
        await waiting
    assert peer.of(WorkFailed) == []
    await fleet.end()

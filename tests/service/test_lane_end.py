from __future__ import annotations

import asyncio

from sidecar.domain.record import GrantState
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
    """At the end of the drain's time a claim is told to end, and has ended when that returns."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.answer_after_s = 1000.0
    asking = asyncio.ensure_future(peer.ask())
    await asyncio.sleep(1)

    await peer.parts.lane.abandon()

    assert peer.parts.lane.running == 0
    assert "cancelled" in peer.life.trace
    assert "told" in peer.life.trace
    assert fleet.record(peer).state is GrantState.SENDING
    await asyncio.gather(asking, return_exceptions=True)
    await fleet.end()

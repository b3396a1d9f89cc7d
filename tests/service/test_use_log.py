"""The fleet learns which grants are in use, and no request pays for it."""

from __future__ import annotations

import asyncio

from sidecar.domain.policy import RefreshAhead
from tests.support.scheduling import link, scheduling_fleet, users
from tests.support.sidecar_parts import KEY
from tests.support.virtual_time import in_virtual_time

WINDOW_S = 600.0
TELL_S = WINDOW_S / 10


@in_virtual_time
async def test_a_grant_in_steady_use_is_told_ten_times_in_a_window() -> None:
    """Ten requests a second for a whole window cost eleven tellings, and none from memory any."""
    fleet = scheduling_fleet(RefreshAhead.ACTIVE, active_window_s=WINDOW_S)
    peer = await fleet.peer()
    await peer.obtain()
    peer.life.trace.clear()

    for _ in range(int(WINDOW_S) * 10):
        await asyncio.sleep(0.1)
        await peer.ask()

    told = peer.life.trace.count("at note_uses")
    used_ms = fleet.store.used[peer.parts.grant(KEY)]
    assert 9 <= told <= 11
    assert fleet.store.now_ms - used_ms <= (TELL_S + fleet.times.use_flush_s + 5) * 1000
    await fleet.end()


@in_virtual_time
async def test_uses_are_told_in_batches() -> None:
    """Hundreds of grants in use cost the store two calls for each part of the schedule."""
    fleet = scheduling_fleet(RefreshAhead.ACTIVE, active_window_s=WINDOW_S)
    peer = await fleet.peer()
    keys = users("mikomo", 200)
    await link(peer, keys)
    await asyncio.sleep(fleet.times.use_flush_s)
    await asyncio.gather(*(peer.ask(key) for key in keys))
    peer.life.trace.clear()

    await asyncio.sleep(2 * fleet.times.use_flush_s)

    assert len(fleet.store.used) == 200
    assert peer.life.trace.count("at note_uses") <= 16
    await fleet.end()


@in_virtual_time
async def test_what_the_store_could_not_be_told_is_told_when_it_is_back() -> None:
    """A use is not forgotten because the store was away for a while."""
    fleet = scheduling_fleet(RefreshAhead.ACTIVE, active_window_s=WINDOW_S)
    peer = await fleet.peer()
    await peer.obtain()
    await peer.ask()
    peer.store.is_away = True
    await asyncio.sleep(3 * fleet.times.use_flush_s)
    away = dict(fleet.store.used)

    peer.store.is_away = False
    await asyncio.sleep(2 * fleet.times.use_flush_s)

    assert away == {}
    assert set(fleet.store.used) == {peer.parts.grant(KEY)}
    await fleet.end()


@in_virtual_time
async def test_a_store_that_forgot_the_uses_is_told_again_at_the_next_one() -> None:
    """After a restart of the store nobody waits for the rest of the window to count as in use."""
    fleet = scheduling_fleet(RefreshAhead.ACTIVE)
    peer = await fleet.peer()
    await peer.obtain()
    await peer.ask()
    await asyncio.sleep(2 * fleet.times.use_flush_s)
    told = set(fleet.store.used)
    fleet.store.used.clear()
    fleet.restart_store()
    await asyncio.sleep(2 * fleet.times.use_flush_s)

    await peer.ask()
    await asyncio.sleep(2 * fleet.times.use_flush_s)

    assert told == set(fleet.store.used) == {peer.parts.grant(KEY)}
    await fleet.end()

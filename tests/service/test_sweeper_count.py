from __future__ import annotations

from dataclasses import replace

import pytest

from sidecar.domain.events import GrantsCounted
from sidecar.domain.record import GrantId, GrantState
from tests.support.records import active
from tests.support.sidecar_parts import Rig, SidecarParts, make_rig


@pytest.fixture
async def rig() -> Rig:
    rig = make_rig()
    states = [GrantState.ACTIVE] * 700 + [GrantState.LEASED, GrantState.SENDING, GrantState.REVOKED]
    for number, state in enumerate(states):
        rig.store.records[GrantId(f"{number:032x}")] = replace(active(), state=state)
    return rig


def last_count(parts: SidecarParts) -> GrantsCounted:
    return parts.observer.of(GrantsCounted)[-1]


async def test_every_grant_is_counted_under_the_state_that_the_api_shows(rig: Rig) -> None:
    """The gauge covers the whole fleet, past one page of the scan."""
    await rig.parts.sweeper.tick()

    assert last_count(rig.parts) == GrantsCounted(is_ours=True, active=700, refreshing=2, revoked=1)


async def test_one_sidecar_counts_and_the_others_show_nothing(rig: Rig) -> None:
    """A sum over the fleet counts no grant twice."""
    peer = SidecarParts.build(rig.world, spool=rig.spool, name="b")
    await rig.parts.sweeper.tick()

    await peer.sweeper.tick()

    assert last_count(rig.parts).is_ours
    assert last_count(peer) == GrantsCounted(is_ours=False)


async def test_another_sidecar_counts_when_the_time_of_the_first_is_over(rig: Rig) -> None:
    """The death of the one that counts leaves no hole for good, and the late one steps back."""
    peer = SidecarParts.build(rig.world, spool=rig.spool, name="b")
    first, second = rig.parts.sweeper, peer.sweeper
    await first.tick()
    rig.clock.advance(rig.world.times.sweep_every_s + 1)

    await second.tick()
    await first.tick()

    assert last_count(peer).is_ours
    assert not last_count(rig.parts).is_ours


async def test_nothing_is_shown_while_the_store_is_away(rig: Rig) -> None:
    """An old count is no count: no series says that nobody knows."""
    sweeping = rig.parts.sweeper
    await sweeping.tick()
    rig.clock.advance(rig.world.times.sweep_every_s + 1)
    rig.store.is_available = False

    await sweeping.tick()

    assert last_count(rig.parts) == GrantsCounted(is_ours=False)

"""What a mutation takes away and a short chaos may not show, told as stories in virtual time.

Each story holds with the sidecar as it is, and must not hold with the mutation grafted on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from sidecar.domain.policy import ProtocolTimes
from sidecar.domain.record import GrantState
from tests.chaos.mutants.grafts import MUTATIONS
from tests.support.sidecar_parts import KEY
from tests.support.virtual_fleet import Fleet
from tests.support.virtual_time import VirtualLoop

ResultT = TypeVar("ResultT")


async def _a_rollback_that_nobody_notices() -> int:
    """A store forgot a pair that it had confirmed; its holder is asked for a newer one."""
    fleet = Fleet(times=ProtocolTimes(store_probe_every_s=1e4))
    peer = await fleet.with_expired_grant()
    before = dict(fleet.store.records)
    await peer.ask()
    await peer.rest()
    fleet.restart_store(before)
    fleet.store.incarnations[fleet.store.run_id] = fleet.store.now_ms - 61_000

    await peer.parts.broker.renew(KEY, known=fleet.record(peer).position, wait_s=10)

    await peer.rest()
    await fleet.end()
    return len(fleet.idp.refreshes())


async def _a_death_longer_than_the_healing() -> GrantState:
    """A holder comes back with the only live pair after its grant was given up."""
    fleet = Fleet()
    holder = await fleet.with_expired_grant()
    holder.life.dies_at = "told"
    asking = asyncio.get_running_loop().create_task(holder.ask())
    await holder.died()
    await asyncio.gather(asking, return_exceptions=True)
    other = await fleet.peer("b")
    await asyncio.sleep(301)
    await other.ask()
    await asyncio.sleep(610)
    assert fleet.record(other).state is GrantState.REAUTH_REQUIRED

    await holder.start()

    await holder.rest()
    state = fleet.record(holder).state
    await fleet.end()
    return state


def _told(story: Callable[[], Coroutine[Any, Any, ResultT]]) -> ResultT:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(story())


def test_a_sidecar_that_does_not_ask_its_own_disk_presents_what_it_has_a_successor_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Invariant 4 stands and falls with the look at the own disk before a claim."""
    as_it_is = _told(_a_rollback_that_nobody_notices)

    MUTATIONS["no_drain"](monkeypatch.setattr)

    assert (as_it_is, _told(_a_rollback_that_nobody_notices)) == (1, 2)


def test_a_death_that_nothing_heals_loses_what_a_holder_brings_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A state that is final throws away the only live pair when it turns up."""
    as_it_is = _told(_a_death_longer_than_the_healing)

    MUTATIONS["final_reauth"](monkeypatch.setattr)

    assert as_it_is is GrantState.ACTIVE
    assert _told(_a_death_longer_than_the_healing) is GrantState.REAUTH_REQUIRED

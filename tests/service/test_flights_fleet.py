from __future__ import annotations

import asyncio

from sidecar.domain.events import ClaimEndedAs, ClaimOutcome
from sidecar.domain.record import GrantKey
from tests.support.sidecar_parts import KEY
from tests.support.virtual_fleet import Fleet, bearer_of, until_expiry
from tests.support.virtual_time import in_virtual_time


@in_virtual_time
async def test_two_hundred_callers_on_two_sidecars_cause_one_presentation() -> None:
    """I2: without a fault each generation is presented once, however many want its successor."""
    fleet = Fleet()
    first, second = await fleet.with_expired_grant("a"), await fleet.peer("b")

    found = await asyncio.gather(*(peer.ask() for peer in (first, second) for _ in range(100)))

    assert [entry.token for entry in fleet.idp.refreshes()] == ["canary-refresh-u-1-0-0"]
    assert len({bearer_of(lookup) for lookup in found}) == 1
    acquired = [peer.life.trace.count("at Acquire") for peer in (first, second)]
    assert max(acquired) <= 3  # one wish a sidecar, whatever the number of its callers
    await fleet.end()
    assert first.leftovers() == []
    assert second.leftovers() == []


@in_virtual_time
async def test_the_loser_of_a_race_is_woken_by_the_winners_notice() -> None:
    """A caller of the loser waits no longer than the winner needs, and polls little meanwhile."""
    fleet = Fleet()
    first, second = await fleet.with_expired_grant("a"), await fleet.peer("b")
    fleet.idp.answer_after_s = 5.0
    winner = asyncio.ensure_future(first.ask())
    await asyncio.sleep(4)
    loser = asyncio.ensure_future(second.ask())
    await winner
    told_at_s = fleet.clock.elapsed_s()

    await loser

    assert fleet.clock.elapsed_s() - told_at_s < 0.05
    assert second.of(ClaimEndedAs)[-1].outcome is ClaimOutcome.WAITED
    assert second.life.trace.count("at Acquire") <= 8
    await fleet.end()


@in_virtual_time
async def test_a_deaf_loser_finds_the_winners_pair_by_asking_the_store() -> None:
    """Notices are hints: without any, the loser still gets the pair within its patience."""
    fleet = Fleet()
    first, second = await fleet.with_expired_grant("a"), await fleet.peer("b")
    second.store.is_deaf = True
    fleet.idp.answer_after_s = 5.0

    mine, theirs = await asyncio.gather(first.ask(), second.ask())

    assert bearer_of(mine) == bearer_of(theirs)
    assert len(fleet.idp.refreshes()) == 1
    await fleet.end()


@in_virtual_time
async def test_grants_do_not_wait_for_each_other() -> None:
    """A hundred users with expired bearers are refreshed once each."""
    fleet = Fleet()
    first, second = await fleet.peer("a"), await fleet.peer("b")
    keys = [GrantKey(user=f"u-{number}", provider=f"bank-{number % 7}") for number in range(100)]
    for key in keys:
        await first.obtain(key)
    await until_expiry(fleet)

    await asyncio.gather(*(peer.ask(key) for peer in (first, second) for key in keys))

    presented = [entry.token for entry in fleet.idp.refreshes()]
    assert len(presented) == len(set(presented)) == 100
    assert all(fleet.stored_token(first, key) == fleet.idp.live_token(key) for key in keys)
    await fleet.end()


@in_virtual_time
async def test_a_caller_leaves_after_its_patience_and_the_claim_goes_on() -> None:
    """The caller's deadline is not the claim's: its late pair still reaches the store."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.answer_after_s = 25.0
    asked_at_s = fleet.clock.elapsed_s()

    lookup = await peer.ask()

    assert fleet.clock.elapsed_s() - asked_at_s <= fleet.policy.wait_s + 0.1
    assert not hasattr(lookup, "bearer")
    await asyncio.sleep(20)
    assert fleet.stored_token(peer) == fleet.idp.live_token(KEY)
    await fleet.end()
    assert peer.leftovers() == []

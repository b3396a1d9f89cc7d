from __future__ import annotations

import asyncio

import pytest

from sidecar.domain.outcomes import Obstacle, Postponed, Refreshed, RefreshOutcome
from sidecar.domain.policy import ProbePolicy, RefreshPolicy
from sidecar.domain.record import GrantState
from sidecar.domain.tokens import TokenRefused
from sidecar.service.claim_parts import RefreshWish
from tests.support.rotating_idp import Fault
from tests.support.sidecar_parts import KEY
from tests.support.virtual_fleet import Fleet, Peer, bearer_of
from tests.support.virtual_time import in_virtual_time


async def _with_a_dead_claim(policy: ProbePolicy) -> tuple[Fleet, Peer, Peer]:
    """Return a fleet whose owner died when its token was marked, long after the hold is over."""
    fleet = Fleet(policy=RefreshPolicy(probes=policy))
    owner, stranger = await fleet.with_expired_grant(), await fleet.peer("b")
    owner.life.dies_at = "back from MarkSending"
    asking = asyncio.ensure_future(owner.ask())
    await owner.died()
    await asyncio.gather(asking, return_exceptions=True)
    await asyncio.sleep(400)
    return fleet, owner, stranger


async def _wish(fleet: Fleet, peer: Peer) -> RefreshOutcome:
    known = fleet.record(peer).position
    grant = peer.parts.grant(KEY)
    return await peer.parts.lane.refresh(
        RefreshWish(grant=grant, provider=KEY.provider, known=known)
    )


@in_virtual_time
async def test_anybody_asks_again_once_the_hold_is_over() -> None:
    """The usual policy: a token that was perhaps never sent is saved by whoever needs it."""
    fleet, _, stranger = await _with_a_dead_claim(ProbePolicy.AFTER_HOLD)

    assert bearer_of(await stranger.ask())
    await stranger.rest()
    assert len(fleet.idp.refreshes()) == 1
    await fleet.end()


@pytest.mark.parametrize("policy", [ProbePolicy.OWNER_ONLY, ProbePolicy.MANUAL])
@in_virtual_time
async def test_a_stranger_presents_no_token_that_may_be_spent(policy: ProbePolicy) -> None:
    """Where a used token ends its family, nobody but the owner knows that it lost nothing."""
    fleet, _, stranger = await _with_a_dead_claim(policy)

    refused = await stranger.ask()
    outcome = await _wish(fleet, stranger)

    assert isinstance(refused, TokenRefused)
    assert isinstance(outcome, Postponed)
    assert outcome.obstacle is Obstacle.PROBE_WITHHELD
    assert fleet.record(stranger).state is GrantState.SENDING
    assert fleet.idp.refreshes() == []
    await fleet.end()


@in_virtual_time
async def test_the_owners_restart_asks_again_at_once() -> None:
    """Its spool proves that the former process is dead and holds no answer."""
    fleet, owner, _ = await _with_a_dead_claim(ProbePolicy.OWNER_ONLY)

    await owner.start()
    await asyncio.sleep(1)

    assert fleet.record(owner).state is GrantState.ACTIVE
    assert fleet.record(owner).pair.generation == 1
    assert owner.leftovers() == []
    await fleet.end()


@in_virtual_time
async def test_under_manual_not_even_the_owners_restart_asks_again() -> None:
    """A person decides on each; until then the claim stands, through every restart."""
    fleet, owner, _ = await _with_a_dead_claim(ProbePolicy.MANUAL)

    for _ in range(2):
        await owner.start()
        await asyncio.sleep(400)
        await owner.crash()

    assert fleet.record(owner).state is GrantState.SENDING
    assert fleet.idp.refreshes() == []
    await fleet.end()


@pytest.mark.parametrize("policy", [ProbePolicy.OWNER_ONLY, ProbePolicy.MANUAL])
@in_virtual_time
async def test_a_person_orders_the_probe(policy: ProbePolicy) -> None:
    """`POST …/refresh` presents the token, and the dead claim is forgotten with the next start."""
    fleet, owner, stranger = await _with_a_dead_claim(policy)
    known = fleet.record(stranger).position

    outcome = await stranger.parts.broker.renew(KEY, known=known, wait_s=10)
    await stranger.rest()
    await owner.start()
    await asyncio.sleep(5)

    assert isinstance(outcome, Refreshed)
    assert fleet.stored_token(stranger) == fleet.idp.live_token(KEY)
    assert len(fleet.idp.refreshes()) == 1
    assert owner.leftovers() == []
    await fleet.end()


@pytest.mark.parametrize("policy", [ProbePolicy.OWNER_ONLY, ProbePolicy.MANUAL])
@in_virtual_time
async def test_an_order_that_reached_nobody_lets_nobody_else_probe(policy: ProbePolicy) -> None:
    """The token service was away for the ordered probe: the next request is no order."""
    fleet, _, stranger = await _with_a_dead_claim(policy)
    known = fleet.record(stranger).position
    fleet.idp.plan.append(Fault.UNREACHABLE)

    ordered = await stranger.parts.broker.renew(KEY, known=known, wait_s=10)
    await asyncio.sleep(120)  # the backoff
    plain = await stranger.ask()

    assert isinstance(ordered, Postponed)
    assert isinstance(plain, TokenRefused)
    assert fleet.idp.refreshes() == []
    assert isinstance(await stranger.parts.broker.renew(KEY, known=known, wait_s=10), Refreshed)
    await fleet.end()


@in_virtual_time
async def test_an_orphan_that_reached_nobody_is_its_spools_to_go_on_with() -> None:
    """The restart knew its owner to be dead and still does; a stranger does not."""
    fleet, owner, stranger = await _with_a_dead_claim(ProbePolicy.OWNER_ONLY)
    fleet.idp.plan.extend([Fault.UNREACHABLE, Fault.UNREACHABLE])

    await owner.start()
    await asyncio.sleep(120)
    assert fleet.record(owner).state is GrantState.ACTIVE
    plain = await stranger.ask()
    again = await owner.ask()  # unreachable once more
    await asyncio.sleep(120)

    assert isinstance(plain, TokenRefused)
    assert isinstance(again, TokenRefused)
    assert fleet.idp.refreshes() == []
    assert bearer_of(await owner.ask())
    await owner.rest()
    assert len(fleet.idp.refreshes()) == 1
    await fleet.end()

from __future__ import annotations

import asyncio

from sidecar.domain.events import GrantCooled, TokenSent
from sidecar.domain.policy import ProtocolTimes
from sidecar.domain.tokens import (
    HealDeclined,
    HealGranted,
    HealVerdict,
    ProblemReason,
    TokenFound,
    TokenRefused,
    TokenSource,
)
from tests.support.sidecar_parts import KEY
from tests.support.virtual_fleet import Fleet, Peer
from tests.support.virtual_time import in_virtual_time

PRODUCT = "balances"


async def _served(fleet: Fleet, name: str = "a") -> tuple[Peer, TokenFound]:
    fleet.idp.life_s = 86_400
    peer = await fleet.peer(name)
    await peer.obtain()
    return peer, await _found(peer)


async def _found(peer: Peer) -> TokenFound:
    lookup = await peer.ask()
    assert isinstance(lookup, TokenFound)
    return lookup


async def _heal(peer: Peer, rejected: TokenFound, product: str = PRODUCT) -> HealVerdict:
    verdict = await peer.parts.broker.heal(KEY, rejected, product=product)
    await peer.rest()
    return verdict


async def _healed(peer: Peer, rejected: TokenFound) -> TokenFound:
    verdict = await _heal(peer, rejected)
    assert isinstance(verdict, HealGranted), verdict
    return verdict.found


@in_virtual_time
async def test_the_first_pair_of_a_consent_is_replaced_at_any_age() -> None:
    """A bearer that came with the code may be rejected seconds later and is healed."""
    fleet = Fleet()
    peer, found = await _served(fleet)

    healed = await _healed(peer, found)

    assert healed.position.generation == 1
    assert healed.source is TokenSource.REFRESH
    assert len(peer.of(TokenSent)) == 1
    await fleet.end()


@in_virtual_time
async def test_a_young_refreshed_bearer_that_is_rejected_opens_the_cool_down() -> None:
    """Another rotation would not help: 401s start no refresh for 30 s, fleet-wide."""
    fleet = Fleet()
    peer, found = await _served(fleet)
    other = await fleet.peer("b")
    healed = await _healed(peer, found)

    verdict = await _heal(peer, healed)
    elsewhere = await _heal(other, await _found(other), "statements")

    assert verdict == HealDeclined()
    assert elsewhere == HealDeclined()
    assert [round(event.cool_for_s) for event in peer.of(GrantCooled)] == [30]
    assert len(fleet.idp.refreshes()) == 1
    await fleet.end()


@in_virtual_time
async def test_the_cool_down_doubles_up_to_an_hour() -> None:
    """A user without entitlement costs ever fewer rotations."""
    fleet = Fleet()
    peer, found = await _served(fleet)
    spans: list[int] = []

    for _ in range(10):
        found = await _healed(peer, found)
        assert await _heal(peer, found) == HealDeclined()
        spans.append(round(peer.of(GrantCooled)[-1].cool_for_s))
        await asyncio.sleep(spans[-1] + 1)
        found = await _found(peer)

    assert spans == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
    await fleet.end()


@in_virtual_time
async def test_a_success_of_the_product_ends_its_cool_down_and_its_doubling() -> None:
    """The product works again: the next rejection is healed as if nothing had been."""
    fleet = Fleet()
    peer, found = await _served(fleet)
    found = await _healed(peer, found)
    await _heal(peer, found)
    await asyncio.sleep(6)
    found = await _found(peer)
    assert found.cooling_product == PRODUCT

    peer.parts.broker.accepted(KEY, found, product=PRODUCT)
    await peer.rest()

    record = fleet.record(peer)
    assert (record.cool_until_ms, record.cool_count) == (0, 0)
    await asyncio.sleep(31)
    assert (await _healed(peer, await _found(peer))).position.generation == 2
    await fleet.end()


@in_virtual_time
async def test_a_success_of_another_product_ends_no_cool_down() -> None:
    """That the other product works was known before."""
    fleet = Fleet()
    peer, found = await _served(fleet)
    found = await _healed(peer, found)
    await _heal(peer, found)
    await asyncio.sleep(6)

    peer.parts.broker.accepted(KEY, await _found(peer), product="statements")
    await peer.rest()

    assert fleet.record(peer).cool_count == 1
    await fleet.end()


@in_virtual_time
async def test_many_rejections_of_one_generation_cause_one_refresh() -> None:
    """Scenario 24: staggered 401s for one old bearer on two sidecars rotate once."""
    fleet = Fleet()
    peer, found = await _served(fleet)
    other = await fleet.peer("b")
    elsewhere = await _found(other)

    verdicts = await asyncio.gather(
        *(_heal(peer, found) for _ in range(20)), *(_heal(other, elsewhere) for _ in range(20))
    )
    await asyncio.sleep(10)
    late = await _healed(peer, found)

    assert all(isinstance(verdict, HealGranted) for verdict in verdicts)
    assert len(fleet.idp.refreshes()) == 1
    assert late.position.generation == 1
    assert late.source is TokenSource.MEMORY
    await fleet.end()


@in_virtual_time
async def test_a_rejection_of_an_old_generation_takes_the_newer_one_without_a_refresh() -> None:
    """A peer has rotated meanwhile: its bearer is taken from the store."""
    fleet = Fleet()
    peer, found = await _served(fleet)
    other = await fleet.peer("b")
    peer.store.is_deaf = True
    await _healed(other, await _found(other))

    healed = await _healed(peer, found)

    assert healed.source is TokenSource.STORE
    assert healed.position.generation == 1
    assert len(fleet.idp.refreshes()) == 1
    await fleet.end()


@in_virtual_time
async def test_a_rejected_bearer_of_a_former_consent_takes_the_new_one() -> None:
    """The end user consented anew: the new bearer is taken as it is."""
    fleet = Fleet()
    peer, found = await _served(fleet)
    await peer.obtain()

    healed = await _healed(peer, found)

    assert healed.position.consent_id != found.position.consent_id
    assert fleet.idp.refreshes() == []
    await fleet.end()


@in_virtual_time
async def test_no_heal_without_a_store() -> None:
    """Whether another bearer exists cannot be known: 503, not the upstream's 401."""
    fleet = Fleet()
    peer, found = await _served(fleet)
    peer.store.is_away = True

    verdict = await _heal(peer, found)

    assert isinstance(verdict, TokenRefused)
    assert verdict.reason is ProblemReason.TOKEN_UNAVAILABLE
    await fleet.end()


@in_virtual_time
async def test_a_dead_grant_is_no_upstream_problem() -> None:
    """The refresh that a 401 asks for is denied: the end user must consent again."""
    fleet = Fleet()
    peer, found = await _served(fleet)
    fleet.idp.end_consent(KEY)

    verdict = await _heal(peer, found)

    assert isinstance(verdict, TokenRefused)
    assert verdict.reason is ProblemReason.REAUTH_REQUIRED
    await fleet.end()


@in_virtual_time
async def test_a_store_that_fell_behind_never_gives_a_rejected_bearer_back() -> None:
    """I14: rolled back to the generation before, the store's bearer is older than the rejected."""
    fleet = Fleet(times=ProtocolTimes(store_probe_every_s=1e4))  # nobody notices the rollback
    peer, found = await _served(fleet)
    before = dict(fleet.store.records)
    await asyncio.sleep(60)
    rejected = await _healed(peer, found)
    fleet.restart_store(before, met_s_ago=61)

    healed = await _healed(peer, rejected)

    assert healed.position.generation > rejected.position.generation
    assert fleet.record(peer).pair.generation >= rejected.position.generation
    presented = [entry.token for entry in fleet.idp.refreshes()]
    assert len(presented) == len(set(presented))
    await fleet.end()


@in_virtual_time
async def test_a_forgotten_bearer_of_a_store_that_fell_behind_is_not_handed_out() -> None:
    """I14, with nothing in memory: the older bearer of the store is no heal."""
    fleet = Fleet(times=ProtocolTimes(store_probe_every_s=1e4))
    peer, found = await _served(fleet)
    before = dict(fleet.store.records)
    rejected = await _healed(peer, found)
    fleet.store.records = before
    peer.parts.serving_parts.cache.drop(peer.parts.grant())

    healed = await _healed(peer, rejected)

    assert healed.position.generation > rejected.position.generation
    await fleet.end()

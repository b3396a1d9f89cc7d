from __future__ import annotations

import asyncio

from sidecar.domain.events import (
    BreakerOpened,
    ProviderBreakerClosed,
    ProviderBreakerOpened,
    RetryWithheld,
)
from sidecar.domain.failure import FailureReason
from sidecar.domain.outcomes import Obstacle, Postponed
from sidecar.domain.policy import ProtocolTimes
from sidecar.domain.record import GrantKey, GrantState
from sidecar.domain.tokens import TokenFound
from sidecar.domain.wire import TokenReply, TokenRequest
from tests.support.rotating_idp import Fault
from tests.support.scripted_idp import field_of
from tests.support.virtual_fleet import Fleet, Peer
from tests.support.virtual_time import in_virtual_time

CALM = ProtocolTimes(owner_retry_pauses_s=(), backoff_limit_s=1.0)
"""One presentation a claim, and grants that are soon asked for again."""


def _keys(provider: str, count: int) -> list[GrantKey]:
    return [GrantKey(user=f"{provider}-{number}", provider=provider) for number in range(count)]


async def _peer_with(fleet: Fleet, keys: list[GrantKey]) -> Peer:
    peer = await fleet.peer()
    for key in keys:
        await peer.obtain(key)
    await asyncio.sleep(fleet.idp.life_s)
    return peer


def _fail(fleet: Fleet, provider: str) -> None:
    """Have every refresh of one bank fail with a 5xx from now on."""

    def choose(request: TokenRequest) -> Fault | TokenReply:
        origin = fleet.idp.origin(field_of(request, "refresh_token"))
        is_sick = origin is not None and origin[0].key.provider == provider
        return Fault.ERROR_BEFORE if is_sick else Fault.NONE

    fleet.idp.choose = choose


async def _renew(peer: Peer, key: GrantKey) -> object:
    record = await peer.store.read(peer.parts.grant(key))
    assert record is not None
    return await peer.parts.broker.renew(key, known=record.position, wait_s=30)


@in_virtual_time
async def test_a_bank_that_fails_is_left_in_peace_and_no_other_notices() -> None:
    """Twenty failures open its breaker; the others' refreshes flow, and no grant is blamed."""
    fleet = Fleet(times=CALM)
    sick, well = _keys("sick-bank", 40), _keys("well-bank", 40)
    peer = await _peer_with(fleet, [*sick, *well])
    _fail(fleet, "sick-bank")

    refused = [await _renew(peer, key) for key in sick]
    found = [await peer.ask(key) for key in well]
    await peer.rest()

    opened = ProviderBreakerOpened(provider="sick-bank", reason=FailureReason.SERVER_ERROR)
    assert peer.of(ProviderBreakerOpened) == [opened]
    assert peer.of(BreakerOpened) == []
    last = refused[-1]
    assert isinstance(last, Postponed)
    assert last.obstacle is Obstacle.BREAKER_OPEN
    assert len([entry for entry in fleet.idp.refreshes() if not entry.is_success]) == 20
    assert all(isinstance(each, TokenFound) for each in found)
    assert {record.state for record in fleet.store.records.values()} == {GrantState.ACTIVE}
    await fleet.end()


@in_virtual_time
async def test_one_canary_each_half_minute_finds_out_when_the_bank_is_well() -> None:
    """Its failure keeps the breaker open, its success closes it."""
    fleet = Fleet(times=CALM)
    keys = _keys("sick-bank", 60)
    peer = await _peer_with(fleet, keys)
    _fail(fleet, "sick-bank")
    for key in keys[:20]:
        await _renew(peer, key)
    failed = len(fleet.idp.refreshes())

    for _ in range(3):
        await asyncio.sleep(31)
        for key in keys[20:30]:
            await peer.ask(key)
    canaries = len(fleet.idp.refreshes()) - failed
    _fail(fleet, "")
    await asyncio.sleep(31)
    found = [await peer.ask(key) for key in keys[30:]]

    assert canaries == 3
    assert all(isinstance(each, TokenFound) for each in found)
    assert peer.of(ProviderBreakerClosed) == [ProviderBreakerClosed(provider="sick-bank")]
    await fleet.end()


@in_virtual_time
async def test_a_bank_that_fails_now_and_then_is_not_given_up() -> None:
    """Less than half of its requests fail: they are repeated as ever."""
    fleet = Fleet(times=CALM)
    keys = _keys("so-so-bank", 60)
    peer = await _peer_with(fleet, keys)
    for number, key in enumerate(keys):
        fleet.idp.plan.append(Fault.ERROR_BEFORE if number % 5 < 2 else Fault.NONE)
        await _renew(peer, key)

    assert peer.of(ProviderBreakerOpened) == []
    assert len(fleet.idp.refreshes()) == 60
    await fleet.end()


@in_virtual_time
async def test_denials_open_no_breaker() -> None:
    """A user whose consent ended says nothing about the bank; the brake watches those."""
    fleet = Fleet(times=CALM)
    keys = _keys("a-bank", 24)
    peer = await _peer_with(fleet, keys)
    for key in keys:
        fleet.idp.end_consent(key)
        await peer.ask(key)

    assert peer.of(ProviderBreakerOpened) == []
    assert peer.of(BreakerOpened) == []
    await fleet.end()


@in_virtual_time
async def test_repeats_are_a_tenth_of_the_claims_and_a_few_more() -> None:
    """In an outage the owners stop repeating; what they give back stays active and is safe."""
    fleet = Fleet(times=ProtocolTimes(backoff_limit_s=1.0))
    keys = [GrantKey(user=f"u-{number}", provider=f"bank-{number}") for number in range(60)]
    peer = await _peer_with(fleet, keys)
    fleet.idp.choose = lambda _: Fault.ERROR_BEFORE

    await asyncio.gather(*(peer.ask(key) for key in keys))
    await peer.rest()

    repeats = len(fleet.idp.refreshes()) - len(keys)
    assert 20 <= repeats <= 20 + 6 + 2
    assert len(peer.of(RetryWithheld)) > 30
    for record in fleet.store.records.values():
        assert (record.state, record.marks) == (GrantState.ACTIVE, 1)
        assert record.not_before_ms > 0
    fleet.idp.choose = lambda _: Fault.NONE
    await asyncio.sleep(5)
    found = await asyncio.gather(*(peer.ask(key) for key in keys))
    assert all(isinstance(each, TokenFound) for each in found)
    await fleet.end()

"""What a peer, another version or a clock may say, and for how long at most a user waits for it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from sidecar.domain.events import BackoffOverridden, TokenRequestFailed
from sidecar.domain.outcomes import Obstacle, Postponed, Refreshed, RefreshOutcome
from sidecar.domain.policy import ProtocolTimes, RefreshAhead, RefreshPolicy
from sidecar.domain.record import GrantState
from sidecar.domain.throttle import PullBrake
from sidecar.domain.tokens import TokenFound
from sidecar.service.obtainer import Import
from tests.support.rotating_idp import Fault
from tests.support.scripted_idp import id_token, pair_answer, refusal
from tests.support.sidecar_parts import KEY
from tests.support.virtual_fleet import Fleet, Peer, bearer_of
from tests.support.virtual_time import in_virtual_time

YEAR_S = 31_536_000
CALM = ProtocolTimes(housekeeping_every_s=5.0, store_probe_every_s=10.0)


async def order(peer: Peer, fleet: Fleet, *, is_ours: bool = True) -> RefreshOutcome:
    """Have a grant refreshed as an operator does, or as an application."""
    known = fleet.record(peer).position
    return await peer.parts.broker.renew(KEY, known=known, wait_s=30.0, overrides_backoff=is_ours)


@pytest.mark.parametrize("status", [429, 503])
@in_virtual_time
async def test_a_year_of_retry_after_costs_a_user_ten_minutes(status: int) -> None:
    """On every sidecar, also after a restart: the wait is the longest of the protocol."""
    fleet = Fleet()
    first = await fleet.with_expired_grant()
    second = await fleet.peer("b")
    fleet.idp.plan.append(refusal(status, "slow_down", retry_after_s=float(YEAR_S)))
    await first.ask()
    await first.rest()
    await second.crash()
    await second.start()

    await asyncio.sleep(590)
    early = [await peer.ask() for peer in (first, second)]
    await asyncio.sleep(10)
    late = await second.ask()

    assert not any(isinstance(lookup, TokenFound) for lookup in early)
    assert bearer_of(late)
    assert [event.retry_in_s for event in first.of(TokenRequestFailed)] == [600.0]
    await fleet.end()


@in_virtual_time
async def test_a_year_that_an_earlier_version_wrote_costs_a_user_ten_minutes() -> None:
    """A record with a far backoff is corrected when somebody asks, and by the schedule too."""
    fleet = Fleet(policy=RefreshPolicy(ahead=RefreshAhead.ALL))
    fleet.schedules = True
    peer = await fleet.peer()
    await peer.obtain()
    grant = peer.parts.grant(KEY)
    until_ms = fleet.store.now_ms + YEAR_S * 1000
    fleet.store.records[grant] = replace(fleet.record(peer), not_before_ms=until_ms)
    fleet.store.due[grant] = until_ms

    await asyncio.sleep(fleet.idp.life_s + 1_300)

    assert fleet.record(peer).position.generation >= 1, "only the schedule asked for it"
    fleet.store.records[grant] = replace(
        fleet.record(peer),
        not_before_ms=fleet.store.now_ms + YEAR_S * 1000,
        pair=replace(fleet.record(peer).pair, expires_at_ms=0),
    )
    peer.parts.serving_parts.cache.drop(grant)
    assert not isinstance(await peer.ask(), TokenFound)
    await asyncio.sleep(601)
    assert bearer_of(await peer.ask())
    await fleet.end()


@pytest.mark.parametrize("step_s", [YEAR_S, -YEAR_S])
@in_virtual_time
async def test_a_stores_clock_that_jumps_and_returns_keeps_no_user_waiting(step_s: int) -> None:
    """Holds, leases and backoffs of the wrong time end within ten minutes of the right one."""
    fleet = Fleet(times=CALM)
    peer = await fleet.with_expired_grant()
    fleet.store.skew_ms += step_s * 1000
    await asyncio.sleep(30)
    fleet.idp.plan.extend([Fault.REQUEST_LOST] * 4)
    await peer.ask()
    await peer.crash()
    await peer.start()
    fleet.idp.plan.extend([refusal(503, "busy", retry_after_s=500.0)] * 4)
    await peer.ask()
    await peer.rest()

    fleet.store.skew_ms -= step_s * 1000
    await asyncio.sleep(30)
    fleet.idp.plan.clear()
    await peer.ask()
    await asyncio.sleep(620)
    found = await peer.ask()
    await asyncio.sleep(fleet.idp.life_s)
    next_one = await peer.ask()

    assert bearer_of(found)
    assert bearer_of(next_one) != bearer_of(found)
    await fleet.end()


@in_virtual_time
async def test_a_consent_from_the_future_can_be_replaced_by_an_import() -> None:
    """An `iat` of another century makes a consent no newer than five minutes from now."""
    fleet = Fleet()
    peer = await fleet.peer()
    bearer = id_token(issued_at_s=9_000_000_000)
    fleet.idp.plan.append(pair_answer("refresh-0", bearer=bearer))

    await peer.obtain()
    stands = fleet.record(peer).pair.consent
    await asyncio.sleep(301)
    newer = Import(
        key=KEY,
        tokens=fleet.idp.pair_for_somebody_else(KEY),
        consented_at_ms=fleet.store.now_ms,
        is_replacing=False,
    )
    await peer.take_over(newer)

    assert stands.consented_at_ms <= fleet.store.now_ms
    assert fleet.record(peer).pair.consent.id != stands.id
    await fleet.end()


@in_virtual_time
async def test_a_bearer_is_not_trusted_for_as_long_as_a_record_says() -> None:
    """An expiry of another version is believed for the longest life that an operator allows."""
    fleet = Fleet(times=CALM, policy=RefreshPolicy(ahead=RefreshAhead.OFF, max_age_s=2_000))
    peer = await fleet.peer()
    await peer.obtain()
    grant = peer.parts.grant(KEY)
    stands = fleet.record(peer)
    far = replace(stands.pair, expires_at_ms=fleet.store.now_ms + YEAR_S * 1000)
    fleet.store.records[grant] = replace(stands, pair=far)
    peer.parts.serving_parts.cache.drop(grant)

    first = bearer_of(await peer.ask())
    await asyncio.sleep(1_980)
    still = bearer_of(await peer.ask())
    await asyncio.sleep(30)
    then = bearer_of(await peer.ask())

    assert first == still != then
    await fleet.end()


@in_virtual_time
async def test_an_order_is_obeyed_where_an_application_waits() -> None:
    """The token service is well again: a person need not wait for the backoff of its outage."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.plan.append(refusal(503, "busy", retry_after_s=500.0))
    await peer.ask()
    await peer.rest()

    plain = await order(peer, fleet, is_ours=False)
    ours = await order(peer, fleet)

    assert isinstance(plain, Postponed)
    assert (plain.obstacle, plain.retry_in_s > 400) == (Obstacle.BACKING_OFF, True)
    assert isinstance(ours, Refreshed)
    assert peer.of(BackoffOverridden) == [BackoffOverridden(grant=peer.parts.grant(KEY))]
    await fleet.end()


@in_virtual_time
async def test_orders_of_many_sidecars_are_one_in_thirty_seconds() -> None:
    """However often an operator repeats it, on any sidecar, Akoya is asked twice a minute."""
    fleet = Fleet()
    first = await fleet.with_expired_grant()
    second = await fleet.peer("b")
    fleet.idp.plan.extend([refusal(503, "busy", retry_after_s=500.0)] * 40)
    await first.ask()
    await first.rest()
    before = len(fleet.idp.refreshes())
    outcomes: list[RefreshOutcome] = []

    for turn in range(61):
        outcomes.append(await order((first, second)[turn % 2], fleet))
        await asyncio.sleep(1)

    assert len(fleet.idp.refreshes()) - before == 3, "at once, after 30 s and after 60 s"
    refused = [each for each in outcomes if isinstance(each, Postponed) and each.failure is None]
    assert {each.obstacle for each in refused} == {Obstacle.BACKING_OFF}
    assert max(each.retry_in_s for each in refused) <= 30
    await fleet.end()


@in_virtual_time
async def test_an_order_skips_no_brake() -> None:
    """Only a release lets claims go; an order of a person does not."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    await fleet.store.throttle(PullBrake())
    await asyncio.sleep(5)

    outcome = await order(peer, fleet)

    assert isinstance(outcome, Postponed)
    assert outcome.obstacle is Obstacle.BRAKE_ON
    assert fleet.idp.refreshes() == []
    await fleet.end()


@in_virtual_time
async def test_an_order_skips_no_doubt() -> None:
    """Akoya refused the token: to present it again at once could end the live one."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    grant = peer.parts.grant(KEY)
    fleet.store.records[grant] = replace(
        fleet.record(peer),
        state=GrantState.IN_DOUBT,
        hold_until_ms=fleet.store.now_ms + 300_000,
        not_before_ms=fleet.store.now_ms + 300_000,
    )

    outcome = await order(peer, fleet)

    assert isinstance(outcome, Postponed)
    assert outcome.obstacle is Obstacle.IN_DOUBT
    assert fleet.idp.refreshes() == []
    await fleet.end()

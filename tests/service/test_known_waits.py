"""Waits of known length are told at once; a peer that may be done any moment is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import pytest

from sidecar.domain.failure import FailureReason
from sidecar.domain.outcomes import Obstacle, Postponed
from sidecar.domain.policy import RefreshPolicy
from sidecar.domain.record import GrantKey, GrantState
from sidecar.domain.throttle import CountRefusal, PullBrake
from sidecar.domain.tokens import ProblemReason, TokenFound, TokenLookup, TokenRefused
from sidecar.domain.wire import Answered
from sidecar.service.grants import GrantDesk
from sidecar.service.steward import Steward
from tests.support.rotating_idp import Fault
from tests.support.scripted_idp import refusal
from tests.support.sidecar_parts import KEY
from tests.support.virtual_fleet import Fleet, Peer, bearer_of, until_expiry
from tests.support.virtual_time import in_virtual_time

AT_ONCE_S = 0.1
YOUNG_S = 2.0
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Told:
    """What came of a call, and how long it took."""

    lookup: TokenLookup
    after_s: float

    @property
    def retry_after_s(self) -> float:
        assert isinstance(self.lookup, TokenRefused), self.lookup
        assert self.lookup.reason is ProblemReason.TOKEN_UNAVAILABLE
        assert self.lookup.retry_after_s is not None
        return self.lookup.retry_after_s


async def _timed(fleet: Fleet, work: Awaitable[ResultT]) -> tuple[ResultT, float]:
    since_s = fleet.clock.elapsed_s()
    result = await work
    return result, fleet.clock.elapsed_s() - since_s


async def _ask(fleet: Fleet, peer: Peer, key: GrantKey = KEY) -> Told:
    return Told(*await _timed(fleet, peer.ask(key)))


async def _heal(fleet: Fleet, peer: Peer, rejected: TokenFound) -> Told:
    healing = peer.parts.broker.heal(KEY, rejected, product="balances")
    verdict, after_s = await _timed(fleet, healing)
    assert isinstance(verdict, TokenRefused)
    return Told(verdict, after_s)


def _change(fleet: Fleet, peer: Peer, **changes: object) -> None:
    grant = peer.parts.grant()
    fleet.store.records[grant] = replace(fleet.record(peer), **changes)  # type: ignore[arg-type]


def _doubt(fleet: Fleet, peer: Peer, *, age_s: float) -> None:
    now_ms = fleet.store.now_ms
    _change(
        fleet,
        peer,
        state=GrantState.IN_DOUBT,
        changed_at_ms=now_ms - int(age_s * 1000),
        hold_until_ms=now_ms + int((600 - age_s) * 1000),
    )


def _quarantine(fleet: Fleet, peer: Peer, *, age_s: float) -> None:
    _change(fleet, peer, quarantine_until_ms=fleet.store.now_ms + int((60 - age_s) * 1000))


def _back_off(fleet: Fleet, peer: Peer, *, age_s: float) -> None:
    _change(fleet, peer, not_before_ms=fleet.store.now_ms + int((40 - age_s) * 1000))


def _orphan(fleet: Fleet, peer: Peer, *, age_s: float) -> None:
    """A claim is in flight whose owner kept its hold for the last time so long ago."""
    hold_until_ms = fleet.store.now_ms + int((fleet.times.hold_s - age_s) * 1000)
    _change(fleet, peer, state=GrantState.SENDING, claim_id="c" * 32, hold_until_ms=hold_until_ms)


Obstruct = Callable[..., None]
LASTING = [
    pytest.param(_doubt, 2.5, 597.5, id="doubt"),
    pytest.param(_doubt, 590.0, 10.0, id="doubt that is nearly over"),
    pytest.param(_quarantine, 2.5, 57.5, id="quarantine"),
    pytest.param(_back_off, 0.0, 40.0, id="backoff"),
    pytest.param(_orphan, 31.0, 269.0, id="claim without its owner"),
]


@pytest.mark.parametrize(("obstruct", "age_s", "remaining_s"), LASTING)
@in_virtual_time
async def test_what_is_known_to_last_is_told_at_once_with_what_remains(
    obstruct: Obstruct, age_s: float, remaining_s: float
) -> None:
    """K5: every caller hears the truth, none holds a slot for it, on whichever sidecar."""
    fleet = Fleet()
    first, second = await fleet.with_expired_grant("a"), await fleet.peer("b")
    obstruct(fleet, first, age_s=age_s)

    told = await asyncio.gather(*(_ask(fleet, peer) for peer in (first, second) for _ in range(60)))

    assert max(each.after_s for each in told) < AT_ONCE_S
    assert all(remaining_s - 1 < each.retry_after_s <= remaining_s for each in told)
    assert fleet.idp.refreshes() == []
    await fleet.end()


@pytest.mark.parametrize(("obstruct", "age_s", "remaining_s"), LASTING)
@in_virtual_time
async def test_a_heal_is_told_of_it_at_once_too(
    obstruct: Obstruct, age_s: float, remaining_s: float
) -> None:
    """A 401 of the upstream makes nobody wait for what will not come."""
    fleet = Fleet()
    fleet.idp.life_s = 86_400
    peer = await fleet.peer()
    await peer.obtain()
    found = await peer.ask()
    assert isinstance(found, TokenFound)
    obstruct(fleet, peer, age_s=age_s)

    told = await _heal(fleet, peer, found)

    assert told.after_s < AT_ONCE_S
    assert remaining_s - 1 < told.retry_after_s <= remaining_s
    await fleet.end()


@pytest.mark.parametrize(("obstruct", "age_s", "remaining_s"), LASTING)
@in_virtual_time
async def test_the_grants_api_is_told_of_it_at_once_too(
    obstruct: Obstruct, age_s: float, remaining_s: float
) -> None:
    """The same rule holds for an ordered refresh."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    obstruct(fleet, peer, age_s=age_s)
    renewing = peer.parts.broker.renew(KEY, known=fleet.record(peer).position, wait_s=15)

    outcome, after_s = await _timed(fleet, renewing)

    assert after_s < AT_ONCE_S
    assert isinstance(outcome, Postponed)
    assert remaining_s - 1 < outcome.retry_in_s <= remaining_s
    await fleet.end()


@pytest.mark.parametrize("obstruct", [_doubt, _quarantine])
@in_virtual_time
async def test_a_young_doubt_or_quarantine_is_waited_for_until_it_is_old(
    obstruct: Obstruct,
) -> None:
    """The pair that ends it may be on its way; two seconds later nobody waits any more."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    obstruct(fleet, peer, age_s=0.5)

    first = await _ask(fleet, peer)
    second = await _ask(fleet, peer)

    assert YOUNG_S - 0.5 <= first.after_s < YOUNG_S
    assert second.after_s < AT_ONCE_S
    assert first.retry_after_s > 50
    await fleet.end()


@pytest.mark.parametrize("is_deaf", [False, True], ids=["told", "deaf"])
@pytest.mark.parametrize("obstruct", [_doubt, _quarantine])
@in_virtual_time
async def test_a_pair_that_comes_while_it_is_young_is_served(
    obstruct: Obstruct, *, is_deaf: bool
) -> None:
    """A notice wakes who waits; without one the store is asked again within the two seconds."""
    fleet = Fleet()
    holder, peer = await fleet.with_expired_grant("a"), await fleet.peer("b")
    before = fleet.record(holder)
    await holder.ask()
    await holder.rest()
    newest = fleet.record(holder)
    fleet.store.records[holder.parts.grant()] = before
    obstruct(fleet, peer, age_s=0.1)
    peer.store.is_deaf = is_deaf
    asking = asyncio.ensure_future(_ask(fleet, peer))
    await asyncio.sleep(0.7)

    fleet.store.records[holder.parts.grant()] = newest
    if not is_deaf:
        peer.parts.serving_parts.hints.fire(holder.parts.grant())
    told = await asking

    assert bearer_of(told.lookup)
    assert told.after_s < (0.75 if not is_deaf else YOUNG_S)
    await fleet.end()


@pytest.mark.parametrize(("obstruct", "age_s", "remaining_s"), LASTING)
@in_virtual_time
async def test_a_pair_that_comes_after_all_is_served_whatever_was_announced(
    obstruct: Obstruct, age_s: float, remaining_s: float
) -> None:
    """Nobody is refused because somebody was refused before."""
    fleet = Fleet()
    holder, peer = await fleet.with_expired_grant("a"), await fleet.peer("b")
    before = fleet.record(holder)
    await holder.ask()
    await holder.rest()
    newest = fleet.record(holder)
    fleet.store.records[holder.parts.grant()] = before
    obstruct(fleet, peer, age_s=age_s)
    refused = await _ask(fleet, peer)
    assert refused.retry_after_s > remaining_s - 1

    fleet.store.records[holder.parts.grant()] = newest

    assert bearer_of((await _ask(fleet, peer)).lookup)
    await fleet.end()


@in_virtual_time
async def test_a_claim_that_its_owner_keeps_is_waited_for_as_long_as_patience_lasts() -> None:
    """`busy`, and `sending` while it is kept, may end any moment: ten seconds, then `soon`."""
    fleet = Fleet()
    first, second = await fleet.with_expired_grant("a"), await fleet.peer("b")
    fleet.idp.answer_after_s, fleet.idp.life_s = 100.0, 900
    winner = asyncio.ensure_future(first.ask())
    await asyncio.sleep(50)  # it has been slow for long, and is kept all the while

    told = await _ask(fleet, second)

    assert fleet.policy.wait_s - 0.1 <= told.after_s <= fleet.policy.wait_s + 0.1
    assert told.retry_after_s == 1.0
    await winner
    await asyncio.sleep(60)
    assert bearer_of(await second.ask())
    await fleet.end()


@in_virtual_time
async def test_a_caller_that_comes_late_waits_as_long_as_the_first() -> None:
    """Who joins a wait of nine seconds is not sent away after one."""
    fleet = Fleet()
    first, second = await fleet.with_expired_grant("a"), await fleet.peer("b")
    fleet.idp.answer_after_s = 15.0
    winner = asyncio.ensure_future(first.ask())
    await asyncio.sleep(1)
    early = asyncio.ensure_future(_ask(fleet, second))
    await asyncio.sleep(9)

    late = await _ask(fleet, second)

    assert (await early).retry_after_s == 1.0
    assert bearer_of(late.lookup)
    assert late.after_s < 6
    await winner
    await fleet.end()


@in_virtual_time
async def test_the_caller_whose_own_claim_ends_in_doubt_hears_so_within_two_seconds() -> None:
    """What it waits for then is a pair of a peer; after that it is told what remains."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.plan.append(Fault.ANSWER_LOST)

    told = await _ask(fleet, peer)

    assert fleet.record(peer).state is GrantState.IN_DOUBT
    assert YOUNG_S <= told.after_s < YOUNG_S + 1
    assert 596 < told.retry_after_s < 599
    await fleet.end()


@in_virtual_time
async def test_an_open_breaker_of_a_bank_says_when_its_next_canary_may_leave() -> None:
    """Not "in a second", which would bring every caller back thirty times."""
    fleet = Fleet()
    peer = await fleet.peer()
    keys = [GrantKey(user=f"u-{number}", provider="sick") for number in range(25)]
    for key in keys:
        await peer.obtain(key)
    await until_expiry(fleet)
    fleet.idp.choose = lambda _: Answered(status=500, body=b"")
    await asyncio.gather(*(peer.ask(key) for key in keys))
    await peer.rest()
    await asyncio.sleep(10)
    opened_s = peer.parts.claim_parts.restraints.banks.wait_s("sick")
    assert 15 < opened_s < 25

    fleet.store.records = {
        grant: replace(record, not_before_ms=0) for grant, record in fleet.store.records.items()
    }
    told = await _ask(fleet, peer, keys[0])

    assert told.after_s < AT_ONCE_S
    assert opened_s - 1 < told.retry_after_s <= opened_s
    await fleet.end()


@in_virtual_time
async def test_the_breaker_of_the_app_says_when_its_next_canary_may_leave() -> None:
    """A refresh and an exchange hear the same."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    refused = CountRefusal(reason=FailureReason.CLIENT_CREDENTIALS_INVALID, canary_ms=30_000)
    for _ in range(2):
        await fleet.store.throttle(refused)
    await asyncio.sleep(10)

    told = await _ask(fleet, peer)
    exchange = await peer.obtain()

    assert told.after_s < AT_ONCE_S
    assert 19 < told.retry_after_s <= 20
    assert isinstance(exchange, Postponed)
    assert exchange.obstacle is Obstacle.BREAKER_OPEN
    assert 19 < exchange.retry_in_s <= 20
    await fleet.end()


@in_virtual_time
async def test_the_brake_is_told_at_once() -> None:
    """A person lets it go; until then nobody waits for it."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    await fleet.store.throttle(PullBrake())
    await asyncio.sleep(3)

    told = await _ask(fleet, peer)

    assert told.after_s < AT_ONCE_S
    assert told.retry_after_s == 30.0
    await fleet.end()


@pytest.mark.parametrize("known", ["doubt", "brake"])
@in_virtual_time
async def test_a_known_wait_is_told_at_once_where_its_bank_has_no_berth_left(known: str) -> None:
    """Hanging claims of the bank hold every place in the lane; the answer needs none."""
    fleet = Fleet()
    peer = await fleet.peer()
    hanging = [GrantKey(user=f"h-{number}", provider=KEY.provider) for number in range(20)]
    for key in [*hanging, KEY]:
        await peer.obtain(key)
    await until_expiry(fleet)
    fleet.idp.bank_after_s[KEY.provider] = 60.0
    asking = [asyncio.ensure_future(peer.ask(key)) for key in hanging]
    await asyncio.sleep(1)
    assert peer.parts.berths.waiting > 0
    if known == "doubt":
        _doubt(fleet, peer, age_s=5)
    else:
        await fleet.store.throttle(PullBrake())
        await asyncio.sleep(2)

    told = await _ask(fleet, peer)

    assert told.after_s < AT_ONCE_S
    assert told.retry_after_s >= 30
    await asyncio.gather(*asking)
    await fleet.end()


@in_virtual_time
async def test_all_rounds_of_a_look_up_are_one_wait() -> None:
    """K5: answers that bring no bearer are asked after again, under the same limit."""
    fleet = Fleet(policy=RefreshPolicy(wait_s=4.0))
    peer = await fleet.with_expired_grant()
    fleet.idp.answer_after_s = 3.0
    fleet.idp.choose = lambda _: Fault.CUT_AFTER_TOKEN

    told = await _ask(fleet, peer)

    assert 3.9 < told.after_s <= 4.1
    assert told.retry_after_s == 1.0
    fleet.idp.choose = lambda _: Fault.NONE
    await peer.rest()
    await fleet.end()


@pytest.mark.parametrize("upstream_s", [0.0, 30.0])
@in_virtual_time
async def test_a_look_up_and_a_heal_of_one_call_are_one_wait(upstream_s: float) -> None:
    """What the look-up took is gone for the heal; what the upstream took is not."""
    fleet = Fleet(policy=RefreshPolicy(wait_s=4.0))
    peer = await fleet.with_expired_grant()
    fleet.idp.answer_after_s, fleet.idp.life_s = 3.0, 3600
    broker = peer.parts.broker
    patience = broker.patience()
    found, looked_s = await _timed(fleet, broker.token_for(KEY, patience=patience))
    assert isinstance(found, TokenFound)
    await asyncio.sleep(upstream_s)
    await peer.rest()
    if not upstream_s:  # one that was stored long ago, so that it is healed
        _change(fleet, peer, committed_at_ms=0)

    healing = broker.heal(KEY, found, product="balances", patience=patience)
    verdict, healed_s = await _timed(fleet, healing)

    assert 2.9 < looked_s < 3.2
    assert isinstance(verdict, TokenRefused)
    assert 3.9 < looked_s + healed_s < 4.1
    assert patience.left_s == 0.0
    await peer.rest()
    await fleet.end()


@in_virtual_time
async def test_a_call_without_patience_starts_the_refresh_and_knows_nothing() -> None:
    """The next one finds the pair."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    patience = peer.parts.broker.patience()
    patience.shorten(0.0)

    lookup, after_s = await _timed(fleet, peer.parts.broker.token_for(KEY, patience=patience))

    assert after_s < AT_ONCE_S
    assert isinstance(lookup, TokenRefused)
    assert lookup.is_cut_short
    await peer.rest()
    assert bearer_of(await peer.ask())
    assert len(fleet.idp.refreshes()) == 1
    await fleet.end()


@in_virtual_time
async def test_what_akoya_said_is_no_known_wait_of_the_next_user() -> None:
    """A backoff is its grant's alone."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    well = GrantKey(user="u-2", provider=KEY.provider)
    await peer.obtain(well)
    await until_expiry(fleet)
    fleet.idp.plan.append(refusal(429, "slow_down", retry_after_s=7.0))

    limited = await _ask(fleet, peer)

    assert limited.retry_after_s == 7.0
    assert bearer_of(await peer.ask(well))
    await fleet.end()


@in_virtual_time
async def test_an_order_is_told_a_known_wait_where_its_bank_has_no_berth_left() -> None:
    """An ordered refresh of a doubted grant queues behind no hanging claim of its bank."""
    fleet = Fleet()
    peer = await fleet.peer()
    hanging = [GrantKey(user=f"h-{number}", provider=KEY.provider) for number in range(20)]
    for key in [*hanging, KEY]:
        await peer.obtain(key)
    await until_expiry(fleet)
    fleet.idp.bank_after_s[KEY.provider] = 60.0
    asking = [asyncio.ensure_future(peer.ask(key)) for key in hanging]
    await asyncio.sleep(1)
    assert peer.parts.berths.waiting > 0
    _doubt(fleet, peer, age_s=5)
    began_s = asyncio.get_running_loop().time()

    desk = GrantDesk(
        parts=peer.parts.serving_parts,
        broker=peer.parts.broker,
        steward=Steward(
            parts=peer.parts.claim_parts,
            obtainer=peer.parts.obtainer,
            revoker=peer.parts.revoker,
        ),
    )
    told = await desk.refresh(KEY)

    assert isinstance(told, Postponed)
    assert told.obstacle is Obstacle.IN_DOUBT
    assert asyncio.get_running_loop().time() - began_s < AT_ONCE_S
    await asyncio.gather(*asking)
    await fleet.end()

"""Many callers of one grant: they share its failure as they share its success."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.domain.events import BreakerOpened, TokenRequestFailed
from sidecar.domain.failure import FailureReason
from sidecar.domain.record import GrantKey, GrantState
from sidecar.domain.tokens import ProblemReason, TokenFound, TokenRefused
from sidecar.domain.wire import Answered
from tests.support.rotating_idp import CLAIMED
from tests.support.scripted_idp import refusal
from tests.support.sidecar_parts import KEY
from tests.support.virtual_fleet import Fleet, bearer_of, until_expiry
from tests.support.virtual_time import in_virtual_time

BUSY = Answered(status=503, body=b"")
UNKNOWN = refusal(400, "something_new")


@pytest.mark.parametrize(
    ("replies", "reason", "presentations"),
    [
        ([CLAIMED], ProblemReason.REAUTH_REQUIRED, 1),
        ([UNKNOWN] * 200, ProblemReason.TOKEN_UNAVAILABLE, 1),
        ([BUSY] * 200, ProblemReason.TOKEN_UNAVAILABLE, 4),
    ],
    ids=["denied", "unknown", "down"],
)
@in_virtual_time
async def test_two_hundred_waiters_share_one_failed_refresh(
    replies: list[Answered], reason: ProblemReason, presentations: int
) -> None:
    """Scenario 27: the verdict is everybody's; nobody presents the token again to hear it."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.plan.extend(replies)

    lookups = await asyncio.gather(*(peer.ask() for _ in range(200)))
    await peer.rest()

    assert {lookup.reason for lookup in lookups if isinstance(lookup, TokenRefused)} == {reason}
    assert not any(isinstance(lookup, TokenFound) for lookup in lookups)
    assert len(fleet.idp.refreshes()) == presentations
    await fleet.end()


@in_virtual_time
async def test_waiters_of_another_sidecar_hear_the_same_verdict() -> None:
    """Scenario 27: a peer's denial is the fleet's; its own waiters ask Akoya nothing."""
    fleet = Fleet()
    first, second = await fleet.with_expired_grant("a"), await fleet.peer("b")
    fleet.idp.end_consent(KEY)
    fleet.idp.answer_after_s = 2.0

    lookups = await asyncio.gather(*(peer.ask() for peer in (first, second) for _ in range(100)))

    reasons = {lookup.reason for lookup in lookups if isinstance(lookup, TokenRefused)}
    assert reasons == {ProblemReason.REAUTH_REQUIRED}
    assert len(fleet.idp.refreshes()) == 1
    await fleet.end()


@in_virtual_time
async def test_a_user_whose_refreshes_all_fail_stops_nobody_else() -> None:
    """Scenario 28: what Akoya says of one user's token opens nothing that others must wait for."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    well = GrantKey(user="u-2", provider=KEY.provider)
    await peer.obtain(well)
    await until_expiry(fleet)
    fleet.idp.plan.extend([UNKNOWN, UNKNOWN, CLAIMED])
    for _ in range(5):
        await peer.ask()
        await peer.rest()
        await asyncio.sleep(30)
    failed = [event.failure.reason for event in peer.of(TokenRequestFailed)]

    found = await peer.ask(well)

    assert failed[:2] == [FailureReason.UNKNOWN] * 2
    assert fleet.record(peer).state is not GrantState.ACTIVE
    assert bearer_of(found)
    assert peer.of(BreakerOpened) == []
    await fleet.end()


@in_virtual_time
async def test_a_thousand_waiters_ask_the_store_as_one() -> None:
    """Scenario 29: who waits for a peer's refresh is woken; the store hears from one of them."""
    fleet = Fleet()
    first, second = await fleet.with_expired_grant("a"), await fleet.peer("b")
    fleet.idp.answer_after_s = 5.0
    winner = asyncio.ensure_future(first.ask())
    await asyncio.sleep(0.1)

    found = await asyncio.gather(*(second.ask() for _ in range(1000)))

    assert {bearer_of(lookup) for lookup in found} == {bearer_of(await winner)}
    assert second.life.trace.count("at read") == 1
    assert second.life.trace.count("at Acquire") <= 10
    assert len(fleet.idp.refreshes()) == 1
    await fleet.end()


@in_virtual_time
async def test_a_wait_that_times_out_deletes_nothing_and_presents_nothing() -> None:
    """Scenario 12: the loser's callers are told to come again, and find the winner's pair then."""
    fleet = Fleet()
    first, second = await fleet.with_expired_grant("a"), await fleet.peer("b")
    fleet.idp.answer_after_s = 25.0
    winner = asyncio.ensure_future(first.ask())
    await asyncio.sleep(1)

    lookup = await second.ask()

    assert isinstance(lookup, TokenRefused)
    assert lookup.reason is ProblemReason.TOKEN_UNAVAILABLE
    assert lookup.retry_after_s is not None
    assert lookup.retry_after_s > 0
    assert fleet.record(second).state is GrantState.SENDING
    await asyncio.sleep(20)
    assert bearer_of(await second.ask())
    assert len(fleet.idp.refreshes()) == 1
    await winner
    await fleet.end()


@in_virtual_time
async def test_nothing_is_kept_of_waits_that_are_over() -> None:
    """Scenario 36: a lease lies in its record; what memory holds for a wait ends with the wait."""
    fleet = Fleet()
    peer = await fleet.peer()
    keys = [GrantKey(user=f"u-{number}", provider=f"bank-{number % 9}") for number in range(200)]
    for key in keys:
        await peer.obtain(key)
    await until_expiry(fleet)
    fleet.idp.plan.extend([UNKNOWN] * 20)

    await asyncio.gather(*(peer.ask(key) for key in keys))
    await peer.rest()

    assert len(fleet.idp.refreshes()) == 200
    assert peer.leftovers() == []
    await fleet.end()

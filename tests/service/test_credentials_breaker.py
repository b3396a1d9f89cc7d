from __future__ import annotations

import asyncio
from itertools import pairwise
from random import Random

import pytest

from sidecar.domain.events import BreakerClosed, BreakerOpened, GrantDoubted
from sidecar.domain.failure import FailureReason, Operation
from sidecar.domain.outcomes import ExchangeFailed, Obstacle, Postponed, Stored
from sidecar.domain.policy import ProtocolTimes
from sidecar.domain.record import GrantKey, GrantState
from sidecar.domain.tokens import TokenFound
from sidecar.domain.wire import Answered, TokenReply, TokenRequest
from tests.support.rotating_idp import Fault
from tests.support.scripted_idp import refusal
from tests.support.sidecar_parts import KEY
from tests.support.virtual_fleet import Fleet, bearer_of
from tests.support.virtual_time import in_virtual_time

CALM = ProtocolTimes(housekeeping_every_s=2.0, store_probe_every_s=2.0)
"""Housekeeping of a long story, so that it is told quickly."""
WRONG_SECRET = refusal(401, "invalid_client", "Invalid client credentials.")
NO_SUCH_GRANT_TYPE = refusal(
    400, "invalid_grant", "Missing or incorrect grant_type field. Must be refresh_token"
)


async def _ask_for(fleet: Fleet, keys: list[GrantKey], *, minutes: int) -> None:
    """Have each sidecar asked for two users every four seconds."""
    random = Random(1)  # noqa: S311 - a story, no secret
    ends_s = fleet.clock.elapsed_s() + 60 * minutes
    while fleet.clock.elapsed_s() < ends_s:
        asked = [(peer, random.choice(keys)) for peer in fleet.peers for _ in range(2)]
        await asyncio.gather(*(peer.ask(key) for peer, key in asked))
        await asyncio.sleep(4)


@pytest.mark.parametrize(
    ("reply", "reason", "minutes"),
    [
        (WRONG_SECRET, FailureReason.CLIENT_CREDENTIALS_INVALID, 60),
        (Answered(status=403, body=b"<html>"), FailureReason.ENDPOINT_REFUSED, 10),
        (NO_SUCH_GRANT_TYPE, FailureReason.GRANT_TYPE_INVALID, 10),
    ],
)
@in_virtual_time
async def test_an_hour_of_refusals_blames_nobody_and_costs_two_requests_a_minute(
    reply: TokenReply, reason: FailureReason, minutes: int
) -> None:
    """Three sidecars with hundreds of users ask as one; the right secret mends all of them."""
    keys = [GrantKey(user=f"u-{number}", provider=f"bank-{number % 7}") for number in range(300)]
    fleet = Fleet(times=CALM)
    for name in "abc":
        await fleet.peer(name)
    for key in keys:
        await fleet.peers[0].obtain(key)
    await asyncio.sleep(fleet.idp.life_s)
    fleet.idp.choose = lambda _: reply

    await _ask_for(fleet, keys, minutes=minutes)

    at_s = [entry.at_s for entry in fleet.idp.refreshes()]
    opened_s = at_s[1] + 4  # once the whole fleet has heard of it
    canaries = [at for at in at_s if at > opened_s]
    assert len(at_s) - len(canaries) <= 3 * 16
    assert len(canaries) > minutes
    assert all(later - earlier > 60 for earlier, later in zip(canaries, canaries[2:], strict=False))
    assert {record.state for record in fleet.store.records.values()} == {GrantState.ACTIVE}
    for peer in fleet.peers:
        assert [event.reason for event in peer.of(BreakerOpened)] == [reason]
        assert peer.of(GrantDoubted) == []
    fleet.idp.choose = lambda _: Fault.NONE
    await asyncio.sleep(60)
    await fleet.peers[0].ask(keys[0])
    await asyncio.sleep(60)
    asked = [fleet.peers[turn % 3].ask(key) for turn, key in enumerate(keys)]
    assert all(isinstance(found, TokenFound) for found in await asyncio.gather(*asked))
    assert all(len(peer.of(BreakerClosed)) == 1 for peer in fleet.peers)
    await fleet.end()


@in_virtual_time
async def test_refusals_that_different_sidecars_meet_are_in_a_row() -> None:
    """The breaker is the fleet's: one refusal here and one there are two."""
    fleet = Fleet()
    first, second = await fleet.with_expired_grant(), await fleet.peer("b")
    other = GrantKey(user="u-2", provider="other-bank")
    await first.obtain(other)
    await asyncio.sleep(fleet.idp.life_s)
    fleet.idp.plan.extend([WRONG_SECRET] * 2)

    await first.ask()
    await second.ask(other)
    await asyncio.sleep(2)

    assert len(first.of(BreakerOpened)) == len(second.of(BreakerOpened)) == 1
    await fleet.end()


@in_virtual_time
async def test_a_success_anywhere_in_the_fleet_ends_the_row() -> None:
    """One sidecar with an old secret among many with the new one stops nobody by itself."""
    fleet = Fleet()
    first, second = await fleet.with_expired_grant(), await fleet.peer("b")
    fleet.idp.plan.append(WRONG_SECRET)
    await first.ask()
    await asyncio.sleep(2)
    assert bearer_of(await second.ask())
    await second.rest()
    await asyncio.sleep(fleet.idp.life_s)
    fleet.idp.plan.append(WRONG_SECRET)

    await first.ask()

    assert first.of(BreakerOpened) == second.of(BreakerOpened) == []
    await fleet.end()


@in_virtual_time
async def test_a_code_is_kept_while_the_breaker_is_open() -> None:
    """An exchange would be refused as well: nothing is sent, and the same code works later."""
    fleet = Fleet()
    peer = await fleet.peer()
    fleet.idp.plan.extend([WRONG_SECRET] * 2)
    refused = [await peer.obtain(), await peer.obtain()]

    kept = await peer.obtain()
    await asyncio.sleep(31)
    stored = await peer.obtain()

    assert all(isinstance(outcome, ExchangeFailed) for outcome in refused)
    assert isinstance(kept, Postponed)
    assert kept.obstacle is Obstacle.BREAKER_OPEN
    assert isinstance(stored, Stored)
    assert len(fleet.idp.ledger) == 3
    await fleet.end()


@in_virtual_time
async def test_no_client_opens_the_breaker_with_codes_that_akoya_does_not_understand() -> None:
    """Only a refresh shows that our own requests are wrong; a code may be anything."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.plan.extend([refusal(400, "invalid_grant"), Answered(status=404, body=b"")] * 3)
    for _ in range(6):
        assert isinstance(await peer.obtain(GrantKey(user="u-9", provider="x")), ExchangeFailed)

    assert bearer_of(await peer.ask())
    assert peer.of(BreakerOpened) == []
    await fleet.end()


@in_virtual_time
async def test_a_revocation_waits_for_the_canary_and_is_carried_out_in_the_end() -> None:
    """An order is kept while Akoya refuses the app: one request each half minute, no more."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()

    def choose(request: TokenRequest) -> Fault | TokenReply:
        is_early = fleet.clock.elapsed_s() < started_s + 300
        return (
            WRONG_SECRET if is_early and request.operation is not Operation.OBTAIN else Fault.NONE
        )

    started_s = fleet.clock.elapsed_s()
    fleet.idp.choose = choose
    await peer.revoke()

    await asyncio.sleep(400)

    at_s = [entry.at_s for entry in fleet.idp.revocations()]
    assert len(at_s) > 8
    assert all(later - earlier > 30 for earlier, later in pairwise(at_s[1:]))
    assert fleet.record(peer).state is GrantState.REVOKED
    assert fleet.idp.live_token(KEY) is None
    await fleet.end()

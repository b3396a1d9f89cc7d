"""Answers of the token service that are no plain success and no plain refusal."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.domain.events import (
    ClaimKind,
    GrantDoubted,
    TokenRefreshed,
    TokenRequestFailed,
    TokenSent,
)
from sidecar.domain.outcomes import Postponed
from sidecar.domain.record import GrantState
from sidecar.domain.wire import Answered, TokenReply
from tests.support.rotating_idp import Fault
from tests.support.scripted_idp import id_token, json_answer, pair_answer, refusal
from tests.support.sidecar_parts import KEY
from tests.support.virtual_fleet import Fleet, bearer_of
from tests.support.virtual_time import in_virtual_time

HTML = Answered(status=200, body=b"<html>Sign in</html>", content_type="text/html")
WALL = Answered(status=403, body=b"<html>Request blocked</html>", content_type="text/html")
CLAIMED_TEXT = "Refresh token is invalid or has already been claimed by another client."
DEFAULT_LIFE_S = 900


@pytest.mark.parametrize(
    "reply",
    [
        refusal(429, "slow_down"),
        refusal(429, "invalid_request", CLAIMED_TEXT),
        Answered(status=408, body=b""),
        Answered(status=425, body=b""),
        WALL,
        refusal(403, "access_denied", "blocked"),
    ],
    ids=["429", "429 of a denial", "408", "425", "a firewall's page", "a firewall's JSON"],
)
@in_virtual_time
async def test_a_busy_or_walled_token_service_ends_no_grant(reply: TokenReply) -> None:
    """Scenario 18: whoever keeps the request from Akoya says nothing about the consent."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.plan.extend([reply] * 12)

    for _ in range(3):
        await peer.ask()
        await peer.rest()
        await asyncio.sleep(60)

    assert len(fleet.idp.refreshes()) >= 3
    assert fleet.record(peer).state is GrantState.ACTIVE
    assert peer.of(GrantDoubted) == []
    fleet.idp.plan.clear()
    await asyncio.sleep(600)
    assert bearer_of(await peer.ask())
    await fleet.end()


@in_virtual_time
async def test_an_outage_in_the_words_of_a_denial_ends_no_grant() -> None:
    """Scenario 17: a 500 with the code and the text of a spent token is a 500."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.plan.extend([refusal(500, "invalid_request", CLAIMED_TEXT)] * 4)

    await peer.ask()
    await peer.rest()

    reasons = [event.failure.reason.value for event in peer.of(TokenRequestFailed)]
    assert reasons == ["server_error"] * 4
    assert fleet.record(peer).state is GrantState.ACTIVE
    assert peer.of(GrantDoubted) == []
    await asyncio.sleep(1)
    assert bearer_of(await peer.ask())
    await fleet.end()


@pytest.mark.parametrize(
    ("members", "life_s"),
    [
        ({}, DEFAULT_LIFE_S),
        ({"expires_in": "600"}, 600),
        ({"expires_in": 0}, DEFAULT_LIFE_S),
        ({"expires_in": -1}, DEFAULT_LIFE_S),
        ({"expires_in": None}, DEFAULT_LIFE_S),
        ({"expires_in": "soon"}, DEFAULT_LIFE_S),
        ({"expires_in": 1e300}, DEFAULT_LIFE_S),
        ({"expires_in": 600, "scope": 7, "token_type": None}, 600),
    ],
    ids=repr,
)
@in_virtual_time
async def test_a_success_with_an_odd_life_is_kept_and_served_for_a_while(
    members: dict[str, object], life_s: int
) -> None:
    """Scenario 20: no member but the tokens is needed, and none can make a bearer eternal."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    tokens = {"id_token": "opaque", "refresh_token": "the-successor"}
    fleet.idp.plan.append(json_answer(200, tokens | members))

    bearer = bearer_of(await peer.ask())
    await peer.rest()

    left_s = (fleet.record(peer).pair.expires_at_ms - fleet.store.now_ms) / 1000
    assert bearer == "opaque"
    assert fleet.stored_token(peer) == "the-successor"
    assert left_s == pytest.approx(life_s, abs=1)
    await fleet.end()


@in_virtual_time
async def test_a_success_without_a_bearer_is_kept_and_renewed_at_once() -> None:
    """Scenario 20: the successor alone goes on as a pair, and brings the bearer itself."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.plan.append(json_answer(200, {"refresh_token": "the-successor"}))
    fleet.idp.plan.append(pair_answer("the-next", bearer="opaque"))

    bearer = bearer_of(await peer.ask())
    await peer.rest()

    assert bearer == "opaque"
    assert [entry.token for entry in fleet.idp.refreshes()][1:] == ["the-successor"]
    assert fleet.stored_token(peer) == "the-next"
    await fleet.end()


@pytest.mark.parametrize(
    ("issued_in_s", "life_s"), [(3600, 900), (-7200, 900), (0, -60)], ids=["early", "late", "none"]
)
@in_virtual_time
async def test_a_bearer_that_no_validation_would_pass_is_kept_and_served(
    issued_in_s: int, life_s: int
) -> None:
    """Scenario 21: neither its signature nor its instants throw the only live pair away."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    issued_at_s = int(fleet.clock.now_s()) + issued_in_s
    bearer = id_token(issued_at_s=issued_at_s, life_s=life_s, subject="somebody-else")
    fleet.idp.plan.append(pair_answer("the-successor", bearer=bearer))

    found = bearer_of(await peer.ask())
    await peer.rest()

    assert found == bearer
    assert fleet.stored_token(peer) == "the-successor"
    assert bearer_of(await peer.ask()) == bearer
    assert len(fleet.idp.refreshes()) == 1
    await fleet.end()


@pytest.mark.parametrize("bearer", ["opaque", "a.b.c", "e30.e30."])
@in_virtual_time
async def test_a_bearer_that_is_no_jwt_is_kept_and_served(bearer: str) -> None:
    """Scenario 21: what cannot be read is still what Akoya wants to see."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.plan.append(pair_answer("the-successor", bearer=bearer))

    found = bearer_of(await peer.ask())
    await peer.rest()

    assert found == bearer
    assert fleet.stored_token(peer) == "the-successor"
    await fleet.end()


@in_virtual_time
async def test_a_login_page_instead_of_tokens_is_a_strangers_answer() -> None:
    """200 with HTML came from a gateway: nothing is spent and nothing is concluded."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.plan.append(HTML)

    outcome = await peer.parts.broker.renew(KEY, known=fleet.record(peer).position, wait_s=60)
    await peer.rest()

    assert isinstance(outcome, Postponed)
    record = fleet.record(peer)
    assert (record.state, record.marks) == (GrantState.ACTIVE, 0)
    assert len(fleet.idp.refreshes()) == 1
    await fleet.end()


@in_virtual_time
async def test_an_answer_without_a_successor_keeps_the_refresh_token() -> None:
    """RFC 6749 section 6: the old refresh token goes on, as the next generation."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    before = fleet.stored_token(peer)
    bearer = id_token(issued_at_s=int(fleet.clock.now_s()), life_s=900)
    fleet.idp.plan.append(json_answer(200, {"id_token": bearer, "expires_in": 900}))

    found = bearer_of(await peer.ask())
    await peer.rest()

    assert found == bearer
    assert fleet.record(peer).pair.generation == 1
    assert fleet.stored_token(peer) == before
    await fleet.end()


@in_virtual_time
async def test_the_same_refresh_token_again_is_the_next_generation() -> None:
    """A service that does not rotate is served all the same."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    before = fleet.stored_token(peer)
    bearer = id_token(issued_at_s=int(fleet.clock.now_s()), life_s=900)
    fleet.idp.plan.append(pair_answer(before, bearer=bearer))

    assert bearer_of(await peer.ask()) == bearer
    await peer.rest()

    assert fleet.record(peer).pair.generation == 1
    await fleet.end()


@in_virtual_time
async def test_a_torn_answer_with_a_whole_refresh_token_is_salvaged_and_renewed_at_once() -> None:
    """The refresh token is what counts: the pair is kept, and a bearer fetched with it."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.plan.append(Fault.CUT_AFTER_TOKEN)

    found = bearer_of(await peer.ask())
    await peer.rest()

    assert found
    assert [event.is_salvaged for event in peer.of(TokenRefreshed)] == [True, False]
    assert fleet.record(peer).pair.generation == 2
    assert [sent.kind for sent in peer.of(TokenSent)] == [ClaimKind.FIRST] * 2
    await fleet.end()

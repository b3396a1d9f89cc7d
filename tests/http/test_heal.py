from __future__ import annotations

from dataclasses import replace

import pytest

from sidecar.domain.events import RequestOutcome, TokenLookedUp, UpstreamAnswered, UpstreamClass
from sidecar.domain.tokens import HealGranted, ProblemReason, TokenRefused, TokenSource
from tests.support.proxy_rig import GRANT, ScriptedSource, running_proxy, token
from tests.support.raw_http import answer, request

REJECTED = answer(
    b'{"code": 602, "message": "Customer not authorized"}', status=b"401 Unauthorized"
)
POST = b"POST /payments/v2/mikomo HTTP/1.1"


def healing() -> ScriptedSource:
    return ScriptedSource(verdicts=[HealGranted(found=token(2))])


async def test_a_rejected_token_is_healed_and_the_request_repeated_once() -> None:
    """The client of a revoked token sees the answer to a fresh one."""
    async with (
        running_proxy(REJECTED, answer(b"fine"), source=healing()) as rig,
        rig.client() as it,
    ):
        got = await it.ask(request(b"Content-Length: 3", line=POST, body=b"abc"))

    bearers = [asked.head.values(b"authorization")[0] for asked in rig.upstream.requests]
    assert (got.status, got.body) == (200, b"fine")
    assert bearers == [b"Bearer token-1", b"Bearer token-2"]
    assert [asked.body for asked in rig.upstream.requests] == [b"abc", b"abc"]
    assert rig.source.healed == [(1, "payments")]
    assert rig.completed[0].outcome is RequestOutcome.HEALED
    assert [event.upstream_class for event in rig.observer.of(UpstreamAnswered)] == [
        UpstreamClass.TOKEN_602,
        UpstreamClass.OK,
    ]


async def test_a_second_rejection_is_passed_on_and_told() -> None:
    """A fresh token that is rejected too is told to the source and never asked with again."""
    async with running_proxy(REJECTED, source=healing()) as rig, rig.client() as client:
        got = await client.ask(request())

    assert got.status == 401
    assert got.body.startswith(b'{"code": 602')
    assert not got.head.values(b"sidecar-error")
    assert len(rig.upstream.requests) == 2
    assert rig.source.healed == [(1, "balances"), (2, "balances")]
    assert rig.completed[0].outcome is RequestOutcome.PASSED


async def test_a_declined_heal_passes_the_rejection_on_untouched() -> None:
    """In a cool-down the 401 is the client's, whole, after one request."""
    async with running_proxy(REJECTED) as rig, rig.client() as client:
        got = await client.ask(request())

    assert (got.status, got.body) == (401, REJECTED.partition(b"\r\n\r\n")[2])
    assert len(rig.upstream.requests) == 1


@pytest.mark.parametrize(
    ("reason", "status", "retry_after_s"),
    [
        (ProblemReason.REAUTH_REQUIRED, 401, None),
        (ProblemReason.TOKEN_UNAVAILABLE, 503, 7.0),
        (ProblemReason.GRANT_UNKNOWN, 401, None),
    ],
)
async def test_a_grant_that_cannot_be_healed_is_told_instead_of_the_rejection(
    reason: ProblemReason, status: int, retry_after_s: float | None
) -> None:
    """The client learns that the grant is dead, or when to come again, and not just a 401."""
    refused = TokenRefused(grant=GRANT, reason=reason, retry_after_s=retry_after_s)
    source = ScriptedSource(verdicts=[refused])
    async with running_proxy(REJECTED, source=source) as rig, rig.client() as client:
        got = await client.ask(request())

    assert got.status == status
    assert got.head.values(b"sidecar-error") == [reason.value.encode()]
    assert got.head.values(b"retry-after") == ([] if retry_after_s is None else [b"7"])
    assert len(rig.upstream.requests) == 1
    assert rig.completed[0].outcome is RequestOutcome.REFUSED


async def test_a_body_that_cannot_be_repeated_is_healed_for_the_next_call() -> None:
    """A streamed body is never sent in part or twice: its 401 goes on, the token is healed."""
    body = b"x" * 100_000
    async with running_proxy(REJECTED, source=healing()) as rig, rig.client() as client:
        got = await client.ask(request(b"Content-Length: 100000", line=POST, body=body))

    assert got.status == 401
    assert len(rig.upstream.requests) == 1
    assert rig.source.healed == [(1, "payments")]


async def test_a_400_with_code_401_is_no_rejected_token() -> None:
    """Akoya's code 401 on a 400 is a bad parameter; nothing is refreshed for it."""
    bad = answer(b'{"code": 401, "message": "Invalid input"}', status=b"400 Bad Request")
    async with running_proxy(bad) as rig, rig.client() as client:
        got = await client.ask(request())

    assert (got.status, rig.source.healed) == (400, [])


@pytest.mark.parametrize(
    ("cooling", "status", "accepted"),
    [
        ("balances", b"200 OK", ["balances"]),
        ("balances", b"404 Not Found", []),
        ("customers", b"200 OK", []),
        ("", b"200 OK", []),
    ],
)
async def test_a_success_on_the_cooling_product_is_told(
    cooling: str, status: bytes, accepted: list[str]
) -> None:
    """Only a 2xx on the product that opened a cool-down ends it."""
    source = ScriptedSource(peeked=token(cooling_product=cooling))
    async with running_proxy(answer(status=status), source=source) as rig, rig.client() as client:
        await client.ask(request())

    assert rig.source.accepted_products == accepted


@pytest.mark.parametrize(
    ("reason", "status", "has_retry_after", "has_challenge"),
    [
        (ProblemReason.GRANT_UNKNOWN, 401, False, True),
        (ProblemReason.REAUTH_REQUIRED, 401, False, True),
        (ProblemReason.TOKEN_UNAVAILABLE, 503, True, False),
    ],
)
async def test_without_a_token_nothing_is_asked(
    reason: ProblemReason, status: int, *, has_retry_after: bool, has_challenge: bool
) -> None:
    """A request without a bearer never reaches the upstream; the answer says what to do."""
    refused = TokenRefused(grant=GRANT, reason=reason)
    async with (
        running_proxy(answer(), source=ScriptedSource(peeked=None, found=refused)) as rig,
        rig.client() as client,
    ):
        got = await client.ask(request())

    assert (got.status, got.value(b"sidecar-error")) == (status, reason.value.encode())
    assert bool(got.head.values(b"retry-after")) is has_retry_after
    assert bool(got.head.values(b"www-authenticate")) is has_challenge
    assert got.value(b"content-type") == b"application/problem+json"
    assert rig.upstream.requests == []
    assert [event.source for event in rig.observer.of(TokenLookedUp)] == [TokenSource.NONE]
    assert rig.completed[0].grant == GRANT


async def test_a_token_that_must_be_looked_up_is_used() -> None:
    """What is not in memory is asked for, and told with its source."""
    found = replace(token(5), source=TokenSource.REFRESH)
    async with (
        running_proxy(answer(), source=ScriptedSource(peeked=None, found=found)) as rig,
        rig.client() as client,
    ):
        await client.ask(request())

    assert rig.upstream.requests[0].head.values(b"authorization") == [b"Bearer token-5"]
    assert [event.source for event in rig.observer.of(TokenLookedUp)] == [TokenSource.REFRESH]

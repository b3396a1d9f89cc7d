from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from sidecar.domain.events import RequestCompleted, RequestOutcome, RequestStarted, WorkFailed
from sidecar.domain.tokens import ProblemReason
from tests.support.proxy_rig import ScriptedSource, running_proxy
from tests.support.raw_http import Asked, answer, connected, request
from tests.support.wait import until

POST = b"POST /payments/v2/mikomo HTTP/1.1"


async def test_a_request_too_large_is_refused_before_it_is_read() -> None:
    """A length over the limit is answered at once, with nothing asked of anybody."""
    async with (
        running_proxy(answer(), options=lambda it: replace(it, max_request_bytes=10)) as rig,
        rig.client() as client,
    ):
        got = await client.ask(request(b"Content-Length: 11", line=POST))

    assert (got.status, got.value(b"sidecar-error")) == (413, b"request_too_large")
    assert got.value(b"connection") == b"close"
    assert rig.source.keys == []


@pytest.mark.parametrize("kept_bytes", [65536, 4])
async def test_a_chunked_request_is_counted_as_it_comes(kept_bytes: int) -> None:
    """Without a length the limit holds all the same, whether the body is kept or streamed."""
    async with (
        running_proxy(
            answer(),
            options=lambda it: replace(it, max_request_bytes=10, replay_body_max_bytes=kept_bytes),
        ) as rig,
        rig.client() as client,
    ):
        await client.send(request(b"Transfer-Encoding: chunked", line=POST))
        await client.send(b"6\r\n123456\r\n")
        await client.send(b"5\r\n12345\r\n0\r\n\r\n")
        got = await client.read_answer()

    assert (got.status, got.value(b"sidecar-error")) == (413, b"request_too_large")
    assert rig.upstream.requests == [], "none was whole"


async def test_a_body_of_just_the_limit_passes() -> None:
    """The limit itself is allowed."""
    async with (
        running_proxy(answer(), options=lambda it: replace(it, max_request_bytes=3)) as rig,
        rig.client() as client,
    ):
        got = await client.ask(request(b"Content-Length: 3", line=POST, body=b"abc"))

    assert (got.status, rig.upstream.requests[0].body) == (200, b"abc")


@pytest.mark.parametrize(
    "headers",
    [
        [b"X-Big: " + b"a" * 70_000],
        [b"X-%d: " % number + b"a" * 1000 for number in range(70)],
        [b"X-%d: 1" % number for number in range(300)],
    ],
    ids=["one long", "many", "too many"],
)
async def test_headers_too_large_are_refused(headers: list[bytes]) -> None:
    """One huge header, many large ones or too many of them: 431, in our form."""
    async with running_proxy(answer()) as rig, rig.client() as client:
        got = await client.ask(request(*headers))

    assert (got.status, got.value(b"sidecar-error")) == (431, b"headers_too_large")
    assert rig.upstream.requests == []
    assert rig.completed[0].reason is ProblemReason.HEADERS_TOO_LARGE


async def test_a_method_that_is_not_configured_is_refused() -> None:
    """405 says which methods there are."""
    async with running_proxy(answer()) as rig, rig.client() as client:
        got = await client.ask(request(line=b"DELETE /balances/v2/mikomo HTTP/1.1"))

    assert (got.status, got.value(b"allow")) == (405, b"GET, POST")
    assert rig.upstream.requests == []


async def test_a_full_house_is_told_and_empties() -> None:
    """Beyond the limit requests are refused with `Retry-After`, and accepted again after it."""
    release = asyncio.Event()

    async def wait(asked: Asked) -> None:
        await release.wait()
        asked.writer.write(answer(b"late"))
        await asked.writer.drain()

    async with (
        running_proxy(
            wait, answer(b"next"), options=lambda it: replace(it, max_in_flight=1)
        ) as rig,
        rig.client() as first,
        rig.client() as second,
    ):
        await first.send(request())
        await until(lambda: rig.proxy.in_flight == 1, within_s=30, what="the first request")
        refused = await second.ask(request())
        release.set()
        served = await first.read_answer()
        again = await second.ask(request())

    assert (refused.status, refused.value(b"sidecar-error")) == (503, b"overloaded")
    assert refused.value(b"retry-after") == b"1"
    assert (served.body, again.body) == (b"late", b"next")


async def test_our_own_answers_are_problems() -> None:
    """A refusal is problem+json with its reason, its request id and nothing of the request."""
    async with running_proxy(answer()) as rig, rig.client() as client:
        got = await client.ask(
            request(b"X-Request-Id: r-1", line=b"GET /secret%2fpath?token=t HTTP/1.1")
        )

    problem = json.loads(got.body)
    assert problem["type"] == "urn:akoya-sidecar:problem:path_invalid"
    assert (problem["status"], problem["title"]) == (400, "Bad Request")
    assert (problem["reason"], problem["request_id"]) == ("path_invalid", "r-1")
    assert b"secret" not in got.body
    assert got.value(b"content-type") == b"application/problem+json"
    assert got.value(b"cache-control") == b"no-store"
    assert got.value(b"sidecar-error") == b"path_invalid"
    assert rig.completed[0].request_id == "r-1"


async def test_a_fault_of_ours_is_a_problem_and_a_report_without_its_text() -> None:
    """A bug answers 500, tells class and place to the operator, and leaks no message."""
    source = ScriptedSource(fault=RuntimeError("canary-secret"))
    async with running_proxy(answer(), source=source) as rig, rig.client() as client:
        got = await client.ask(request())

    (fault,) = rig.observer.of(WorkFailed)
    assert (got.status, got.value(b"sidecar-error")) == (500, b"internal_error")
    assert b"canary" not in got.body
    assert fault.error.startswith("RuntimeError at proxy.py:")
    assert rig.completed[0].outcome is RequestOutcome.FAILED


async def test_each_request_is_accounted_for_exactly_once() -> None:
    """Every started request ends in one event, refusals and malformed ones included."""
    async with running_proxy(answer(b"four", b"x-akoya-interaction-id: i-1")) as rig:
        async with rig.client() as client:
            await client.ask(request(b"traceparent: 00-" + b"a1" * 16 + b"-" + b"b2" * 8 + b"-01"))
            await client.ask(request(user=None))
        async with connected(rig.port) as client:
            await client.ask(b"nonsense\r\n\r\n")
        done = rig.completed

    assert len(rig.observer.of(RequestStarted)) == len(done) == 3
    assert [event.outcome for event in done] == [
        RequestOutcome.PASSED,
        RequestOutcome.REFUSED,
        RequestOutcome.REFUSED,
    ]
    first: RequestCompleted = done[0]
    assert (first.product, first.provider, first.method) == ("balances", "mikomo", "GET")
    assert (first.status, first.bytes_out, first.interaction_id) == (200, 4, "i-1")
    assert first.trace_id == "a1" * 16
    assert 0 < first.upstream_duration_s <= first.duration_s

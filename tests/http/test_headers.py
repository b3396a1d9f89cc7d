from __future__ import annotations

import asyncio
import gzip

import pytest

from sidecar.domain.tokens import HealGranted
from tests.support.proxy_rig import ScriptedSource, running_proxy, token
from tests.support.raw_http import Asked, answer, request
from tests.support.wait import until


async def test_the_upstream_gets_the_grants_bearer_and_never_the_clients() -> None:
    """Exactly one `Authorization` reaches the upstream, and it is the grant's."""
    async with running_proxy(answer()) as rig, rig.client() as client:
        await client.ask(request(b"Authorization: Bearer stolen", b"Cookie: a=b"))

    head = rig.upstream.requests[0].head
    assert head.values(b"authorization") == [b"Bearer token-1"]
    assert not head.values(b"cookie")


async def test_a_user_named_by_the_bearer_is_not_passed_on() -> None:
    """A client that can set nothing but a bearer works, and its bearer stops here."""
    async with running_proxy(answer()) as rig, rig.client() as client:
        await client.ask(request(b"Authorization: Bearer user:u-7", user=None))

    assert [key.user for key in rig.source.keys] == ["u-7"]
    assert rig.upstream.requests[0].head.values(b"authorization") == [b"Bearer token-1"]


async def test_everything_else_goes_on_in_order_case_and_number_to_the_octet() -> None:
    """Unknown headers reach the upstream as they came, octets beyond ASCII included."""
    fields = [
        (b"x-akoya-interaction-type", b"user"),
        (b"X-Dup", b"1"),
        (b"x-dup", b"2"),
        (b"traceparent", b"00-" + b"a1" * 16 + b"-" + b"b2" * 8 + b"-01"),
        (b"tracestate", b"congo=t61rcWkgMzE , rojo=00f067aa0ba902b7"),
        (b"TraceState", b"vendor@sys=\xe9"),
        (b"X-Latin", b"caf\xe9"),
        (b"X-Dup", b"3"),
    ]
    async with running_proxy(answer()) as rig, rig.client() as client:
        await client.ask(request(*[name + b": " + value for name, value in fields]))

    head = rig.upstream.requests[0].head
    assert list(head.headers)[1:-1] == fields


async def test_a_repeated_request_belongs_to_the_same_trace() -> None:
    """A healed call is asked twice with the `traceparent` it came with, and told with its id."""
    traceparent = b"00-" + b"a1" * 16 + b"-" + b"b2" * 8 + b"-01"
    source = ScriptedSource(verdicts=[HealGranted(found=token(2))])
    async with (
        running_proxy(answer(status=b"401 Unauthorized"), answer(), source=source) as rig,
        rig.client() as client,
    ):
        await client.ask(request(b"traceparent: " + traceparent, b"tracestate: a=1"))

    heads = [asked.head for asked in rig.upstream.requests]
    assert [head.values(b"traceparent") for head in heads] == [[traceparent]] * 2
    assert [head.values(b"tracestate") for head in heads] == [[b"a=1"]] * 2
    assert [event.trace_id for event in rig.completed] == ["a1" * 16]


async def test_no_header_is_invented_for_the_client() -> None:
    """A bare request stays bare: no User-Agent, Accept or Accept-Encoding of a library."""
    async with running_proxy(answer()) as rig, rig.client() as client:
        await client.ask(request())

    head = rig.upstream.requests[0].head
    assert head.names() == [b"Host", b"Authorization"]
    assert head.values(b"host") == [b"127.0.0.1:%d" % rig.upstream.port]


async def test_an_answer_comes_back_as_it_was() -> None:
    """Status, reason, headers, their order, case and duplicates, and the body are untouched."""
    fields = [
        (b"Set-Cookie", b"a=1"),
        (b"x-akoya-interaction-id", b"abc-1"),
        (b"set-cookie", b"b=2"),
        (b"X-Latin", b"caf\xe9"),
        (b"Content-Length", b"3"),
        (b"Content-Encoding", b"gzip"),
    ]
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in fields)
    raw = b"HTTP/1.1 207 Sehr sch\xf6n\r\n" + lines + b"\r\n\x00\xff\n"
    async with running_proxy(raw) as rig, rig.client() as client:
        got = await client.ask(request())

    assert got.head.start_line == b"HTTP/1.1 207 Sehr sch\xf6n"
    assert list(got.head.headers) == fields
    assert got.body == b"\x00\xff\n"


async def test_a_packed_answer_stays_packed() -> None:
    """`Content-Encoding`, its length and its octets go on together: nothing is unpacked."""
    packed = gzip.compress(b'{"accounts": []}' * 50)
    async with running_proxy(answer(packed, b"Content-Encoding: gzip")) as rig, rig.client() as it:
        got = await it.ask(request(b"Accept-Encoding: gzip"))

    assert got.value(b"content-encoding") == b"gzip"
    assert got.value(b"content-length") == b"%d" % len(packed)
    assert got.body == packed


async def test_only_the_sidecar_says_sidecar_error() -> None:
    """A `Sidecar-Error` that an upstream forges does not reach the client."""
    forged = answer(b"{}", b"Sidecar-Error: reauth_required", status=b"503 No")
    async with running_proxy(forged) as rig, rig.client() as client:
        got = await client.ask(request())

    assert got.status == 503
    assert not got.head.values(b"sidecar-error")


@pytest.mark.parametrize("status", [b"301 Moved", b"307 Temporary Redirect"])
async def test_a_redirect_is_passed_on_and_never_followed(status: bytes) -> None:
    """The bearer goes to the configured host alone, whatever an answer points to."""
    async with (
        running_proxy(answer(b"", b"Location: http://evil.example/x", status=status)) as rig,
        rig.client() as client,
    ):
        got = await client.ask(request())

    assert got.value(b"location") == b"http://evil.example/x"
    assert len(rig.upstream.requests) == 1


async def test_interim_answers_are_swallowed() -> None:
    """1xx answers of the upstream are its own; the client gets the final one."""
    raw = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + answer(
        b"hi"
    )
    async with running_proxy(raw) as rig, rig.client() as client:
        got = await client.ask(request())

    assert (got.status, got.body) == (200, b"hi")


async def test_switching_protocols_is_no_answer() -> None:
    """Nobody asked for another protocol; such an answer is not passed on."""
    raw = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
    async with running_proxy(raw) as rig, rig.client() as client:
        got = await client.ask(request())

    assert got.value(b"sidecar-error") == b"upstream_unreachable"


async def test_a_stray_carriage_return_cannot_split_an_answer() -> None:
    """Header values with line breaks inside make no second header for the client."""
    raw = b"HTTP/1.1 200 OK\r\nX-A: 1\rSet-Cookie: evil=1\r\nContent-Length: 2\r\n\r\nok"
    async with running_proxy(raw) as rig, rig.client() as client:
        got = await client.ask(request())

    assert b"\r" not in b"".join(name + value for name, value in got.head.headers)
    assert not got.head.values(b"set-cookie")


async def test_an_answer_left_over_in_the_pool_answers_nobody() -> None:
    """What an upstream sends unasked on an idle connection is never taken for an answer."""
    poison = asyncio.Event()

    async def answer_and_go_on(asked: Asked) -> None:
        asked.writer.write(answer(b"first"))
        await poison.wait()
        asked.writer.write(answer(b"poison"))
        await asked.writer.drain()
        poison.clear()
        await asked.wait_for_close()

    async with running_proxy(answer_and_go_on, answer(b"second")) as rig, rig.client() as client:
        first = await client.ask(request())
        poison.set()
        await until(lambda: not poison.is_set(), within_s=30, what="the unasked answer")
        second = await client.ask(request())

    assert (first.body, second.body) == (b"first", b"second")
    assert rig.upstream.connections == 2

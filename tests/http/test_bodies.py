from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from sidecar.domain.events import RequestOutcome
from tests.support.proxy_rig import running_proxy
from tests.support.raw_http import Asked, answer, request

POST = b"POST /payments/v2/mikomo HTTP/1.1"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ((b"Content-Length: 3",), b"abc", b"abc"),
        ((b"Transfer-Encoding: chunked",), b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", b"abc"),
        ((b"Content-Length: 0",), b"", b""),
        ((), b"", b""),
        ((b"Content-Length: 3", b"Content-Encoding: gzip"), b"\x1f\x8b\x00", b"\x1f\x8b\x00"),
    ],
)
async def test_a_small_body_arrives_whole(
    headers: tuple[bytes, ...], body: bytes, expected: bytes
) -> None:
    """A body that is kept for a repeat arrives octet for octet, however it was framed or packed."""
    async with running_proxy(answer()) as rig, rig.client() as client:
        got = await client.ask(request(*headers, line=POST, body=body))

    assert got.status == 200
    assert rig.upstream.requests[0].body == expected
    assert rig.completed[0].bytes_in == len(expected)


@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_a_large_body_is_streamed_whole(framing: str) -> None:
    """A body too large to be kept arrives whole, framed as the client framed it."""
    data = bytes(range(256)) * 2000
    header = (
        b"Content-Length: %d" % len(data) if framing == "length" else b"Transfer-Encoding: chunked"
    )
    body = data if framing == "length" else b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)
    async with running_proxy(answer()) as rig, rig.client() as client:
        got = await client.ask(request(header, line=POST, body=body))

    sent = rig.upstream.requests[0]
    assert (got.status, sent.body == data) == (200, True)
    assert bool(sent.head.values(b"content-length")) is (framing == "length")


async def test_a_chunked_answer_stays_chunked() -> None:
    """Without a length the client gets chunks, and the end is an end."""
    async with running_proxy(CHUNKED) as rig, rig.client() as client:
        first = await client.ask(request())
        second = await client.ask(request())

    assert (first.body, second.body) == (b"abcde", b"abcde")
    assert first.value(b"transfer-encoding") == b"chunked"
    assert rig.upstream.connections == 1


async def test_an_old_client_gets_an_unframed_answer_and_a_close() -> None:
    """HTTP/1.0 knows no chunks: the end of the connection is the end of the body."""
    async with running_proxy(CHUNKED) as rig, rig.client() as client:
        got = await client.ask(request(line=b"GET /balances/v2/mikomo HTTP/1.0"))

    assert got.body == b"abcde"
    assert not got.head.values(b"transfer-encoding")
    assert got.value(b"connection") == b"close"


async def test_an_old_client_that_asks_for_it_keeps_its_connection() -> None:
    """`Connection: keep-alive` of HTTP/1.0 is answered in kind."""
    old = request(b"Connection: keep-alive", line=b"GET /balances/v2/mikomo HTTP/1.0")
    async with running_proxy(answer()) as rig, rig.client() as client:
        first = await client.ask(old)
        second = await client.ask(old)

    assert (first.value(b"connection"), second.status) == (b"keep-alive", 200)


async def test_an_answer_that_ends_with_its_connection_is_passed_on() -> None:
    """An upstream may end a body by closing; the client gets all of it."""

    async def until_close(asked: Asked) -> None:
        asked.writer.write(b"HTTP/1.1 200 OK\r\n\r\nabc")
        await asked.writer.drain()
        asked.writer.close()

    async with running_proxy(until_close) as rig, rig.client() as client:
        got = await client.ask(request())

    assert got.body == b"abc"


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_an_answer_without_a_body_does_not_upset_the_next(status: bytes) -> None:
    """After 204 and 304 the connections on both sides carry the next request."""
    bare = b"HTTP/1.1 " + status + b"\r\nETag: x\r\n\r\n"
    async with running_proxy(bare, answer(b"next")) as rig, rig.client() as client:
        first = await client.ask(request(), has_body=False)
        assert first.head.headers == ((b"ETag", b"x"),)
        second = await client.ask(request())

    assert second.body == b"next"
    assert rig.upstream.connections == 1


async def test_the_length_of_a_304_is_metadata() -> None:
    """A `Content-Length` on 304 goes on and announces no body."""
    bare = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n"
    async with running_proxy(bare, answer(b"next")) as rig, rig.client() as client:
        first = await client.ask(request(), has_body=False)
        second = await client.ask(request())

    assert (first.value(b"content-length"), second.body) == (b"77", b"next")


async def test_head_gets_the_length_and_no_body() -> None:
    """HEAD, where it is accepted, gets the header fields of the answer alone."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n"
    async with (
        running_proxy(
            head,
            answer(b"next"),
            options=lambda it: replace(it, methods=frozenset({"GET", "HEAD"})),
        ) as rig,
        rig.client() as client,
    ):
        first = await client.ask(request(line=b"HEAD /balances/v2/mikomo HTTP/1.1"), has_body=False)
        second = await client.ask(request())

    assert (first.value(b"content-length"), second.body) == (b"77", b"next")
    assert rig.upstream.requests[0].head.start_line.startswith(b"HEAD ")


async def test_head_of_a_chunked_answer_gets_no_chunk() -> None:
    """Not even the last chunk, which the client would take for the head of the next answer."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with (
        running_proxy(
            head,
            answer(b"next"),
            options=lambda it: replace(it, methods=frozenset({"GET", "HEAD"})),
        ) as rig,
        rig.client() as client,
    ):
        first = await client.ask(request(line=b"HEAD /balances/v2/mikomo HTTP/1.1"), has_body=False)
        assert first.head.headers == ()
        second = await client.ask(request())

    assert (first.status, second.body) == (200, b"next")


async def test_a_client_that_expects_to_be_asked_is_asked_when_its_body_is_wanted() -> None:
    """`Expect: 100-continue` is answered by the sidecar and goes no further."""
    asked = request(b"Expect: 100-continue", b"Content-Length: 3", line=POST)
    async with running_proxy(answer()) as rig, rig.client() as client:
        await client.send(asked)
        interim = await client.read_head()
        await client.send(b"abc")
        got = await client.read_answer()

    assert interim.start_line == b"HTTP/1.1 100 Continue"
    assert (got.status, rig.upstream.requests[0].body) == (200, b"abc")
    assert not rig.upstream.requests[0].head.values(b"expect")


async def test_a_client_that_expects_to_be_asked_is_not_asked_in_vain() -> None:
    """A refused request gets its refusal instead of `100 Continue`, and the connection ends."""
    asked = request(b"Expect: 100-continue", b"Content-Length: 3", line=POST, user=None)
    async with running_proxy(answer()) as rig, rig.client() as client:
        got = await client.ask(asked)

    assert (got.status, got.value(b"connection")) == (400, b"close")


async def test_an_upstream_that_answers_before_the_body_ends_is_heard() -> None:
    """An early answer reaches the client, and neither connection is used again."""

    async def refuse_early(asked: Asked) -> None:
        await asked.reader.readexactly(1000)
        asked.writer.write(answer(b"too much", status=b"413 Too Large"))
        await asked.wait_for_close()

    asked = request(b"Content-Length: 5000000", line=POST, body=b"x" * 200_000)
    async with running_proxy(refuse_early, answer()) as rig, rig.client() as client:
        got = await client.ask(asked)

    assert (got.status, got.body) == (413, b"too much")
    assert got.value(b"connection") == b"close"
    assert rig.completed[0].outcome is RequestOutcome.PASSED


async def test_a_broken_answer_never_looks_whole() -> None:
    """A body that breaks after its headers went out ends in an aborted connection."""

    async def break_off(asked: Asked) -> None:
        asked.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
        await asked.writer.drain()
        asked.writer.close()

    async with running_proxy(break_off) as rig, rig.client() as client:
        await client.send(request())
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await client.read_answer()

    assert rig.completed[0].outcome is RequestOutcome.UPSTREAM_BROKE
    assert rig.completed[0].status == 200


async def test_a_broken_chunked_answer_never_looks_whole() -> None:
    """A chunked body that breaks gets no last chunk."""

    async def break_off(asked: Asked) -> None:
        asked.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await asked.writer.drain()
        asked.writer.close()

    async with running_proxy(break_off) as rig, rig.client() as client:
        await client.send(request())
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError, ValueError)):
            await client.read_answer()

    assert rig.completed[0].outcome is RequestOutcome.UPSTREAM_BROKE


async def test_a_broken_unframed_answer_never_looks_whole() -> None:
    """An HTTP/1.0 client, for whom the end of the connection is the end, sees a reset instead."""

    async def break_off(asked: Asked) -> None:
        asked.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await asked.writer.drain()
        asked.writer.close()

    async with running_proxy(break_off) as rig, rig.client() as client:
        await client.send(request(line=b"GET /balances/v2/mikomo HTTP/1.0"))
        with pytest.raises(ConnectionResetError):
            await client.read_answer()

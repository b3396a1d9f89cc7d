from __future__ import annotations

import pytest

from tests.support.proxy_rig import running_proxy
from tests.support.raw_http import answer, request

POST = b"POST /balances/v2/mikomo HTTP/1.1"
HOST = b"\r\nHost: a\r\nSidecar-User: u\r\n"

MALFORMED = {
    "no http": b"\x16\x03\x01\x02\x00\x01\x00\x01",
    "no version": b"GET /balances/v2/mikomo\r\n\r\n",
    "unknown method": b"FOO /balances/v2/mikomo HTTP/1.1" + HOST + b"\r\n",
    "http2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no host": b"GET /balances/v2/mikomo HTTP/1.1\r\nSidecar-User: u\r\n\r\n",
    "two hosts": request(b"Host: b"),
    "length and chunks": request(
        b"Content-Length: 4", b"Transfer-Encoding: chunked", line=POST, body=b"0\r\n\r\nGET /x"
    ),
    "two lengths": request(b"Content-Length: 4", b"Content-Length: 4", line=POST, body=b"abcd"),
    "two other lengths": request(b"Content-Length: 4", b"Content-Length: 9", line=POST),
    "a list of lengths": request(b"Content-Length: 4, 4", line=POST, body=b"abcd"),
    "a signed length": request(b"Content-Length: +4", line=POST, body=b"abcd"),
    "unknown coding": request(b"Transfer-Encoding: xchunked", line=POST, body=b"0\r\n\r\n"),
    "packed chunks": request(b"Transfer-Encoding: gzip, chunked", line=POST, body=b"0\r\n\r\n"),
    "chunked twice": request(
        b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", line=POST, body=b"0\r\n\r\n"
    ),
    "chunks of 1.0": request(
        b"Transfer-Encoding: chunked",
        line=b"POST /balances/v2/mikomo HTTP/1.0",
        body=b"0\r\n\r\n",
    ),
    "bare line feeds": b"GET /balances/v2/mikomo HTTP/1.1\nHost: a\nSidecar-User: u\n\n",
    "one bare line feed": b"GET /balances/v2/mikomo HTTP/1.1\r\nHost: a\nSidecar-User: u\r\n\r\n",
    "a bare return": b"GET /balances/v2/mikomo HTTP/1.1" + HOST + b"X: a\rY: b\r\n\r\n",
    "a folded line": b"GET /balances/v2/mikomo HTTP/1.1" + HOST + b"X: a\r\n b\r\n\r\n",
    "a space before the colon": b"GET /balances/v2/mikomo HTTP/1.1\r\nHost : a\r\n\r\n",
    "a zero octet": request(b"X: a\x00b"),
    "a bad chunk size": request(b"Transfer-Encoding: chunked", line=POST, body=b"zz\r\na\r\n"),
    "chunks with line feeds": request(
        b"Transfer-Encoding: chunked", line=POST, body=b"3\nabc\n0\n\n"
    ),
    "a chunk too long": request(
        b"Transfer-Encoding: chunked", line=POST, body=b"3\r\nabcdef\r\n0\r\n\r\n"
    ),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
async def test_what_could_be_framed_in_two_ways_goes_nowhere(data: bytes) -> None:
    """A malformed request gets one problem of ours and a close; the upstream hears nothing."""
    smuggled = request(b"X-Smuggled: 1")
    async with running_proxy(answer()) as rig, rig.client() as client:
        got = await client.ask(data + smuggled)
        is_closed = await client.is_closed_by_peer()

    assert rig.upstream.requests == []
    assert (got.status, got.value(b"sidecar-error")) == (400, b"request_invalid")
    assert (got.value(b"connection"), is_closed) == (b"close", True)
    assert got.value(b"content-type") == b"application/problem+json"
    assert not got.head.values(b"server")


async def test_pipelined_requests_are_answered_one_after_another() -> None:
    """Two requests in one packet get two answers in their order, each its own."""
    pair = request(line=b"GET /balances/v2/one HTTP/1.1") + request(
        line=b"GET /balances/v2/two HTTP/1.1"
    )
    async with running_proxy(answer(b"1"), answer(b"2")) as rig, rig.client() as client:
        await client.send(pair)
        first = await client.read_answer()
        second = await client.read_answer()

    assert (first.body, second.body) == (b"1", b"2")
    assert [key.provider for key in rig.source.keys] == ["one", "two"]


async def test_nonsense_behind_a_good_request_is_refused_apart() -> None:
    """What was answered stays answered; the connection ends with the nonsense."""
    async with running_proxy(answer(b"1")) as rig, rig.client() as client:
        first = await client.ask(request())
        second = await client.ask(b"nonsense\r\n\r\n")

    assert (first.body, second.status) == (b"1", 400)
    assert len(rig.upstream.requests) == 1

"""Each listener reads a request in the one way in which every other hop reads it, or refuses it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy

from sidecar.domain.request_framing import RequestFramer
from tests.support.listeners import LISTENERS, Listening
from tests.support.loops import LOOPS, run_on
from tests.support.proxy_rig import running_proxy
from tests.support.raw_http import RawMessage, answer, connected
from tests.support.wait import a_while, has_come_to_rest

END: Final = b"\r\n"
CHUNKED: Final = b"Transfer-Encoding: chunked\r\n\r\n"
MANY: Final = 3000
SMUGGLED: Final = b"GET /smuggled/v2/mikomo HTTP/1.1\r\nHost: a\r\nSidecar-User: u-1\r\n\r\n"

REFUSED: Final = {
    "length 2^64-1": b"Content-Length: 18446744073709551615\r\n\r\n",
    "length 2^63": b"Content-Length: 9223372036854775808\r\n\r\n",
    "length with a sign": b"Content-Length: +5\r\n\r\nhello",
    "negative length": b"Content-Length: -1\r\n\r\n",
    "list of lengths": b"Content-Length: 5, 5\r\n\r\nhello",
    "length in hexadecimal": b"Content-Length: 0x5\r\n\r\nhello",
    "zeros by the thousand": b"Content-Length: " + b"0" * 5000 + b"5\r\n\r\nhello",
    "two lengths": b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "length and chunks": b"Content-Length: 5\r\n" + CHUNKED + b"0\r\n\r\n",
    "chunked and a tab": b"Transfer-Encoding: chunked\t\r\n\r\n1\r\na\r\n0\r\n\r\n",
    "identity": b"Transfer-Encoding: identity\r\n\r\n",
    "packed": b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "line feed": b"A: b\nC: d\r\n\r\n",
    "zero octet": b"A: b\x00c\r\n\r\n",
    "control character": b"A: b\x1bc\r\n\r\n",
    "two hosts": b"Host: b\r\n\r\n",
}


async def answers(listening: Listening, *segments: bytes, least: int = 1) -> list[int]:
    """Send segments apart; return the statuses of all answers, of which there are `least`."""
    told = b""
    async with connected(listening.port) as client, asyncio.timeout(20):
        await client.send_apart(segments, pause_s=0.02)
        while told.count(b"HTTP/1.1 ") < least and (more := await client.reader.read(65536)):
            told += more
        await a_while(0.02)  # for one too many
        with suppress(OSError):  # the sidecar may have closed already
            client.writer.write_eof()
        told += await client.reader.read()
    return [int(part.split(b" ", 1)[0]) for part in told.split(b"HTTP/1.1 ")[1:]]


async def refusal(listening: Listening, sent: bytes) -> RawMessage:
    """Send what is refused and a good request behind it; return the only answer."""
    async with connected(listening.port) as client:
        got = await client.ask(sent + listening.get + END)
        assert await client.is_closed_by_peer(), sent
    return got


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("name", LISTENERS)
def test_every_listener_refuses_what_could_be_framed_in_two_ways(name: str, loop: str) -> None:
    """One problem, one account, a close; and nothing behind it is a request any more."""

    async def scenario() -> None:
        async with LISTENERS[name]() as listening:
            for what, rest in REFUSED.items():
                got = await refusal(listening, listening.post + rest)

                assert (got.status, got.value(b"sidecar-error")) == (400, b"request_invalid"), what
                assert got.value(b"connection") == b"close"
            assert listening.forwarded == []
            assert listening.kept is None or listening.accounts == len(REFUSED)

    run_on(loop, scenario())


@pytest.mark.parametrize("name", LISTENERS)
async def test_every_listener_refuses_a_head_without_a_name_or_a_version(name: str) -> None:
    """HTTP/0.9, TLS on a plain port, and blank lines without end are told at once."""
    async with LISTENERS[name]() as listening:
        for sent in (
            b"GET /\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"\r\n" * 100_000,
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\nHost: a\n\n",
        ):
            assert (await refusal(listening, sent)).status == 400, sent[:20]


@pytest.mark.parametrize("name", LISTENERS)
@pytest.mark.parametrize(
    "fields",
    [b"X: " + b"a" * 66_000, b"X: a\r\n" * 12_000, b"X: a\r\n" * 300],
    ids=["one", "many", "too many"],
)
async def test_every_listener_bounds_a_head_as_a_whole(name: str, fields: bytes) -> None:
    """64 KiB of one field, of many, or unfinished, and too many of them, are told with 431."""
    async with LISTENERS[name]() as listening:
        for end in (b"\r\n\r\n", b"") if len(fields) > 2000 else (b"\r\n\r\n",):
            async with connected(listening.port) as client:
                got = await client.ask(listening.get + fields.removesuffix(b"\r\n") + end)

            assert (got.status, got.value(b"sidecar-error")) == (431, b"headers_too_large")


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("name", LISTENERS)
@pytest.mark.parametrize("upgrade", [b"h2c", b"websocket"])
def test_no_listener_loses_bytes_behind_a_wish_to_upgrade(
    name: str, loop: str, upgrade: bytes
) -> None:
    """A body stays a body, whatever came before it and in which segments."""
    wish = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: " + upgrade + b"\r\n"
    length = b"Content-Length: %d\r\n\r\n" % len(SMUGGLED)
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)

    async def scenario() -> None:
        async with LISTENERS[name]() as listening:
            get, post = listening.get, listening.post
            cases: list[tuple[int, Sequence[bytes]]] = [
                (2, [get + wish + END + post + length, SMUGGLED]),
                (2, [get + wish + END + post + length + SMUGGLED]),
                (2, [get + wish + END, get + wish + END]),
                (2, [get + wish + END + get + END]),
                (1, [post + wish + length, SMUGGLED]),
                (1, [post + wish + length + SMUGGLED]),
                (1, [post + wish + CHUNKED, chunks]),
                (1, [post + wish + CHUNKED + chunks]),
                (2, [get + wish + END + post + CHUNKED, chunks]),
            ]
            for number, (count, segments) in enumerate(cases):
                assert len(await answers(listening, *segments, least=count)) == count, number
            asked = [message.head.start_line for message in listening.forwarded]
            assert not [line for line in asked if b"smuggled" in line]
            bodies = [message.body for message in listening.forwarded if message.body]
            assert set(bodies) <= {SMUGGLED}
            assert len(bodies) == (7 if name == "proxy" else 0)

    run_on(loop, scenario())


@pytest.mark.parametrize("name", LISTENERS)
async def test_nothing_behind_a_connect_is_a_request(name: str) -> None:
    """It is answered like any method that there is not, and the connection ends."""
    async with LISTENERS[name]() as listening:
        sent = b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"
        got = await answers(listening, sent + listening.get + END, listening.get + END)

    assert len(got) == 1
    assert got[0] in {401, 404, 405}


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("name", LISTENERS)
def test_what_was_whole_is_answered_whatever_follows_it(name: str, loop: str) -> None:
    """Requests in the segment of a malformed one get their answers, and then it gets its own."""

    async def scenario() -> None:
        async with LISTENERS[name]() as listening:
            good = listening.get + END
            got = await answers(listening, good * 3 + b"nonsense\r\n\r\n" + good, least=4)

            assert got == [listening.good] * 3 + [400]

    run_on(loop, scenario())


@pytest.mark.parametrize("name", LISTENERS)
async def test_many_requests_in_one_segment_are_answered_in_their_order(name: str) -> None:
    """Pipelining works as long as the client reads."""
    async with LISTENERS[name]() as listening, connected(listening.port) as client:
        client.writer.write((listening.get + END) * 300)
        got = [(await client.read_answer()).status for _ in range(300)]

    assert got == [listening.good] * 300


@pytest.mark.parametrize("loop", LOOPS)
def test_a_client_that_does_not_read_is_not_answered_further(loop: str, tmp_path: Path) -> None:
    """What it pipelines waits, so that its answers fill no memory, until it reads."""
    # Of a unix socket the kernel takes little, and always the same.
    path = str(tmp_path / "proxy.sock")

    async def scenario() -> None:
        async with (
            running_proxy(answer(), listen_on=f"unix:{path}") as rig,
            connected(path=path) as client,
        ):
            client.hold_back()
            client.writer.write(b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n" * MANY)
            await has_come_to_rest(lambda: len(rig.completed))
            answered = len(rig.completed)
            client.go_on()
            statuses = [(await client.read_answer()).status for _ in range(MANY)]

            assert 0 < answered < MANY // 2
            assert statuses == [400] * MANY

    run_on(loop, scenario())


@pytest.mark.parametrize(
    "chunks",
    [
        b"ffffffffffffffff\r\na",
        b"1;" + b"a" * 100_000 + b"\r\na\r\n0\r\n\r\n",
        b"0" * 5000 + b"1\r\na\r\n0\r\n\r\n",
        b"1\r\na\r\nzz\r\n",
        b"3\r\nabcdef\r\n0\r\n\r\n",
        b"1\r\na\r\n0\r\nnonsense\r\n\r\n",
    ],
)
@pytest.mark.parametrize("apart", [True, False])
async def test_a_broken_chunk_ends_its_request_at_once(chunks: bytes, *, apart: bool) -> None:
    """Also where the head was taken already: nobody waits for a body that has no end."""
    async with LISTENERS["proxy"]() as listening:
        sent = (listening.post + CHUNKED, chunks + SMUGGLED)
        got = await answers(listening, *(sent if apart else [b"".join(sent)]))

    assert got == [400]
    assert listening.forwarded == []


async def test_a_chunked_body_goes_on_without_its_senders_framing() -> None:
    """Extensions, zeros, and trailers stop here; the data goes on, and the trailers are no head."""
    async with LISTENERS["proxy"]() as listening:
        body = b"003;a=b\r\nabc\r\n1\r\nd\r\n0\r\nSidecar-User: other\r\n\r\n"
        got = await answers(listening, listening.post + CHUNKED + body + listening.get + END)

    assert got[0] == 200
    assert [message.body for message in listening.forwarded][:1] == [b"abcd"]


def parsed(parser: type[HttpRequestParser], pieces: Sequence[bytes]) -> list[tuple[str, bytes]]:
    """Return method and body of each request that a parser of aiohttp sees."""
    loop = asyncio.get_running_loop()
    reading = parser(BaseProtocol(loop), loop, 65536, max_line_size=65536, max_field_size=65536)
    messages = [message for piece in pieces for message in reading.feed_data(piece)[0]]
    return [(message.method, bytes(body.read_nowait())) for message, body in messages]


async def test_both_parsers_of_aiohttp_see_the_same_requests() -> None:
    """What the framing lets pass is read alike by the parser in C and the one in Python."""
    post = b"POST /a HTTP/1.1\r\nHost: a\r\n"
    stream = (
        b"\r\nGET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        + post + b"Content-Length: 005 \r\n\r\nhello"
        + post + b"Upgrade: h2c\r\nTransfer-Encoding: Chunked \r\n\r\n"
        + b"03;a=b\r\nabc\r\n1\r\nd\r\n0\r\nA: b\r\n\r\n"
        + b"GET /b HTTP/1.0\r\n\r\n"
    )  # fmt: skip
    framer = RequestFramer(most_head_bytes=65536)
    pieces: list[bytes] = []
    at = 0
    while at < len(stream):
        piece, at = framer.feed(stream, at)
        pieces.append(piece)

    expected = [("GET", b""), ("POST", b"hello"), ("POST", b"abcd"), ("GET", b"")]
    assert HttpRequestParser is not HttpRequestParserPy
    assert parsed(HttpRequestParser, pieces) == expected
    assert parsed(HttpRequestParserPy, pieces) == expected

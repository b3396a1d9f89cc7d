"""Answers that two readers could cut in two ways: octets in, octets out."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from sidecar.domain.events import RequestOutcome
from sidecar.domain.upstream_failures import UpstreamCause
from sidecar.http.proxy import ProxyOptions
from tests.support.proxy_rig import running_proxy
from tests.support.raw_http import Asked, answer, request
from tests.support.wait import until

OK = b"HTTP/1.1 200 OK\r\n"
PLAIN = OK + b"Content-Length: 2\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
HUGE = b"18446744073709551615"
HELLO = b"5\r\nhello\r\n0\r\n\r\n"


def with_length(*values: bytes, body: bytes = b"hello") -> bytes:
    """Return an answer with these `Content-Length` fields."""
    fields = b"".join(b"Content-Length: " + value + b"\r\n" for value in values)
    return OK + fields + b"\r\n" + body


def with_coding(*values: bytes, body: bytes = HELLO) -> bytes:
    """Return an answer with these `Transfer-Encoding` fields."""
    fields = b"".join(b"Transfer-Encoding:" + value + b"\r\n" for value in values)
    return OK + fields + b"\r\n" + body


MALFORMED = {
    # Lengths.
    "a length of 2^64-1": with_length(HUGE),
    "a length of 2^64-1 and nothing": with_length(HUGE, body=b""),
    "a length of 2^64": with_length(b"18446744073709551616"),
    "a length of 2^63": with_length(b"9223372036854775808"),
    "a length of a thousand digits": with_length(b"0" * 999 + b"5"),
    "a length with a plus": with_length(b"+5"),
    "a negative length": with_length(b"-1"),
    "a list of lengths": with_length(b"5, 6"),
    "a list of equal lengths": with_length(b"5, 5"),
    "a hexadecimal length": with_length(b"0x5"),
    "a length in words": with_length(b"five"),
    "a length with a unit": with_length(b"5 bytes"),
    "a length with a point": with_length(b"5.0"),
    "a length of other digits": with_length(b"\xd9\xa5"),
    "an empty length": with_length(b""),
    "two lengths": with_length(b"5", b"6"),
    "two equal lengths": with_length(b"5", b"5"),
    "a length, and none": with_length(b"5", b""),
    "a length and chunks": OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + HELLO,
    "chunks and a length": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + HELLO,
    "204 with a bad length": b"HTTP/1.1 204 No Content\r\nContent-Length: 5, 6\r\n\r\n",
    "304 with a bad length": b"HTTP/1.1 304 Not Modified\r\nContent-Length: -1\r\n\r\n",
    # Codings.
    "an unknown coding": with_coding(b" xchunked"),
    "gzip": with_coding(b" gzip"),
    "packed chunks": with_coding(b" gzip, chunked"),
    "chunks that are packed": with_coding(b" chunked, gzip"),
    "chunked twice": with_coding(b" chunked", b" chunked"),
    "chunked twice in one": with_coding(b" chunked, chunked"),
    "identity": with_coding(b" identity", body=b"hello"),
    "an empty coding": with_coding(b"", body=b"hello"),
    "a coding with a parameter": with_coding(b" chunked;q=1"),
    "a coding in quotes": with_coding(b' "chunked"'),
    "a coding with a comma": with_coding(b" chunked,"),
    "a coding with a vertical tab": with_coding(b" \x0bchunked"),
    "chunks of 1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + HELLO,
    # Header fields.
    "a space before the colon": OK + b"Content-Length : 5\r\n\r\nhello",
    "a tab before the colon": OK + b"Content-Length\t: 5\r\n\r\nhello",
    "a coding with a space before the colon": OK + b"Transfer-Encoding : chunked\r\n\r\n" + HELLO,
    "a folded line": PLAIN + b"X-A: 1\r\n 2\r\n\r\nok",
    "a folded length": OK + b"Content-Length:\r\n 2\r\n\r\nok",
    "a line that begins with a space": OK + b" X-A: 1\r\nContent-Length: 2\r\n\r\nok",
    "a line without a colon": PLAIN + b"X-A\r\n\r\nok",
    "a field without a name": PLAIN + b": 1\r\n\r\nok",
    "a name with a space": PLAIN + b"X A: 1\r\n\r\nok",
    "a name with a parenthesis": PLAIN + b"X(A): 1\r\n\r\nok",
    "a name with a slash": PLAIN + b"X/A: 1\r\n\r\nok",
    "a name beyond ASCII": PLAIN + b"X-\xe9: 1\r\n\r\nok",
    "a name with a zero octet": PLAIN + b"X-\x00: 1\r\n\r\nok",
    "a value with a zero octet": PLAIN + b"X-A: 1\x002\r\n\r\nok",
    "a value with a control character": PLAIN + b"X-A: 1\x012\r\n\r\nok",
    "a value with an escape": PLAIN + b"X-A: \x1b[31m\r\n\r\nok",
    "a value with a delete": PLAIN + b"X-A: 1\x7f\r\n\r\nok",
    "a value with a return": PLAIN + b"X-A: 1\rX-B: 2\r\n\r\nok",
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "one bare line feed": OK + b"X-A: 1\nContent-Length: 2\r\n\r\nok",
    "a bare line feed at the end": PLAIN + b"X-A: 1\r\n\nok" + b"\r\n\r\n",
    "a header of 70 KB": PLAIN + b"X-A: " + b"a" * 70_000 + b"\r\n\r\nok",
    "a thousand headers": PLAIN + b"X-A: 1\r\n" * 1000 + b"\r\nok",
    # Status lines.
    "a reason with a zero octet": b"HTTP/1.1 200 O\x00K\r\nContent-Length: 2\r\n\r\nok",
    "a reason with an escape": b"HTTP/1.1 200 \x1b[31m\r\nContent-Length: 2\r\n\r\nok",
    "a reason with a return": b"HTTP/1.1 200 O\rK\r\nContent-Length: 2\r\n\r\nok",
    "a status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok",
    "a status of letters": b"HTTP/1.1 2xx OK\r\nContent-Length: 2\r\n\r\nok",
    "status 000": b"HTTP/1.1 000 OK\r\nContent-Length: 2\r\n\r\nok",
    "status 099": b"HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok",
    "status 600": b"HTTP/1.1 600 OK\r\nContent-Length: 2\r\n\r\nok",
    "status 999": b"HTTP/1.1 999 OK\r\nContent-Length: 2\r\n\r\nok",
    "no status": b"HTTP/1.1\r\nContent-Length: 2\r\n\r\nok",
    "two spaces": b"HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\nok",
    "a tab for a space": b"HTTP/1.1\t200 OK\r\nContent-Length: 2\r\n\r\nok",
    "a blank line before": b"\r\n" + answer(b"ok"),
    "200 KB of blank lines": b"\r\n" * 100_000 + answer(b"ok"),
    "a space before": b" " + answer(b"ok"),
    "HTTP/0.9": b"hello\r\n\r\n",
    "HTTP/1.2": b"HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "http/1.1": b"http/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "another protocol": b"ICY 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/2's settings": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64" * 20,
    "a request": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x0a" + b"\x00" * 64,
    "endless nonsense": b"x" * 70_000,
    # Interim answers.
    "switching protocols": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "malformed hints": b"HTTP/1.1 103 Hints\r\nLink : x\r\n\r\n" + answer(b"ok"),
    "a hundred hints": b"HTTP/1.1 103 Hints\r\n\r\n" * 100 + answer(b"ok"),
}


@pytest.mark.parametrize("octets", MALFORMED.values(), ids=MALFORMED)
async def test_an_answer_with_two_readings_reaches_nobody(octets: bytes) -> None:
    """A malformed answer is a 502 of ours; it is asked for once, and its connection ends."""
    async with running_proxy(answer(b"1"), octets, answer(b"3")) as rig, rig.client() as client:
        first = await client.ask(request())
        got = await client.ask(request())
        third = await client.ask(request())

    assert (first.body, third.body) == (b"1", b"3")
    assert (got.status, got.value(b"sidecar-error")) == (502, b"upstream_unreachable")
    assert (len(rig.upstream.requests), rig.upstream.connections) == (3, 2)
    assert [event.cause for event in rig.completed] == [None, UpstreamCause.MALFORMED_ANSWER, None]


EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"
SOUND = {
    "as usual": (answer(b"ok"), b"ok"),
    "nothing": (answer(b""), b""),
    "a length of zeros": (with_length(b"0005"), b"hello"),
    "spaces around a length": (OK + b"Content-Length: \t 5 \t \r\n\r\nhello", b"hello"),
    "no space after the colon": (OK + b"Content-Length:5\r\n\r\nhello", b"hello"),
    "a value beyond ASCII": (OK + b"X-A: caf\xe9\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    "an empty value": (OK + b"X-A:\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    "a header of 60 KB": (PLAIN + b"X-A: " + b"a" * 60_000 + b"\r\n\r\nok", b"ok"),
    "no reason": (b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok", b"ok"),
    "no space before no reason": (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    "chunks": (CHUNKED + HELLO, b"hello"),
    "chunks in capitals": (with_coding(b" CHUNKED"), b"hello"),
    "chunks and a tab": (with_coding(b"\tchunked\t"), b"hello"),
    "chunks and spaces": (with_coding(b"  chunked  "), b"hello"),
    "a chunk size in capitals": (CHUNKED + b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
    "leading zeros of a chunk": (CHUNKED + b"005\r\nhello\r\n000\r\n\r\n", b"hello"),
    "spaces after a chunk size": (CHUNKED + b"5  \r\nhello\r\n0 \r\n\r\n", b"hello"),
    "chunk extensions": (CHUNKED + b'5;a=b;c="d e"\r\nhello\r\n0;x\r\n\r\n', b"hello"),
    "trailers": (CHUNKED + b"5\r\nhello\r\n0\r\nX-A: 1\r\nX-B: 2\r\n\r\n", b"hello"),
    "no chunk": (CHUNKED + b"0\r\n\r\n", b""),
    "hints": (b"HTTP/1.1 103 Hints\r\nLink: </a>\r\n\r\n" + answer(b"ok"), b"ok"),
    "some hints": (b"HTTP/1.1 102 Processing\r\n\r\n" * 8 + answer(b"ok"), b"ok"),
    "an old answer that asks to go on": (
        b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nok",
        b"ok",
    ),
}


@pytest.mark.parametrize(("octets", "body"), SOUND.values(), ids=SOUND)
async def test_an_odd_answer_with_one_reading_is_passed_on(octets: bytes, body: bytes) -> None:
    """What is unusual but clear reaches the client, and the connection carries the next call."""
    async with running_proxy(octets, answer(b"next")) as rig, rig.client() as client:
        got = await client.ask(request())
        following = await client.ask(request())

    assert (got.status, got.body, following.body) == (200, body, b"next")
    assert rig.upstream.connections == 1


@pytest.mark.parametrize(("octets", "body"), SOUND.values(), ids=SOUND)
async def test_an_answer_is_read_however_it_is_cut(octets: bytes, body: bytes) -> None:
    """One octet at a time gives what the whole gave."""

    async def drip(asked: Asked) -> None:
        for octet in octets if len(octets) < 500 else ():
            asked.writer.write(bytes([octet]))
            await asked.writer.drain()
            await asyncio.sleep(0)
        if len(octets) >= 500:
            for cut in range(0, len(octets), 1000):
                asked.writer.write(octets[cut : cut + 1000])
                await asked.writer.drain()
                await asyncio.sleep(0)

    async with running_proxy(drip, answer(b"next")) as rig, rig.client() as client:
        got = await client.ask(request())
        following = await client.ask(request())

    assert (got.status, got.body, following.body) == (200, body, b"next")
    assert rig.upstream.connections == 1


SURPLUS = {
    "after a length": (answer(b"ok") + b"surplus", "GET", b"ok"),
    "a whole answer": (answer(b"ok") + answer(b"poison"), "GET", b"ok"),
    "a line end after a length": (answer(b"ok") + b"\r\n", "GET", b"ok"),
    "after nothing": (answer(b"") + b"surplus", "GET", b""),
    "after chunks": (CHUNKED + HELLO + b"surplus", "GET", b"hello"),
    "after trailers": (CHUNKED + b"0\r\nX-A: 1\r\n\r\nsurplus", "GET", b""),
    "after 204": (EMPTY + b"surplus", "GET", b""),
    "204 with a length": (
        b"HTTP/1.1 204 No Content\r\nContent-Length: 7\r\n\r\nsurplus",
        "GET",
        b"",
    ),
    "204 with chunks": (
        b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n" + HELLO,
        "GET",
        b"",
    ),
    "after 304": (b"HTTP/1.1 304 Not Modified\r\n\r\nsurplus", "GET", b""),
    "304 with its body": (
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\nsurplus",
        "GET",
        b"",
    ),
    "HEAD with a body": (answer(b"surplus"), "HEAD", b""),
    "HEAD with chunks": (CHUNKED + HELLO, "HEAD", b""),
}


def with_head(options: ProxyOptions) -> ProxyOptions:
    return replace(options, methods=frozenset({"GET", "HEAD", "POST"}))


@pytest.mark.parametrize(("octets", "method", "body"), SURPLUS.values(), ids=SURPLUS)
async def test_what_follows_an_answer_answers_nobody(
    octets: bytes, method: str, body: bytes
) -> None:
    """An answer with surplus octets is passed on without them, and its connection ends."""
    line = f"{method} /balances/v2/mikomo HTTP/1.1".encode()
    async with (
        running_proxy(octets, answer(b"next"), options=with_head) as rig,
        rig.client() as client,
    ):
        await client.send(request(line=line))
        head = await client.read_head()
        is_chunked = bool(head.values(b"transfer-encoding"))
        framed = (b"5\r\nhello\r\n" if body else b"") + b"0\r\n\r\n" if is_chunked else body
        got = await client.reader.readexactly(len(framed)) if framed and method == "GET" else b""
        following = await client.ask(request())

    assert got == (framed if method == "GET" else b"")
    assert following.body == b"next"
    assert rig.upstream.connections == 2
    assert [event.outcome for event in rig.completed] == [RequestOutcome.PASSED] * 2


BROKEN_BODIES = {
    "no chunk size": b"zz\r\nhello\r\n0\r\n\r\n",
    "a negative chunk": b"-5\r\nhello\r\n0\r\n\r\n",
    "a chunk with a plus": b"+5\r\nhello\r\n0\r\n\r\n",
    "a chunk with 0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "a chunk with a space before": b" 5\r\nhello\r\n0\r\n\r\n",
    "an empty chunk size": b"\r\nhello\r\n0\r\n\r\n",
    "a chunk of 2^64-1": b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "a chunk of 2^63": b"8000000000000000\r\nhello\r\n0\r\n\r\n",
    "a chunk of 2^64": b"10000000000000000\r\nhello\r\n0\r\n\r\n",
    "a chunk of 2^64+5": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "100,000 leading zeros": b"0" * 100_000 + b"5\r\nhello\r\n0\r\n\r\n",
    "an extension of 100 KB": b"5;" + b"a" * 100_000 + b"\r\nhello\r\n0\r\n\r\n",
    "an extension with a line feed": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "an extension with a return": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "an extension with a zero octet": b"5;\x00\r\nhello\r\n0\r\n\r\n",
    "a chunk without its semicolon": b"5 a\r\nhello\r\n0\r\n\r\n",
    "a chunk that is too long": b"3\r\nhello\r\n0\r\n\r\n",
    "a chunk that is too short": b"7\r\nhello\r\n0\r\n\r\n",
    "chunk lines that end with a line feed": b"5\nhello\n0\n\n",
    "one line feed after a chunk": b"5\r\nhello\n0\r\n\r\n",
    "one line feed after a size": b"5\nhello\r\n0\r\n\r\n",
    "a return after a chunk": b"5\r\nhello\rX0\r\n\r\n",
    "trailers without a colon": b"5\r\nhello\r\n0\r\nX-A\r\n\r\n",
    "trailers with a space before the colon": b"5\r\nhello\r\n0\r\nX-A : 1\r\n\r\n",
    "trailers with a line feed": b"5\r\nhello\r\n0\r\nX-A: 1\n\r\n\r\n",
    "trailers of 100 KB": b"5\r\nhello\r\n0\r\nX-A: " + b"a" * 100_000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("octets", BROKEN_BODIES.values(), ids=BROKEN_BODIES)
async def test_a_body_with_two_readings_never_looks_whole(octets: bytes) -> None:
    """After the head it is too late for a 502: the client's connection breaks, and ours."""
    go_on = asyncio.Event()

    async def send(asked: Asked) -> None:
        asked.writer.write(CHUNKED)
        await go_on.wait()
        asked.writer.write(octets)
        await asked.wait_for_close()

    async with running_proxy(send) as rig, rig.client() as client:
        await client.send(request())
        head = await client.read_head()
        go_on.set()
        got = await read_what_comes(client.reader)
        await until(lambda: bool(rig.completed), within_s=5, what="the end of the call")

    assert head.start_line == b"HTTP/1.1 200 OK"
    assert not got.endswith(b"0\r\n\r\n")
    assert rig.completed[0].outcome is RequestOutcome.UPSTREAM_BROKE
    assert rig.completed[0].cause is UpstreamCause.MALFORMED_ANSWER


@pytest.mark.parametrize("octets", BROKEN_BODIES.values(), ids=BROKEN_BODIES)
async def test_a_body_with_two_readings_is_refused_while_there_is_time(octets: bytes) -> None:
    """Where the fault comes with the head, the client gets a 502 instead of half an answer."""

    async def send(asked: Asked) -> None:
        asked.writer.write(CHUNKED + octets)
        await asked.wait_for_close()

    async with running_proxy(send) as rig, rig.client() as client:
        await client.send(request())
        got = await client.read_head()
        await until(lambda: bool(rig.completed), within_s=5, what="the end of the call")

    # What the kernel delivers in pieces may show its fault too late for that.
    is_early = got.start_line == b"HTTP/1.1 502 Bad Gateway"
    assert is_early or len(octets) > 1000
    assert rig.completed[0].cause is UpstreamCause.MALFORMED_ANSWER


async def read_what_comes(reader: asyncio.StreamReader) -> bytes:
    """Return everything up to the end of the connection, however it ends."""
    got = b""
    try:
        while part := await reader.read(65536):
            got += part
    except ConnectionError:
        return got
    return got


async def test_hints_without_end_are_no_answer() -> None:
    """Interim answers keep nobody waiting for longer than silence does."""

    async def hint_on(asked: Asked) -> None:
        while not asked.writer.is_closing():
            asked.writer.write(b"HTTP/1.1 102 Processing\r\n\r\n")
            try:
                async with asyncio.timeout(0.05):
                    await asked.reader.read(1)
                    return
            except TimeoutError:
                continue

    async with running_proxy(hint_on, timeout_s=0.3) as rig, rig.client() as client:
        async with asyncio.timeout(10):
            got = await client.ask(request())

    assert (got.status, got.value(b"sidecar-error")) == (504, b"upstream_timeout")
    assert rig.completed[0].cause is UpstreamCause.SILENT


async def test_a_head_that_drips_is_no_answer() -> None:
    """An octet now and then is not the head that was asked for."""

    async def drip(asked: Asked) -> None:
        asked.writer.write(OK + b"X-A: ")
        while not asked.writer.is_closing():
            asked.writer.write(b"a")
            try:
                async with asyncio.timeout(0.05):
                    await asked.reader.read(1)
                    return
            except TimeoutError:
                continue

    async with running_proxy(drip, timeout_s=0.3) as rig, rig.client() as client:
        async with asyncio.timeout(10):
            got = await client.ask(request())

    assert got.status == 504

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.domain.chunked_body import (
    EXTENSIONS_MAX_BYTES,
    LINE_MAX_BYTES,
    PARTS_AT_ONCE,
    TRAILERS_MAX_BYTES,
)
from sidecar.domain.request_framing import BLANK_LINES_MAX, Phase, RequestFramer
from sidecar.domain.request_head import HeadFault

MOST = 4096
GET = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
WHOLE = b"5;a=b\r\nhello\r\n006 ;c\r\n world\r\n0\r\nX-T: 1\r\n\r\n"
STREAM = GET + POST + b"\r\n" + CHUNKED + WHOLE + GET


def fed(framer: RequestFramer, data: bytes) -> list[bytes]:
    """Feed all of `data` and return the pieces that went on."""
    pieces: list[bytes] = []
    at = 0
    while at < len(data):
        piece, at = framer.feed(data, at)
        pieces.append(piece)
    return [piece for piece in pieces if piece]


def fed_in_steps(framer: RequestFramer, data: bytes, step: int) -> bytes:
    """Feed `data` in segments of `step` bytes and return what went on."""
    return b"".join(
        piece for at in range(0, len(data), step) for piece in fed(framer, data[at : at + step])
    )


def body_of(chunked: bytes) -> bytes:
    """Return the data of a chunked body in the plain form."""
    body = b""
    while chunked:
        size, _, chunked = chunked.partition(b"\r\n")
        body, chunked = body + chunked[: int(size, 16)], chunked[int(size, 16) + 2 :]
    return body


def test_each_request_goes_on_by_itself() -> None:
    """Whole requests in one segment come out one by one, each with its body."""
    pieces = fed(RequestFramer(most_head_bytes=MOST), STREAM)

    assert pieces == [
        GET,
        POST,
        CHUNKED + b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
        GET,
    ]


@given(st.lists(st.integers(1, len(STREAM) - 1), max_size=12))
def test_where_a_stream_is_cut_changes_nothing(cuts: list[int]) -> None:
    """However the bytes arrive, the parser gets the same requests."""
    framer = RequestFramer(most_head_bytes=MOST)
    bounds = [0, *sorted(set(cuts)), len(STREAM)]

    came = b"".join(
        piece for start, end in pairwise(bounds) for piece in fed(framer, STREAM[start:end])
    )

    first, _, rest = came.partition(CHUNKED)
    chunks, _, last = rest.partition(b"0\r\n\r\n")
    assert (first, body_of(chunks), last) == (GET + POST, b"hello world", GET)
    assert (framer.phase, framer.fault, framer.held_bytes) == (Phase.BETWEEN, None, 0)


def test_a_head_goes_on_when_it_is_whole() -> None:
    """The parser never keeps a part of a head, and what is kept here is counted."""
    framer = RequestFramer(most_head_bytes=MOST)

    assert [framer.feed(GET[at : at + 1])[0] for at in range(len(GET) - 1)] == [b""] * 27
    assert (framer.phase, framer.held_bytes) == (Phase.HEAD, len(GET) - 1)
    assert framer.feed(b"\n")[0] == GET
    assert (framer.phase, framer.held_bytes) == (Phase.BETWEEN, 0)


@pytest.mark.parametrize("step", [1, 7, 500, 100_000])
@pytest.mark.parametrize("is_whole", [True, False])
def test_a_head_is_bounded_as_a_whole(step: int, *, is_whole: bool) -> None:
    """Many fields that are short, in segments of any size, are too many at the same size."""
    data = b"GET /a HTTP/1.1\r\nHost: a\r\n" + b"X-A: 12345\r\n" * 400
    data += b"\r\n" if is_whole else b""
    framer = RequestFramer(most_head_bytes=MOST)
    held: list[int] = []
    for at in range(0, len(data), step):
        assert not fed(framer, data[at : at + step])
        held.append(framer.held_bytes)

    assert framer.fault is HeadFault.TOO_LARGE
    assert max(held) <= MOST


def test_a_head_of_just_the_limit_passes() -> None:
    """The limit itself is allowed, the blank line included."""
    data = GET[:-2] + b"X: " + b"a" * (MOST - len(GET) - 5) + b"\r\n\r\n"

    assert len(data) == MOST
    assert fed(RequestFramer(most_head_bytes=MOST), data) == [data]


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_blank_lines_before_a_request_are_few(step: int) -> None:
    """A client may send one after a body; 200 KB of them are no request."""
    for count, is_sound in ((BLANK_LINES_MAX, True), (BLANK_LINES_MAX + 1, False)):
        framer = RequestFramer(most_head_bytes=MOST)
        data = b"\r\n" * count + GET
        came = fed_in_steps(framer, data, step)

        assert came == (GET if is_sound else b"")
        assert framer.fault is (None if is_sound else HeadFault.MALFORMED)


def test_a_blank_line_begins_no_head() -> None:
    """A connection that got one after its body lies idle, and no deadline of a head runs."""
    framer = RequestFramer(most_head_bytes=MOST)

    fed(framer, GET + b"\r\n")

    assert (framer.phase, framer.held_bytes) == (Phase.BETWEEN, 0)


def test_bytes_after_what_cannot_be_followed_go_nowhere() -> None:
    """After a `CONNECT`, and after a fault, nothing is a request any more."""
    connect = b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n"
    for start in (connect, b"\x16\x03\x01"):
        framer = RequestFramer(most_head_bytes=MOST)
        came = b"".join(fed(framer, start) + fed(framer, GET))

        assert b"GET" not in came
        assert framer.phase is Phase.ENDED


BROKEN = {
    "no size": b"\r\n",
    "no number": b"zz\r\n",
    "signed": b"+5\r\nhello\r\n",
    "prefixed": b"0x5\r\nhello\r\n",
    "space first": b" 5\r\nhello\r\n",
    "space behind": b"5 \r\nhello\r\n",
    "underscore": b"1_0\r\n",
    "2^64-1": b"ffffffffffffffff\r\n",
    "2^63": b"8000000000000000\r\n",
    "too much in all": b"1\r\na\r\n7fffffffffffffff\r\n",
    "17 digits": b"00000000000000005\r\nhello\r\n",
    "line feeds": b"5\nhello\n0\n\n",
    "longer than it says": b"5\r\nhello!\r\n0\r\n\r\n",
    "line feed behind": b"5\r\nhello\n0\r\n\r\n",
    "long extension": b"5;" + b"a" * LINE_MAX_BYTES + b"\r\nhello\r\n",
    "endless extension": b"5;" + b"a" * 100_000,
    "endless zeros": b"0" * 100_000,
    "many extensions": (b"1;" + b"a" * 200 + b"\r\na\r\n") * (EXTENSIONS_MAX_BYTES // 200 + 1),
    "control character": b"5;\x00\r\nhello\r\n",
    "return in an extension": b"5;a\rb\r\nhello\r\n",
    "trailer of no field": b"0\r\nnonsense\r\n\r\n",
    "folded trailer": b"0\r\nA: b\r\n c\r\n\r\n",
    "line feed in trailers": b"0\r\nA: b\n\r\n",
    "endless trailers": b"0\r\n" + b"A: b\r\n" * TRAILERS_MAX_BYTES,
}


@pytest.mark.parametrize("step", [1, 1_000_000])
@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_a_chunk_that_can_be_read_in_two_ways_ends_the_body(data: bytes, step: int) -> None:
    """Nothing that follows it goes on, and no end of a body is invented."""
    framer = RequestFramer(most_head_bytes=MOST)
    came = fed_in_steps(framer, CHUNKED + data + GET, step)

    assert framer.fault is HeadFault.CHUNK
    assert b"0\r\n\r\n" not in came.removeprefix(CHUNKED)
    assert GET not in came


def test_a_segment_of_tiny_chunks_is_taken_in_portions() -> None:
    """A client that sends each byte as a chunk holds the event loop up for a moment only."""
    data = CHUNKED + b"1\r\na\r\n" * 5000 + b"0\r\n\r\n"
    framer = RequestFramer(most_head_bytes=MOST)

    first, at = framer.feed(data)

    assert 0 < at < len(data)
    assert first.count(b"1\r\na\r\n") <= PARTS_AT_ONCE
    assert body_of((first + b"".join(fed(framer, data[at:]))).removeprefix(CHUNKED)) == b"a" * 5000

"""The strict reading of heads, where the tables of `tests/http` leave something open."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.domain.answer_heads import (
    FinalHead,
    Framing,
    InterimHead,
    MalformedHead,
    may_become_head,
    read_head,
)

LINE = b"HTTP/1.1 200 OK\r\n"
OLD = b"HTTP/1.0 200 OK\r\n"
LENGTH = b"Content-Length: 2\r\n"
CHUNKS = b"Transfer-Encoding: chunked\r\n"


def read(head: bytes) -> FinalHead:
    found = read_head(head + b"\r\n", is_to_head=False)
    assert isinstance(found, FinalHead)
    return found


@pytest.mark.parametrize(
    ("head", "is_followed"),
    [
        (LINE + LENGTH, True),
        (LINE + CHUNKS, True),
        (LINE, False),
        (LINE + LENGTH + b"Connection: close\r\n", False),
        (LINE + LENGTH + b"Connection: x, CLOSE\r\n", False),
        (LINE + LENGTH + b"Connection: keep-alive\r\nConnection:\tclose\t\r\n", False),
        (LINE + LENGTH + b"Connection: keep-alive, x\r\n", True),
        (OLD + LENGTH, False),
        (OLD + LENGTH + b"Connection: Keep-Alive\r\n", True),
        (OLD + LENGTH + b"Connection: keep-alive, close\r\n", False),
        (OLD + b"Connection: keep-alive\r\n", False),
        (b"HTTP/1.1 204 No Content\r\n", True),
    ],
)
def test_a_connection_goes_on_where_both_sides_say_so(head: bytes, *, is_followed: bool) -> None:
    """HTTP/1.1 goes on unless told, HTTP/1.0 if told, and neither after a body without framing."""
    assert read(head).is_followed is is_followed


@pytest.mark.parametrize(
    ("head", "framing", "length"),
    [
        (LINE + LENGTH, Framing.LENGTH, 2),
        (LINE + b"content-length:9223372036854775807\r\n", Framing.LENGTH, 2**63 - 1),
        (LINE + CHUNKS, Framing.CHUNKED, 0),
        (LINE, Framing.CLOSE, 0),
        (b"HTTP/1.1 304 Not Modified\r\n" + LENGTH, Framing.NONE, 0),
        (b"HTTP/1.1 204 No Content\r\n" + CHUNKS, Framing.NONE, 0),
    ],
)
def test_a_body_is_framed_in_one_way(head: bytes, framing: Framing, length: int) -> None:
    """RFC 9112 section 6.3, without its tolerance."""
    assert (read(head).framing, read(head).length) == (framing, length)


def test_an_answer_to_head_has_no_body() -> None:
    """Its length and its coding are those that GET would have."""
    for fields in (LENGTH, CHUNKS, b""):
        found = read_head(LINE + fields + b"\r\n", is_to_head=True)
        assert isinstance(found, FinalHead)
        assert found.framing is Framing.NONE


@pytest.mark.parametrize("status", [100, 102, 103, 199])
def test_an_interim_answer_is_one(status: int) -> None:
    """Every 1xx but the one that leaves HTTP."""
    assert read_head(b"HTTP/1.1 %d x\r\n\r\n" % status, is_to_head=False) == InterimHead()


@given(kept=st.integers(min_value=0), sound=st.sampled_from([LINE + LENGTH, OLD + b"X-A:\r\n"]))
def test_every_beginning_of_a_head_may_become_one(kept: int, sound: bytes) -> None:
    """A head that comes in pieces is not refused for the piece that is not here yet."""
    assert may_become_head(sound[: kept % len(sound)])


@given(value=st.one_of(st.binary(max_size=4), st.just(b" a\tb\xe9 ")))
def test_what_is_refused_early_is_what_is_refused_in_the_end(value: bytes) -> None:
    """A head whose lines are no lines is not waited for, and no other head is cut off."""
    lines = LINE + b"X-A:" + value + b"\r\n"

    is_head = read_head(lines + b"\r\n", is_to_head=False) != MalformedHead()

    assert may_become_head(lines) is is_head

"""The strict reading of chunked bodies: whatever the cut, one content or none."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from sidecar.domain.chunks import LINE_LIMIT_BYTES, TRAILERS_LIMIT_BYTES, ChunkedBody

CUTS = st.lists(st.integers(min_value=1, max_value=40), max_size=60)


def cut(data: bytes, sizes: Sequence[int]) -> list[bytes]:
    """Return `data` in pieces of these sizes, the rest at the end."""
    pieces: list[bytes] = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [piece for piece in [*pieces, data] if piece]


def take_all(pieces: Sequence[bytes]) -> tuple[ChunkedBody, bytes]:
    body = ChunkedBody()
    return body, b"".join([body.take(piece) for piece in pieces])


@given(
    contents=st.lists(st.binary(min_size=1, max_size=50), max_size=6),
    extension=st.sampled_from([b"", b";a", b"  ", b';a="b c"']),
    trailers=st.sampled_from([b"", b"X-A: 1\r\n", b"X-A:\r\nX-B: 2\r\n"]),
    surplus=st.sampled_from([b"", b"\r\n", b"HTTP/1.1 200 OK\r\n\r\n"]),
    sizes=CUTS,
)
def test_a_body_is_the_same_however_it_is_cut(
    contents: list[bytes], extension: bytes, trailers: bytes, surplus: bytes, sizes: list[int]
) -> None:
    """Content, end and surplus do not depend on how the kernel delivers them."""
    framed = b"".join(b"%x%b\r\n%b\r\n" % (len(each), extension, each) for each in contents)
    body, content = take_all(cut(framed + b"0\r\n" + trailers + b"\r\n" + surplus, sizes))

    assert content == b"".join(contents)
    assert (body.is_whole, body.is_malformed) == (True, False)
    assert body.has_surplus is bool(surplus)


@given(content=st.binary(min_size=1, max_size=50), sizes=CUTS, data=st.data())
def test_a_beginning_of_a_body_is_not_the_whole(
    content: bytes, sizes: list[int], data: st.DataObject
) -> None:
    """Every octet of the framing counts, up to the last line feed."""
    framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content)
    kept = data.draw(st.integers(min_value=0, max_value=len(framed) - 1))
    body, got = take_all(cut(framed[:kept], sizes))

    assert content.startswith(got)
    assert (body.is_whole, body.is_malformed) == (False, False)


@given(noise=st.binary(min_size=1, max_size=12), sizes=CUTS)
def test_no_cut_decides_whether_a_body_is_malformed(noise: bytes, sizes: list[int]) -> None:
    """What is refused at once is refused in pieces too, after the same content."""
    framed = b"3\r\nabc\r\n" + noise + b"\r\n0\r\n\r\n"
    at_once, whole = take_all([framed])
    in_pieces, parts = take_all(cut(framed, sizes))

    assert (in_pieces.is_whole, in_pieces.is_malformed) == (at_once.is_whole, at_once.is_malformed)
    assert parts == whole


def test_what_is_kept_of_a_line_is_bounded() -> None:
    """Neither a size that never ends nor trailers that never end are collected."""
    for endless, limit in ((b"1;a", LINE_LIMIT_BYTES), (b"0\r\nX-A: a", TRAILERS_LIMIT_BYTES)):
        body = ChunkedBody()
        body.take(endless)
        taken = 0
        while not body.is_malformed:
            body.take(b"a")
            taken += 1
            assert taken <= limit

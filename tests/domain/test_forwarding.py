from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.domain.forwarding import (
    sort_answer_headers,
    sort_request_headers,
    to_plain_id,
)

NAMES = st.sampled_from(
    [
        b"X-A",
        b"x-a",
        b"Accept",
        b"Cookie",
        b"Sidecar-User",
        b"X-Forwarded-For",
        b"TE",
        b"traceparent",
    ]
)
PAIRS = st.lists(st.tuples(NAMES, st.binary(max_size=8)))


@pytest.mark.parametrize(
    "name",
    [
        b"Authorization",
        b"Proxy-Authorization",
        b"Cookie",
        b"Forwarded",
        b"X-Forwarded-For",
        b"x-forwarded-proto",
        b"Sidecar-User",
        b"SIDECAR-KEY",
        b"Sidecar-Anything",
        b"X-User",
        b"Host",
        b"Expect",
        b"Content-Length",
        b"Connection",
        b"Keep-Alive",
        b"Proxy-Connection",
        b"TE",
        b"Trailer",
        b"Transfer-Encoding",
        b"Upgrade",
        b"HTTP2-Settings",
    ],
)
def test_what_is_the_clients_own_or_of_one_hop_stops_here(name: bytes) -> None:
    """No header of the client's own or of one hop goes on, in whatever case it is written."""
    head = sort_request_headers([(name, b"v"), (b"Accept", b"*/*")], user_header=b"x-user")

    assert head.forwarded == [(b"Accept", b"*/*")]
    assert head.held(name.lower()) == [b"v"]


def test_headers_named_in_connection_stop_here() -> None:
    """A header that `Connection` names is of one hop, whatever its name."""
    head = sort_request_headers(
        [(b"Connection", b"close, X-One"), (b"x-one", b"1"), (b"X-Two", b"2")],
        user_header=b"sidecar-user",
    )

    assert head.forwarded == [(b"X-Two", b"2")]


def test_an_answer_keeps_its_length_though_connection_names_it() -> None:
    """What frames a body cannot be taken away by `Connection`."""
    head = sort_answer_headers(
        [(b"Connection", b"content-length, X-One"), (b"Content-Length", b"3"), (b"X-One", b"1")],
        is_length_framed=True,
    )

    assert head.forwarded == [(b"Content-Length", b"3")]
    assert head.content_length == 3


def test_a_length_that_does_not_frame_is_dropped() -> None:
    """An answer framed by chunks must not also carry a length."""
    head = sort_answer_headers([(b"Content-Length", b"3"), (b"A", b"1")], is_length_framed=False)

    assert head.forwarded == [(b"A", b"1")]
    assert head.content_length is None


def test_a_forged_header_of_ours_does_not_reach_the_client() -> None:
    """Nothing but the sidecar says `Sidecar-*`."""
    head = sort_answer_headers(
        [(b"Sidecar-Error", b"grant_unknown"), (b"sidecar-x", b"1"), (b"B", b"2")],
        is_length_framed=True,
    )

    assert head.forwarded == [(b"B", b"2")]


@given(PAIRS)
def test_what_goes_on_keeps_order_case_and_duplicates(pairs: list[tuple[bytes, bytes]]) -> None:
    """The forwarded pairs are a subsequence of what came, and each name goes on always or never."""
    head = sort_request_headers(pairs, user_header=b"sidecar-user")

    kept = {b"x-a", b"accept", b"traceparent"}
    assert list(head.forwarded) == [pair for pair in pairs if pair[0].lower() in kept]
    assert head.size_bytes == sum(len(name) + len(value) for name, value in pairs)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("abc-DEF_1.2", "abc-DEF_1.2"),
        ("a" * 64, "a" * 64),
        ("a" * 65, ""),
        ("", ""),
        ("a b", ""),
        ('a"b', ""),
        ("ä", ""),
    ],
)
def test_only_a_harmless_id_may_stand_in_a_log(text: str, expected: str) -> None:
    """An id from outside is taken whole or not at all."""
    assert to_plain_id(text) == expected

from __future__ import annotations

import pytest

from sidecar.domain.request_head import FIELDS_MAX, Head, HeadFault, may_begin, read_head

LINE = b"POST /balances/v2/mikomo HTTP/1.1\r\n"
HOST = b"Host: a\r\n"


def head(*fields: bytes, line: bytes = LINE, host: bytes = HOST) -> bytes:
    return line + host + b"".join(field + b"\r\n" for field in fields) + b"\r\n"


REFUSED: dict[str, tuple[bytes, HeadFault]] = {
    "no version": (b"GET /a\r\nHost: a\r\n\r\n", HeadFault.MALFORMED),
    "version 0.9": (head(line=b"GET /a HTTP/0.9\r\n"), HeadFault.MALFORMED),
    "version 1.2": (head(line=b"GET /a HTTP/1.2\r\n"), HeadFault.MALFORMED),
    "version 2": (b"PRI * HTTP/2.0\r\n\r\n", HeadFault.MALFORMED),
    "two spaces": (head(line=b"GET  /a HTTP/1.1\r\n"), HeadFault.MALFORMED),
    "no method": (head(line=b" /a HTTP/1.1\r\n"), HeadFault.MALFORMED),
    "bare line feed": (head(b"A: b\nC: d"), HeadFault.MALFORMED),
    "bare return": (head(b"A: b\rC: d"), HeadFault.MALFORMED),
    "folded": (head(b"A: b", b" c"), HeadFault.MALFORMED),
    "folded first": (head(b"A: b", host=b" Host: a\r\n"), HeadFault.MALFORMED),
    "space before colon": (head(b"A : b"), HeadFault.MALFORMED),
    "no name": (head(b": b"), HeadFault.MALFORMED),
    "no colon": (head(b"A"), HeadFault.MALFORMED),
    "zero octet": (head(b"A: b\x00c"), HeadFault.MALFORMED),
    "control character": (head(b"A: b\x01c"), HeadFault.MALFORMED),
    "escape": (head(b"A: b\x1bc"), HeadFault.MALFORMED),
    "delete": (head(b"A: b\x7fc"), HeadFault.MALFORMED),
    "name with octets": (head(b"\xc3\xa9: b"), HeadFault.MALFORMED),
    "too many fields": (head(*[b"A: b"] * FIELDS_MAX), HeadFault.TOO_LARGE),
    "no host": (head(host=b""), HeadFault.HOST),
    "two hosts": (head(b"Host: b"), HeadFault.HOST),
    "two hosts of 1.0": (head(b"host: b", line=b"GET /a HTTP/1.0\r\n"), HeadFault.HOST),
    "list of hosts": (head(host=b"Host: a,b\r\n"), HeadFault.HOST),
    "host with space": (head(host=b"Host: a b\r\n"), HeadFault.HOST),
    "host with user": (head(host=b"Host: a@b\r\n"), HeadFault.HOST),
    "two lengths": (head(b"Content-Length: 4", b"content-length: 4"), HeadFault.LENGTH),
    "list of lengths": (head(b"Content-Length: 5, 5"), HeadFault.LENGTH),
    "length with comma": (head(b"Content-Length: 5,"), HeadFault.LENGTH),
    "signed": (head(b"Content-Length: +5"), HeadFault.LENGTH),
    "negative": (head(b"Content-Length: -1"), HeadFault.LENGTH),
    "hexadecimal": (head(b"Content-Length: 0x5"), HeadFault.LENGTH),
    "no digits": (head(b"Content-Length: "), HeadFault.LENGTH),
    "two numbers": (head(b"Content-Length: 5 5"), HeadFault.LENGTH),
    "underscore": (head(b"Content-Length: 1_0"), HeadFault.LENGTH),
    "other digits": (head("Content-Length: \u0665".encode()), HeadFault.LENGTH),
    "leading zeros": (head(b"Content-Length: " + b"0" * 1000 + b"5"), HeadFault.LENGTH),
    "2^63": (head(b"Content-Length: 9223372036854775808"), HeadFault.LENGTH),
    "2^64-1": (head(b"Content-Length: 18446744073709551615"), HeadFault.LENGTH),
    "length and chunks": (
        head(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        HeadFault.CODING,
    ),
    "chunked with tab": (head(b"Transfer-Encoding: chunked\t"), HeadFault.CODING),
    "tab and chunked": (head(b"Transfer-Encoding:\tchunked"), HeadFault.CODING),
    "chunked twice": (
        head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
        HeadFault.CODING,
    ),
    "list of chunked": (head(b"Transfer-Encoding: chunked, chunked"), HeadFault.CODING),
    "packed": (head(b"Transfer-Encoding: gzip, chunked"), HeadFault.CODING),
    "identity": (head(b"Transfer-Encoding: identity"), HeadFault.CODING),
    "no coding": (head(b"Transfer-Encoding: "), HeadFault.CODING),
    "unknown coding": (head(b"Transfer-Encoding: xchunked"), HeadFault.CODING),
    "quoted": (head(b'Transfer-Encoding: "chunked"'), HeadFault.CODING),
    "parameter": (head(b"Transfer-Encoding: chunked;a=b"), HeadFault.CODING),
    "chunks of 1.0": (
        head(b"Transfer-Encoding: chunked", line=b"POST /a HTTP/1.0\r\n"),
        HeadFault.CODING,
    ),
}


@pytest.mark.parametrize(("data", "fault"), REFUSED.values(), ids=REFUSED.keys())
def test_what_two_hops_could_read_differently_is_refused(data: bytes, fault: HeadFault) -> None:
    """Each rule of the table has its fault; nothing is repaired."""
    assert read_head(data) is fault


@pytest.mark.parametrize(
    ("data", "length", "is_chunked"),
    [
        (head(), 0, False),
        (head(line=b"GET / HTTP/1.0\r\n", host=b""), 0, False),
        (head(host=b"Host:\r\n"), 0, False),
        (head(host=b"Host: [::1]:8080\r\n"), 0, False),
        (head(b"Content-Length: 0"), 0, False),
        (head(b"content-LENGTH:5 \t"), 5, False),
        (head(b"Content-Length: 0005"), 5, False),
        (head(b"Content-Length: 9223372036854775807"), 2**63 - 1, False),
        (head(b"Transfer-Encoding: Chunked "), 0, True),
        (head(b"A:", b"B:\tc\td ", "C: é".encode()), 0, False),
    ],
)
def test_a_sound_head_passes_byte_for_byte(data: bytes, length: int, *, is_chunked: bool) -> None:
    """What every hop reads alike goes on as it came."""
    assert read_head(data) == Head(data, length=length, is_chunked=is_chunked)


@pytest.mark.parametrize(
    ("connection", "kept"),
    [
        (b"Connection: Upgrade, HTTP2-Settings", b"Connection: HTTP2-Settings\r\n"),
        (b"connection:keep-alive ,\tUPGRADE", b"Connection: keep-alive\r\n"),
        (b"Connection: upgrade", b"Connection: \r\n"),
        (b"A: b", b"A: b\r\n"),
    ],
)
def test_a_wish_to_upgrade_is_taken_out(connection: bytes, kept: bytes) -> None:
    """The request stays what it is, with the whole of its body."""
    asked = head(connection, b"upgrade: h2c", b"UPGRADE: websocket", b"Content-Length: 5")

    assert read_head(asked) == Head(LINE + HOST + kept + b"Content-Length: 5\r\n\r\n", length=5)


def test_nothing_follows_a_connect() -> None:
    """Its bytes belong to a tunnel that is never made, so the connection ends with the answer."""
    asked = head(b"Connection: keep-alive", b"Upgrade: x", line=b"CONNECT a:443 HTTP/1.1\r\n")

    assert read_head(asked) == Head(
        b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", is_last=True
    )


@pytest.mark.parametrize(
    "start",
    [
        b"G",
        b"GET",
        b"GET ",
        b"GET /a",
        b"GET /a HTT",
        b"GET /a HTTP/1.1\r",
        b"GET /a HTTP/1.1\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\nX",
    ],
)
def test_the_start_of_a_request_is_waited_for(start: bytes) -> None:
    """A head may come in pieces."""
    assert may_begin(start)


@pytest.mark.parametrize(
    "start",
    [
        b"\x16\x03\x01\x02\x00",
        b" GET",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"GET /a\r\n",
        b"GET /a HTTP/1.1\nHost: a",
        b"GET /a FTP",
        b"GET /a HTTP/1.1\r\nA: b\nC",
        b"GET /a HTTP/1.1\r\nA: \x00",
        b"A" * 33,
    ],
)
def test_another_protocol_is_told_by_its_first_bytes(start: bytes) -> None:
    """TLS on a plain port, HTTP/0.9, or nonsense waits for no deadline."""
    assert not may_begin(start)

from __future__ import annotations

import gzip
import zlib

import pytest

from sidecar.domain.events import UpstreamClass
from sidecar.domain.upstream_answers import PEEK_BYTES, classify, read_code

BODY = b'{"code": 701, "message": "Account not found"}'
RAW_DEFLATE = zlib.compressobj(wbits=-15)


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (200, None, UpstreamClass.OK),
        (304, None, UpstreamClass.OK),
        (206, None, UpstreamClass.PARTIAL),
        (400, 401, UpstreamClass.CLIENT_4XX),
        (401, 602, UpstreamClass.TOKEN_602),
        (401, None, UpstreamClass.TOKEN_602),
        (403, 403, UpstreamClass.SUBSCRIPTION_403),
        (403, None, UpstreamClass.CLIENT_4XX),
        (404, 601, UpstreamClass.CUSTOMER_601),
        (404, 701, UpstreamClass.ACCOUNT_701),
        (404, 1107, UpstreamClass.CLIENT_4XX),
        (408, None, UpstreamClass.TIMEOUT),
        (429, 1207, UpstreamClass.RATE_LIMITED),
        (500, 500, UpstreamClass.SERVER_5XX),
        (503, None, UpstreamClass.SERVER_5XX),
    ],
)
def test_status_and_code_together_tell_the_class(
    status: int, code: int | None, expected: UpstreamClass
) -> None:
    """Akoya's code refines the class of a status and never stands for it."""
    assert classify(status, code) is expected


@pytest.mark.parametrize(
    ("start", "encoding", "expected"),
    [
        (BODY, b"", 701),
        (b'{"code":"601"}', b"", 601),
        (b'{"message":"x","code": 602, "debugMessage":"cut he', b"", 602),
        (gzip.compress(BODY, mtime=0), b"gzip", 701),
        (zlib.compress(BODY), b"deflate", 701),
        (RAW_DEFLATE.compress(BODY) + RAW_DEFLATE.flush(), b"deflate", 701),
        (gzip.compress(BODY, mtime=0)[:-4], b"gzip", 701),
        (BODY, b"br", 701),
        (b"\x1f\x8bnonsense", b"gzip", None),
        (b"<html>", b"", None),
        (b"[" * PEEK_BYTES, b"", None),
        (b"[701]", b"", None),
        (b'{"code": null}', b"", None),
        (b"", b"", None),
    ],
)
def test_a_code_is_read_from_whatever_there_is_of_a_body(
    start: bytes, encoding: bytes, expected: int | None
) -> None:
    """A cut, packed or foreign body gives a code or none, and never an error."""
    assert read_code(start, encoding=encoding) == expected


def test_a_bomb_is_not_unpacked() -> None:
    """No more than the peeked size is ever unpacked, however well the body was packed."""
    bomb = gzip.compress(b" " * 50_000_000 + BODY)[:PEEK_BYTES]

    assert read_code(bomb, encoding=b"gzip") is None

"""What an answer of the data API means to the operator, from its status and Akoya's error code.

Akoya's code lies in the body and is not the HTTP status (400 carries code 401). Nothing here
changes an answer: it is passed on whatever it means.
"""

from __future__ import annotations

import json
import re
import zlib
from typing import Final, cast

from sidecar.domain.events import UpstreamClass

PEEK_BYTES: Final = 4096
"""How much of an error body is looked at, and at most unpacked."""

_PARTIAL: Final = 206
_UNAUTHORIZED: Final = 401
_FORBIDDEN: Final = 403
_NOT_FOUND: Final = 404
_REQUEST_TIMEOUT: Final = 408
_TOO_MANY_REQUESTS: Final = 429
_FIRST_ERROR: Final = 400
_FIRST_SERVER_ERROR: Final = 500
_BY_CODE: Final = {
    (_FORBIDDEN, 403): UpstreamClass.SUBSCRIPTION_403,
    (_NOT_FOUND, 601): UpstreamClass.CUSTOMER_601,
    (_NOT_FOUND, 701): UpstreamClass.ACCOUNT_701,
}
_CODED_STATUSES: Final = frozenset({_FORBIDDEN, _NOT_FOUND})
_CODE: Final = re.compile(rb'"code"\s*:\s*"?(\d{1,6})\b')
_ANY_WINDOW: Final = zlib.MAX_WBITS | 32
_RAW_WINDOW: Final = -zlib.MAX_WBITS


def is_told_by_body(status: int) -> bool:
    """Whether the class of an answer with this status depends on Akoya's code in its body."""
    return status in _CODED_STATUSES


def classify(status: int, code: int | None) -> UpstreamClass:
    """Return the class of an answer; `code` is Akoya's, or ``None`` where none was readable.

    A 401 counts as a rejected token whatever its body: an edge before the API answers without one.
    """
    if status < _FIRST_ERROR:
        return UpstreamClass.PARTIAL if status == _PARTIAL else UpstreamClass.OK
    if status >= _FIRST_SERVER_ERROR:
        return UpstreamClass.SERVER_5XX
    if status == _UNAUTHORIZED:
        return UpstreamClass.TOKEN_602
    if status == _TOO_MANY_REQUESTS:
        return UpstreamClass.RATE_LIMITED
    if status == _REQUEST_TIMEOUT:
        return UpstreamClass.TIMEOUT
    if code is None:
        return UpstreamClass.CLIENT_4XX
    return _BY_CODE.get((status, code), UpstreamClass.CLIENT_4XX)


def read_code(start: bytes, *, encoding: bytes) -> int | None:
    """Return Akoya's error code from the first bytes of a body, or ``None``.

    Args:
        start: At most `PEEK_BYTES` of the body; it may be cut anywhere.
        encoding: Its content coding in lower case; only gzip and deflate are unpacked, and no
            more than `PEEK_BYTES` of them.
    """
    text = _unpack(start[:PEEK_BYTES], encoding=encoding)
    try:
        document = cast("object", json.loads(text))
    except (ValueError, RecursionError):
        found = _CODE.search(text)
        return int(found.group(1)) if found else None
    if not isinstance(document, dict):
        return None
    code = cast("dict[str, object]", document).get("code")
    if isinstance(code, str) and code.isdecimal():
        return int(code[:6])
    return code if isinstance(code, int) else None


def _unpack(packed: bytes, *, encoding: bytes) -> bytes:
    if encoding not in {b"gzip", b"x-gzip", b"deflate"}:
        return packed
    for window in (_ANY_WINDOW, _RAW_WINDOW):
        try:
            return zlib.decompressobj(window).decompress(packed, PEEK_BYTES)
        except zlib.error:
            continue
    return b""

"""HTTP framing for answers that aiohttp could not finish: what their bytes and headers say.

aiohttp gives up a torn answer and drops what it had of it, although the one live token may be in
there; these pure functions read such bytes as far as they make sense. They never raise, and must
not know sockets or what a body means.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final

from sidecar.domain.bounds import bounded_wait_s

ANSWER_LIMIT_BYTES: Final = 1 << 20
"""No token answer is nearly as long; what exceeds it is cut off."""

_STATUS_LINE: Final = re.compile(rb"HTTP/\d\.\d ([1-9]\d\d)[ \r]")
_CHUNK_SIZE: Final = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?")
_SECONDS: Final = re.compile(r"[0-9]+", re.ASCII)
_ZIPPED: Final = frozenset({"gzip", "x-gzip", "deflate"})
_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS
_INTERIM: Final = range(100, 200)


@dataclass(frozen=True, slots=True, kw_only=True)
class TornAnswer:
    """What could be read of an answer that broke off or was garbled.

    Attributes:
        status: ``None`` where not even the status line is whole.
        body: Unframed and unpacked as far as it goes.
    """

    status: int | None = None
    body: bytes = field(default=b"", repr=False)


def read_torn(arrived: bytes) -> TornAnswer:
    """Return what the bytes of a connection say, wherever they end."""
    status: int | None = None
    while True:
        head, end, rest = arrived.partition(b"\r\n\r\n")
        status_line = _STATUS_LINE.match(head + b"\r" if end else head)
        status = int(status_line[1]) if status_line is not None else None
        if not end or status is None:
            return TornAnswer(status=None if status in _INTERIM else status)
        if status not in _INTERIM:
            break
        arrived = rest
    headers = _headers(head)
    is_chunked = "chunked" in headers.get("transfer-encoding", "").lower()
    body = _unchunked(rest) if is_chunked else rest
    return TornAnswer(status=status, body=unpacked(body, headers.get("content-encoding", "")))


def unpacked(body: bytes, content_encoding: str) -> bytes:
    """Return the body without the compression that nobody asked for, as far as it can be undone.

    It is at most `ANSWER_LIMIT_BYTES` long, and `body` itself where the compression is unknown.
    """
    if content_encoding.strip().lower() not in _ZIPPED:
        return body[:ANSWER_LIMIT_BYTES]
    try:
        return zlib.decompressobj(_GZIP_OR_ZLIB).decompress(body, ANSWER_LIMIT_BYTES)
    except zlib.error:
        return body[:ANSWER_LIMIT_BYTES]


def media_type(headers: Mapping[str, str]) -> str:
    """Return the media type without parameters, lower case, or ``""``."""
    return headers.get("Content-Type", "").partition(";")[0].strip().lower()


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return what ``Retry-After`` asks for in seconds, `LONGEST_WAIT_S` at most, or ``None``.

    A date is measured against the answer's own ``Date``, so that no clock of ours is believed.
    """
    asked = headers.get("Retry-After", "").strip()
    if _SECONDS.fullmatch(asked):
        return bounded_wait_s(float(asked))
    until, answered_at = _instant(asked), _instant(headers.get("Date", ""))
    if until is None or answered_at is None:
        return None
    return bounded_wait_s((until - answered_at).total_seconds())


def date_s(headers: Mapping[str, str]) -> int:
    """Return the answer's own ``Date`` in seconds since the epoch; 0 where it has none."""
    answered_at = _instant(headers.get("Date", ""))
    return 0 if answered_at is None else int(answered_at.timestamp())


def _instant(text: str) -> datetime | None:
    try:
        instant = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return instant if instant.tzinfo is not None else None


def _headers(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _unchunked(framed: bytes) -> bytes:
    """Return the chunks' content; from a garbled chunk on, the bytes as they are."""
    body = bytearray()
    position = 0
    while True:
        line_end = framed.find(b"\r\n", position)
        if line_end < 0:
            return bytes(body)
        size = _CHUNK_SIZE.fullmatch(framed, position, line_end)
        if size is None:
            return bytes(body + framed[position:])
        length = int(size[1], 16)
        if length == 0:
            return bytes(body)
        body += framed[line_end + 2 : line_end + 2 + length]
        position = line_end + 2 + length + 2

"""What the headers of an answer say of its body, and of when to ask again.

Pure functions that never raise. They must not know sockets, where a body ends, or what it means.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final

from sidecar.domain.bounds import bounded_wait_s

ANSWER_LIMIT_BYTES: Final = 1 << 20
"""No token answer is nearly as long; what exceeds it is cut off."""

_SECONDS: Final = re.compile(r"[0-9]+", re.ASCII)
_ZIPPED: Final = frozenset({"gzip", "x-gzip", "deflate"})
_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS


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

"""Cursors of pages as clients see them: opaque, and known again when they come back.

A store may take a cursor that it never gave for "from the start", so a mangled one is refused here
and never reaches it. The check sum finds mistakes; it is no secret. Does not know what is paged.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from enum import StrEnum


class CursorKind(StrEnum):
    """What a cursor goes through; one kind is never taken for the other."""

    GRANTS = "grants"
    EVENTS = "events"


def to_opaque(kind: CursorKind, inner: str) -> str:
    """Return what a client is given for a store's cursor; ``""`` stays ``""``."""
    if not inner:
        return ""
    return base64.urlsafe_b64encode(_summed(kind, inner)).rstrip(b"=").decode()


def parse_cursor(kind: CursorKind, text: str) -> str | None:
    """Return the store's cursor, or ``None`` where `text` is no cursor of this kind."""
    if not text:
        return ""
    try:
        decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        inner = decoded[_SUM_BYTES:].decode("ascii")
    except (binascii.Error, ValueError):
        return None
    # Compared as text: base64 has several spellings of the same bytes.
    return inner if inner and to_opaque(kind, inner) == text else None


_SUM_BYTES = 4


def _summed(kind: CursorKind, inner: str) -> bytes:
    checked = inner.encode("ascii")
    return zlib.crc32(kind.value.encode() + checked).to_bytes(_SUM_BYTES, "big") + checked

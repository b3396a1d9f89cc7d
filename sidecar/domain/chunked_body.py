"""A chunked request body, read strictly and written again in the plainest form.

What comes out holds each chunk's data and nothing of its sender's framing: no extensions, no
leading zeros, no trailers. So the parser behind it cannot read it in another way (RFC 9112 section
7.1). It does not know what is in a body or where it goes.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Final, final

from sidecar.domain.request_head import CRLF, HEAD_END, MOST_BYTES, are_fields, may_go_on

LINE_MAX_BYTES: Final = 256
EXTENSIONS_MAX_BYTES: Final = 4096
TRAILERS_MAX_BYTES: Final = 4096
PARTS_AT_ONCE: Final = 512
"""A segment of tiny chunks must not hold the event loop up: the rest of it is for the next turn."""

_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})([ \t]*;[^\x00-\x08\x0a-\x1f\x7f]*)?")
_SIZE_START: Final = re.compile(rb"[0-9A-Fa-f]{0,16}[ \t]*(;[^\x00-\x08\x0a-\x1f\x7f]*)?")
_LAST_CHUNK: Final = b"0\r\n\r\n"


class _Part(Enum):
    """What comes next."""

    SIZE = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILERS = auto()


@final
class ChunkedBody:
    """One chunked body.

    Attributes:
        is_whole: Whether its end was read, trailers included.
        is_broken: Whether it can be read in more than one way, or in none.
    """

    __slots__ = (
        "_buffer",
        "_extension_bytes",
        "_left",
        "_out",
        "_part",
        "_total",
        "is_broken",
        "is_whole",
    )

    def __init__(self) -> None:
        self.is_whole = False
        self.is_broken = False
        self._part = _Part.SIZE
        self._left = 0
        self._total = 0
        self._extension_bytes = 0
        self._buffer = b""
        self._out: list[bytes] = []

    def feed(self, data: bytes, at: int) -> tuple[bytes, int]:
        """Take `data` from `at` on; return the body in the plain form, and where it stopped.

        What follows from there is behind the body, or, if that isn't whole, for the next call.
        """
        kept = len(self._buffer)
        if kept:
            data, at, kept = self._buffer + data[at:], 0, kept - at
            self._buffer = b""
        for _ in range(PARTS_AT_ONCE):
            end = self._take_part(data, at)
            if end is None:
                # The start of a part: kept, since it is short, until the rest of it comes.
                self._buffer = data[at:]
                at = len(data)
                break
            at = end
            if self.is_whole:
                break
        out = b"".join(self._out)
        self._out.clear()
        return out, at - kept

    def _take_part(self, data: bytes, at: int) -> int | None:
        """Take what is next from `at` on; return where it ends, ``None`` if it is not all there."""
        match self._part:
            case _Part.SIZE:
                return self._take_size(data, at)
            case _Part.DATA:
                return self._take_data(data, at)
            case _Part.DATA_END:
                return self._take_data_end(data, at)
            case _Part.TRAILERS:
                return self._take_trailers(data, at)

    def _take_size(self, data: bytes, at: int) -> int | None:
        end = data.find(CRLF, at, at + LINE_MAX_BYTES)
        if end < 0:
            start = data[at : at + LINE_MAX_BYTES].removesuffix(b"\r")
            is_started = len(start) < LINE_MAX_BYTES - 1 and _SIZE_START.fullmatch(start)
            return None if is_started else self._break()
        read = _SIZE_LINE.fullmatch(data, at, end)
        if read is None:
            return self._break()
        self._left = int(read[1], 16)
        self._total += self._left
        self._extension_bytes += len(read[2] or b"")
        if self._total > MOST_BYTES or self._extension_bytes > EXTENSIONS_MAX_BYTES:
            return self._break()
        self._part = _Part.DATA if self._left else _Part.TRAILERS
        return end + len(CRLF)

    def _take_data(self, data: bytes, at: int) -> int | None:
        piece = data[at : at + self._left]
        if not piece:
            return None
        self._out.append(b"%x\r\n%b\r\n" % (len(piece), piece))
        self._left -= len(piece)
        if not self._left:
            self._part = _Part.DATA_END
        return at + len(piece)

    def _take_data_end(self, data: bytes, at: int) -> int | None:
        end = data[at : at + len(CRLF)]
        if end == CRLF:
            self._part = _Part.SIZE
            return at + len(CRLF)
        return None if CRLF.startswith(end) else self._break()

    def _take_trailers(self, data: bytes, at: int) -> int | None:
        if data.startswith(CRLF, at):
            end = at
        else:
            end = data.find(HEAD_END, at, at + TRAILERS_MAX_BYTES)
            if end < 0:
                is_started = len(data) - at < TRAILERS_MAX_BYTES and may_go_on(data[at:])
                return None if is_started else self._break()
            end += len(CRLF)
            if not are_fields(data[at:end]):
                return self._break()
        self._out.append(_LAST_CHUNK)
        self.is_whole = True
        return end + len(CRLF)

    def _break(self) -> int | None:
        self.is_broken = True
        return None

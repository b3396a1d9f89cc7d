"""Takes a chunked body out of its framing, as its octets come in.

RFC 9112 section 7.1, read strictly: a line that could be cut in two ways ends the body as
malformed, and what is not body is bounded. Chunk extensions and trailers are dropped. It must not
know sockets.
"""

from __future__ import annotations

import re
from typing import Final, final

from sidecar.domain.answer_heads import FIELD_LINE, LONGEST_BODY_BYTES

LINE_LIMIT_BYTES: Final = 1024
"""A chunk's size with its leading zeros and extensions."""

TRAILERS_LIMIT_BYTES: Final = 8192

_SIZE: Final = rb"([0-9A-Fa-f]{1,256}+)[\t ]*+(?:;[\t\x20-\x7e\x80-\xff]*+)?\r\n"
_FIRST_LINE: Final = re.compile(_SIZE)
_NEXT_LINE: Final = re.compile(rb"\r\n" + _SIZE)
_TRAILERS: Final = re.compile(rb"(?:" + FIELD_LINE + rb")*+\r\n")
_LINE_END: Final = b"\r\n"


@final
class ChunkedBody:
    """One chunked body.

    Attributes:
        is_whole: Its end was read.
        is_malformed: It has no end, or more than one; nothing more is taken.
        has_surplus: More came than the body.
    """

    __slots__ = ("_is_begun", "_kept", "_remaining", "has_surplus", "is_malformed", "is_whole")

    def __init__(self) -> None:
        self._kept = b""
        self._remaining: int | None = 0
        self._is_begun = False
        self.is_whole = False
        self.is_malformed = False
        self.has_surplus = False

    def take(self, data: bytes) -> bytes:
        """Return the content in `data`, the next octets of the body."""
        if self._kept:
            data, self._kept = self._kept + data, b""
        pieces: list[bytes] = []
        position = 0
        while position < len(data) and not (self.is_whole or self.is_malformed):
            if self._remaining is None:
                position = self._read_trailers(data, position)
            elif self._remaining == 0:
                position = self._read_line(data, position)
            else:
                end = min(len(data), position + self._remaining)
                pieces.append(data[position:end])
                self._remaining -= end - position
                position = end
        self.has_surplus = self.has_surplus or (self.is_whole and position < len(data))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _read_line(self, data: bytes, position: int) -> int:
        """Read the line before a chunk, and before it the end of the last chunk's content."""
        found = (_NEXT_LINE if self._is_begun else _FIRST_LINE).match(data, position)
        if found is not None and found.end() - position <= LINE_LIMIT_BYTES:
            size = int(found[1], 16)
            self.is_malformed = size > LONGEST_BODY_BYTES
            self._remaining = size or None
            self._is_begun = True
            return found.end()
        rest = data[position : position + LINE_LIMIT_BYTES + 1]
        prefix = rest[:2] if self._is_begun else b""
        self.is_malformed = (
            len(rest) > LINE_LIMIT_BYTES
            or not _LINE_END.startswith(prefix)
            or b"\n" in rest[len(prefix) :]
        )
        self._kept = rest
        return len(data)

    def _read_trailers(self, data: bytes, position: int) -> int:
        found = _TRAILERS.match(data, position)
        if found is not None and found.end() - position <= TRAILERS_LIMIT_BYTES:
            self.is_whole = True
            return found.end()
        rest = data[position : position + TRAILERS_LIMIT_BYTES + 1]
        self.is_malformed = len(rest) > TRAILERS_LIMIT_BYTES or not _may_become_trailers(rest)
        self._kept = rest
        return len(data)


def _may_become_trailers(rest: bytes) -> bool:
    """Whether the lines of `rest` that are whole are fields; the last one may still grow."""
    lines, _, _ = rest.rpartition(b"\n")
    return not lines or _TRAILERS.fullmatch(lines + b"\n\r\n") is not None

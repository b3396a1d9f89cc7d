"""Where one request of a connection ends and the next begins: bytes in, pieces for a parser out.

It stands in front of the parser, which sees whole heads only, and bodies only as they are framed
here. It counts what an unfinished head holds, so that no client can make it hold more. It never
sees a socket or a clock.

| phase | what comes | goes to |
| --- | --- | --- |
| `BETWEEN` | the first byte of a head | `HEAD`; with a whole head on to `BODY` or again `BETWEEN` |
| `HEAD` | the end of the head | `BODY` or `BETWEEN` |
| `BODY` | its last byte, trailers included | `BETWEEN` |
| any | what hops could read in two ways | `ENDED`, with `fault` |
| any | the end of a head after which no request can follow | `ENDED`, without |
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final, final

from sidecar.domain.chunked_body import ChunkedBody
from sidecar.domain.request_head import (
    CRLF,
    HEAD_END,
    HeadFault,
    may_begin,
    may_go_on,
    read_head,
)

BLANK_LINES_MAX: Final = 8
"""Some clients send one after a body (RFC 9112 section 2.2)."""


class Phase(Enum):
    """Where in the stream of requests the next byte stands."""

    BETWEEN = auto()
    HEAD = auto()
    BODY = auto()
    ENDED = auto()


@final
class RequestFramer:
    """The framing of one connection.

    Attributes:
        phase: Where the next byte stands.
        fault: Why the connection cannot go on, or ``None``.
    """

    __slots__ = (
        "_blank_lines",
        "_buffer",
        "_chunks",
        "_left",
        "_most_head_bytes",
        "fault",
        "phase",
    )

    def __init__(self, *, most_head_bytes: int) -> None:
        """Allow heads of up to `most_head_bytes`, all line ends included."""
        self.phase = Phase.BETWEEN
        self.fault: HeadFault | None = None
        self._most_head_bytes = most_head_bytes
        self._buffer = bytearray()
        self._blank_lines = 0
        self._left = 0
        self._chunks: ChunkedBody | None = None

    @property
    def held_bytes(self) -> int:
        """What is kept of a head that is not whole."""
        return len(self._buffer)

    def feed(self, data: bytes, at: int = 0) -> tuple[bytes, int]:
        """Take `data` from `at` on; return what the parser may have of it, and where it stopped.

        A head goes on only when it is whole, with as much of its body as is here. Nothing of the
        next request goes on with it: what follows from where it stopped is for the next call.
        """
        if self.phase is Phase.BODY:
            return self._feed_body(data, at)
        if self.phase is Phase.ENDED:
            return b"", len(data)
        return self._feed_request(data, at)

    def _feed_request(self, data: bytes, at: int) -> tuple[bytes, int]:
        head, end = self._go_on(data, at) if self._buffer else self._feed_head(data, at)
        if self.phase is not Phase.BODY or end == len(data):
            return head, end
        body, end = self._feed_body(data, end)
        return head + body, end

    def _feed_head(self, data: bytes, at: int) -> tuple[bytes, int]:
        while data.startswith(CRLF, at):
            at += len(CRLF)
            self._blank_lines += 1
        end = data.find(HEAD_END, at) + len(HEAD_END)
        if end >= len(HEAD_END):
            # A whole head in one segment, and nothing else: the usual case copies nothing.
            return self._begin(data[at:end]), end
        if len(data) - at > self._most_head_bytes:
            return self._fail(HeadFault.TOO_LARGE), end
        started = data[at:]
        if self._blank_lines > BLANK_LINES_MAX or not (
            started in (b"", b"\r") or may_begin(started)
        ):
            return self._fail(HeadFault.MALFORMED), end
        self._buffer += started
        self.phase = Phase.HEAD if started else Phase.BETWEEN
        return b"", len(data)

    def _go_on(self, data: bytes, at: int) -> tuple[bytes, int]:
        """Go on with a head of which a part is here."""
        buffer = self._buffer
        if bytes(buffer) == b"\r":
            # Half a blank line, or no head at all.
            buffer.clear()
            head, end = self._feed_head(b"\r" + data[at:], 0)
            return head, at + end - 1
        before = len(buffer)
        buffer += data[at : at + self._most_head_bytes + 1 - before]
        end = buffer.find(HEAD_END, max(0, before - len(HEAD_END) + 1)) + len(HEAD_END)
        if end >= len(HEAD_END):
            head = bytes(buffer[:end])
            buffer.clear()
            return self._begin(head), at + end - before
        if len(buffer) > self._most_head_bytes:
            return self._fail(HeadFault.TOO_LARGE), len(data)
        # A return that came last is looked at again, with what came behind it.
        seen = before - buffer.startswith(b"\r", before - 1)
        if not may_go_on(bytes(buffer[seen:])):
            return self._fail(HeadFault.MALFORMED), len(data)
        return b"", len(data)

    def _begin(self, data: bytes) -> bytes:
        """Read a whole head and get ready for what follows it; return what the parser may have."""
        if len(data) > self._most_head_bytes:
            return self._fail(HeadFault.TOO_LARGE)
        if self._blank_lines > BLANK_LINES_MAX:
            return self._fail(HeadFault.MALFORMED)
        head = read_head(data)
        if isinstance(head, HeadFault):
            return self._fail(head)
        self._blank_lines = 0
        self._left = head.length
        self._chunks = ChunkedBody() if head.is_chunked else None
        if head.is_last:
            self.phase = Phase.ENDED
        elif head.is_chunked or head.length:
            self.phase = Phase.BODY
        else:
            self.phase = Phase.BETWEEN
        return head.data

    def _feed_body(self, data: bytes, at: int) -> tuple[bytes, int]:
        if self._chunks is not None:
            return self._feed_chunks(self._chunks, data, at)
        end = min(len(data), at + self._left)
        self._left -= end - at
        if not self._left:
            self.phase = Phase.BETWEEN
        return data[at:end], end

    def _feed_chunks(self, chunks: ChunkedBody, data: bytes, at: int) -> tuple[bytes, int]:
        piece, end = chunks.feed(data, at)
        if chunks.is_broken:
            self._fail(HeadFault.CHUNK)
        elif chunks.is_whole:
            self.phase = Phase.BETWEEN
        return piece, end

    def _fail(self, fault: HeadFault) -> bytes:
        self.fault = fault
        self.phase = Phase.ENDED
        self._buffer.clear()
        return b""

"""Reads one answer of the token service from raw bytes, whatever its framing says.

A library's parser refuses an answer as a whole if one line of it is wrong, and drops what it had of
it, although the only live token may be in there. This reader takes what comes: it finds the head,
undoes the framing as far as it makes sense, and says whether the answer is whole. Three things make
an answer whole: its framing, the end of a connection that was to end it, or a body that begins with
a complete JSON object, since no part of an object is one.

It must not know sockets, nor what a body means.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, final

from sidecar.adapters.answer_framing import (
    ANSWER_LIMIT_BYTES,
    date_s,
    media_type,
    retry_after_s,
    unpacked,
)
from sidecar.domain.answer_reading import begins_an_object, leading_object
from sidecar.domain.wire import Answered, Broken

HEAD_ROOM_BYTES: Final = 1 << 18
"""What status lines, headers and chunk framing may add to an answer."""

_HEAD_END: Final = re.compile(rb"\r?\n\r?\n")
_HEAD_END_BYTES: Final = 4
_PROTOCOL: Final = b"HTTP/"
_STATUS_LINE: Final = re.compile(rb"(?i)\s*HTTP/\d(?:\.\d)?[ \t]+([1-9]\d\d)(?=[ \t\r\n])")
_CHUNK_SIZE: Final = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,32})[ \t]*(?:;[^\r\n]*)?\r?")
_CHUNK_LINE_LIMIT_BYTES: Final = 4096
_LENGTH: Final = re.compile(r"[0-9]+", re.ASCII)
_INTERIM: Final = range(100, 200)
_SUCCESS: Final = range(200, 300)
_SWITCHED: Final = 101
_BODILESS: Final = frozenset({_SWITCHED, 204, 304})
_LOOKS: Final = 16
"""How often a body without a known end is searched for a complete object; each look costs as much
as the body is long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    """A final head.

    Attributes:
        status: ``None`` where the status line is garbled.
        headers: By names such as ``Content-Type``.
        length: What the body's length is said to be, if that can be believed.
    """

    status: int | None
    headers: dict[str, str]
    length: int | None
    is_chunked: bool


@final
class AnswerReader:
    """Takes the bytes of one connection as they come.

    Attributes:
        arrived: A bounded beginning of them.
    """

    def __init__(self) -> None:
        self.arrived = bytearray()
        self._head_at = 0
        self._head: _Head | None = None
        self._body_at = 0
        self._chunks = _Chunks()
        self._looks_left = _LOOKS

    def feed(self, data: bytes) -> bool:
        """Take bytes in; return whether nothing more is needed, or nothing more is kept."""
        room = ANSWER_LIMIT_BYTES + HEAD_ROOM_BYTES - len(self.arrived)
        searched = max(self._head_at, len(self.arrived) - _HEAD_END_BYTES)
        self.arrived += data[:room]
        while self._head is None and self._find_head(searched):
            searched = self._head_at
        is_whole = self._is_framed_whole() and not self._is_cut_by_its_framing()
        is_whole = is_whole or self._has_its_object()
        return is_whole or self._is_no_answer() or self._is_too_long()

    def reply(self, *, is_ended: bool) -> Answered | Broken:
        """Return what the bytes say.

        Args:
            is_ended: Whether the peer ended its side in the proper way after them.
        """
        head = self._head
        if head is None:
            return self._headless()
        body, is_whole = self._body(head, is_ended=is_ended)
        if head.status is None or not is_whole or self._is_too_long():
            return Broken(status=head.status, body=body)
        return Answered(
            status=head.status,
            body=body,
            content_type=media_type(head.headers),
            retry_after_s=retry_after_s(head.headers),
            date_s=date_s(head.headers),
        )

    def _find_head(self, searched: int) -> bool:
        """Take the next head in; return whether it was an interim one, so that another follows."""
        end = _HEAD_END.search(self.arrived, searched)
        if end is None:
            return False
        head = bytes(self.arrived[self._head_at : end.end()])
        if head.strip() == b"":  # empty lines before a status line (RFC 9112 section 2.2)
            self._head_at = end.end()
            return True
        status_line = _STATUS_LINE.match(head)
        status = int(status_line[1]) if status_line is not None else None
        if status is None and not head.lstrip().upper().startswith(_PROTOCOL):
            return False
        is_interim = status in _INTERIM and (
            status != _SWITCHED or self.arrived.startswith(_PROTOCOL, end.end())
        )
        if is_interim:
            self._head_at = end.end()
            return True
        self._head = _read_head(status, head)
        self._body_at = end.end()
        return False

    def _is_framed_whole(self) -> bool:
        head = self._head
        if head is None:
            return False
        if head.status in _BODILESS:
            return True
        if head.is_chunked:
            self._chunks.read(self.arrived, self._body_at)
            return self._chunks.is_over
        return head.length is not None and len(self.arrived) >= self._body_at + head.length

    def _is_cut_by_its_framing(self) -> bool:
        """Whether a success ends, by its framing, within an object: the rest is waited for.

        A length that is too short must not cut off the only successor of a spent token.
        """
        head = self._head
        if head is None or head.status not in _SUCCESS or not self._looks_left:
            return False
        body, surplus = self._unframed(head)
        if not begins_an_object(body):
            return False
        self._looks_left -= 1
        return leading_object(body) is None and leading_object(body + surplus) is None

    def _is_no_answer(self) -> bool:
        """Whether no head can come: this is not HTTP, nor an object without a head (HTTP/0.9)."""
        if self._head is not None:
            return False
        begun = (
            bytes(self.arrived[self._head_at : self._head_at + 64])
            .lstrip()[: len(_PROTOCOL)]
            .upper()
        )
        return not (_PROTOCOL.startswith(begun) or begins_an_object(begun))

    def _has_its_object(self) -> bool:
        """Whether a body whose end only the connection's end would tell is a complete object."""
        head = self._head
        is_open_ended = head is None or (head.length is None and not head.is_chunked)
        if not (is_open_ended and self._looks_left and self.arrived[-8:].rstrip().endswith(b"}")):
            return False
        self._looks_left -= 1
        body_at = self._head_at if head is None else self._body_at
        return leading_object(bytes(self.arrived[body_at:])) is not None

    def _is_too_long(self) -> bool:
        if self._head is None:
            waiting_bytes = len(self.arrived) - self._head_at
            return max(self._head_at, waiting_bytes) > HEAD_ROOM_BYTES
        body_bytes = len(self.arrived) - self._body_at
        if self._head.is_chunked:
            body_bytes = max(len(self._chunks.body), body_bytes - HEAD_ROOM_BYTES)
        return body_bytes > ANSWER_LIMIT_BYTES

    def _headless(self) -> Broken:
        """Return what can be said of bytes without a final head that is whole."""
        waiting = bytes(self.arrived[self._head_at :])
        status_line = _STATUS_LINE.match(waiting)
        if status_line is not None:
            status = int(status_line[1])
            return Broken(status=None if status in _INTERIM else status)
        if begins_an_object(waiting):  # no head at all (HTTP/0.9)
            return Broken(body=waiting[:ANSWER_LIMIT_BYTES])
        return Broken()

    def _body(self, head: _Head, *, is_ended: bool) -> tuple[bytes, bool]:
        """Return the unframed body, and whether it is whole."""
        is_framed_whole = self._is_framed_whole()
        framed, surplus = self._unframed(head)
        body = _unzipped(head, framed)
        found = leading_object(body)
        if found is None and surplus:  # the framing lies: a token beyond it is as good as any
            body = _unzipped(head, framed + surplus)
            found = leading_object(body)
        if found is not None:
            return body if is_framed_whole else found, True
        is_open_ended = head.length is None and not head.is_chunked
        is_torn = begins_an_object(body)
        return body, is_framed_whole or (is_open_ended and is_ended and not is_torn)

    def _unframed(self, head: _Head) -> tuple[bytes, bytes]:
        """Return the body by its framing, and what came besides it."""
        rest = bytes(self.arrived[self._body_at :])
        if head.is_chunked:
            return self._unchunked(rest)
        if head.status in _BODILESS:
            return b"", rest
        if head.length is None:
            return rest, b""
        return rest[: head.length], rest[head.length :]

    def _unchunked(self, rest: bytes) -> tuple[bytes, bytes]:
        chunks = self._chunks
        chunks.read(self.arrived, self._body_at)
        body, beyond = bytes(chunks.body), bytes(self.arrived[chunks.end :])
        if chunks.is_garbled:
            return body + beyond, b""
        if not body and begins_an_object(rest):  # there are no chunks, whatever the head says
            return rest, b""
        return body, beyond if chunks.is_over else b""


@final
class _Chunks:
    """How far a chunked body was read.

    Attributes:
        body: The chunks' content so far.
        end: Where in the bytes it stopped.
        is_over: The last chunk and the end of the trailers were there.
        is_garbled: At `end` is what no chunk begins with.
    """

    def __init__(self) -> None:
        self.body = bytearray()
        self.end = 0
        self.is_over = False
        self.is_garbled = False
        self._left = 0
        self._is_after_chunk = False
        self._is_in_trailers = False

    def read(self, arrived: bytearray, start: int) -> None:
        """Go on where it stopped; the chunks begin at `start`."""
        self.end = max(self.end, start)
        while not (self.is_over or self.is_garbled):
            if self._left:
                piece = arrived[self.end : self.end + self._left]
                self.body += piece
                self.end += len(piece)
                self._left -= len(piece)
                if self._left:
                    return
                self._is_after_chunk = True
            line_end = arrived.find(b"\n", self.end)
            if line_end < 0:
                self.is_garbled = len(arrived) - self.end > _CHUNK_LINE_LIMIT_BYTES
                return
            self._read_line(bytes(arrived[self.end : line_end]), line_end + 1)

    def _read_line(self, line: bytes, next_at: int) -> None:
        is_empty = line in (b"", b"\r")
        if self._is_in_trailers:
            self.is_over = is_empty
        elif self._is_after_chunk and is_empty:
            self._is_after_chunk = False
        else:
            size = _CHUNK_SIZE.fullmatch(line)
            if size is None:
                self.is_garbled = True
                return
            self._is_after_chunk = False
            self._left = int(size[1], 16)
            self._is_in_trailers = self._left == 0
        self.end = next_at


def _read_head(status: int | None, head: bytes) -> _Head:
    fields: list[tuple[str, str]] = []
    for line in head.decode("latin-1").split("\n")[1:]:
        if line[:1] in (" ", "\t") and fields:  # goes on with the line before it (obs-fold)
            name, value = fields.pop()
            fields.append((name, f"{value} {line.strip()}".strip()))
        else:
            name, _, value = line.partition(":")
            fields.append((name.strip().title(), value.strip()))
    headers = dict(fields)
    lengths = [value for name, value in fields if name == "Content-Length"]
    return _Head(
        status=status,
        headers=headers,
        length=_believable({length.strip() for told in lengths for length in told.split(",")}),
        is_chunked="chunked" in _codings(headers.get("Transfer-Encoding", "")),
    )


def _codings(told: str) -> list[str]:
    return [coding.strip().lower() for coding in told.split(",")]


def _believable(lengths: set[str]) -> int | None:
    """Return the one length that is named, unless no answer may be as long."""
    if len(lengths) != 1:
        return None
    (told,) = lengths
    if not _LENGTH.fullmatch(told) or len(told.lstrip("0")) > len(str(ANSWER_LIMIT_BYTES)):
        return None
    return int(told)


def _unzipped(head: _Head, body: bytes) -> bytes:
    for coding in _codings(head.headers.get("Transfer-Encoding", "")):
        body = unpacked(body, coding)
    return unpacked(body, head.headers.get("Content-Encoding", ""))


def read_torn(arrived: bytes) -> Answered | Broken:
    """Return what the bytes of a connection say, wherever they end."""
    reader = AnswerReader()
    reader.feed(arrived)
    return reader.reply(is_ended=False)

"""What the client gets: an answer passed on byte for byte, or a problem of our own.

It frames and writes on the client's connection with back-pressure, and aborts it where a body
breaks, so that nobody takes a part for the whole. It does not know why an answer is what it is.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Sequence
from enum import Enum, auto
from typing import Final, final

from aiohttp import web

from sidecar.domain.answer_heads import Framing
from sidecar.domain.forwarding import AnswerHead, RawHeader
from sidecar.domain.upstream_failures import UpstreamCause
from sidecar.http.answer_body import AnswerBody, AnswerBroken
from sidecar.http.problems import Problem
from sidecar.ports import Clock

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_HTTP_11: Final = (1, 1)
_NO_LINGER: Final = struct.pack("ii", 1, 0)


class Passage(Enum):
    """How far an answer came."""

    WHOLE = auto()
    UPSTREAM_BROKE = auto()
    CLIENT_STALLED = auto()


@final
class Ended(web.StreamResponse):
    """Tells aiohttp that the answer is written already, and whether the connection may go on."""

    def __init__(self, *, keep_alive: bool) -> None:
        super().__init__()
        self._keep_alive = keep_alive

    async def prepare(self, request: web.BaseRequest) -> None:
        """Write nothing."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Write nothing."""


@final
class Reply:
    """The one answer to one request.

    Attributes:
        is_kept_alive: Whether the connection may carry another request; told to the client.
        sent_bytes: Of the body.
        stalled_s: Time spent waiting for the client to read.
        has_begun: Whether anything of the final answer was written.
        broken_by: Why the upstream's body is not whole, or ``None``.
    """

    __slots__ = (
        "_clock",
        "_request",
        "_silence_s",
        "_transport",
        "broken_by",
        "has_begun",
        "is_kept_alive",
        "sent_bytes",
        "stalled_s",
    )

    def __init__(self, *, request: web.BaseRequest, clock: Clock, silence_s: float) -> None:
        self._request = request
        self._transport = request.transport
        self._clock = clock
        self._silence_s = silence_s
        self.is_kept_alive = request.keep_alive
        self.has_begun = False
        self.broken_by: UpstreamCause | None = None
        self.sent_bytes = 0
        self.stalled_s = 0.0

    def send_continue(self) -> None:
        """Ask the client for its body."""
        self._write(CONTINUE)
        self.has_begun = False

    def send_problem(self, problem: Problem) -> None:
        """Write an answer of our own."""
        self._write(
            render_problem(
                problem,
                is_kept_alive=self._may_go_on(),
                is_head=self._request.method == "HEAD",
            )
        )

    def abort(self) -> None:
        """Break the connection: the client must not take what it has for all there is."""
        self.is_kept_alive = False
        if self._transport is None:
            return
        # Closed as usual, the kernel would end the stream cleanly, and a body without framing
        # would look whole; told not to linger, it resets the connection.
        connection: socket.socket | None = self._transport.get_extra_info("socket")
        if connection is not None and connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._transport.abort()

    async def send_answer(
        self,
        head: AnswerHead,
        *,
        status_line: bytes,
        framing: Framing,
        start: bytes,
        body: AnswerBody,
    ) -> Passage:
        """Pass an answer on: `head`, then `start` (read ahead), then the rest of `body`.

        A body that ends with its connection is never put into chunks: their end would claim that
        it is whole, which the end of a connection does not tell.
        """
        is_chunked = framing is Framing.CHUNKED and self._request.version >= _HTTP_11
        if framing in {Framing.CHUNKED, Framing.CLOSE}:
            self.is_kept_alive = self.is_kept_alive and is_chunked
        framed_by = b"Transfer-Encoding: chunked\r\n" if is_chunked else b""
        opening = _render_head(status_line, head.forwarded, end=framed_by + self._connection_line())
        if framing is Framing.NONE:
            self._write(opening)
            return Passage.WHOLE
        try:
            return await self._stream(opening, start=start, body=body, is_chunked=is_chunked)
        except AnswerBroken as broken:
            self.broken_by = broken.cause
            return Passage.UPSTREAM_BROKE

    async def _stream(
        self, opening: bytes, *, start: bytes, body: AnswerBody, is_chunked: bool
    ) -> Passage:
        protocol = self._request.protocol
        # What is here already leaves in one write with the head.
        chunk = start or body.read_nowait()
        while True:
            self.sent_bytes += len(chunk)
            framed = b"%x\r\n%b\r\n" % (len(chunk), chunk) if is_chunked and chunk else chunk
            is_end = body.at_eof()
            if is_end and is_chunked:
                framed += b"0\r\n\r\n"
            self._write(opening + framed if opening else framed)
            opening = b""
            if is_end:
                return Passage.WHOLE
            if protocol.writing_paused and not await self._drain():
                return Passage.CLIENT_STALLED
            chunk = await body.readany()

    async def _drain(self) -> bool:
        """Wait until the client has read; return whether it did in time."""
        since_s = self._clock.elapsed_s()
        try:
            async with asyncio.timeout(self._silence_s):
                await self._request.writer.drain()
        except (TimeoutError, ConnectionError):
            return False
        finally:
            self.stalled_s += self._clock.elapsed_s() - since_s
        return True

    def _write(self, data: bytes) -> None:
        # A closing transport means that the client left; the handler is about to be cancelled.
        self.has_begun = True
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _may_go_on(self) -> bool:
        # A request that is not read to its end may not be followed by another one for sure.
        self.is_kept_alive = self.is_kept_alive and self._request.content.is_eof()
        return self.is_kept_alive

    def _connection_line(self) -> bytes:
        return connection_line(
            is_kept_alive=self._may_go_on(), is_current=self._request.version >= _HTTP_11
        )


def connection_line(*, is_kept_alive: bool, is_current: bool) -> bytes:
    """Return the ``Connection`` line that says what is not the default of the client's version."""
    if not is_kept_alive:
        return b"Connection: close\r\n"
    return b"" if is_current else b"Connection: keep-alive\r\n"


def render_problem(problem: Problem, *, is_kept_alive: bool, is_head: bool) -> bytes:
    """Return a problem as it goes over the wire."""
    body = problem.body()
    headers = [(name.encode(), value.encode()) for name, value in problem.headers()]
    headers.append((b"Content-Length", b"%d" % len(body)))
    status_line = f"HTTP/1.1 {problem.status} {problem.title}".encode()
    # HTTP/1.0 clients that asked to go on are told so; it is harmless to the others.
    end = b"Connection: keep-alive\r\n" if is_kept_alive else b"Connection: close\r\n"
    opening = _render_head(status_line, headers, end=end)
    return opening if is_head else opening + body


def _render_head(status_line: bytes, headers: Sequence[RawHeader], *, end: bytes) -> bytes:
    parts = [status_line, b"\r\n"]
    for name, value in headers:
        parts += (name, b": ", value, b"\r\n")
    parts += (end, b"\r\n")
    return b"".join(parts)

"""The clients' connections: our framing and our limits in front of aiohttp's parser.

The parser gets one request at a time, and whole heads only; what is no request, or what the parser
refuses all the same, is answered with a problem and ends the connection. aiohttp's own error pages
and tracebacks reach nobody. It does not know what a request is for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, cast, final

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import InvalidURLError
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader

from sidecar.domain.connection_table import ListenerName, PeerPatience, Stage
from sidecar.domain.request_framing import Phase, RequestFramer
from sidecar.domain.request_head import FIELDS_MAX, HeadFault
from sidecar.domain.tokens import ProblemReason
from sidecar.http.connection_keeper import ConnectionKeeper
from sidecar.http.problems import Problem
from sidecar.http.reply import Ended, render_problem
from sidecar.ports import Observer

_NO_END: Final = "the body has no end that all hops agree on"
_LINGER_S: Final = 2.0
_GRACE_S: Final = 0.5
"""For clients to take their answers after the drain; one that does not read must not hold it up."""

_PIPELINED_BYTES: Final = 65536
"""Of requests behind the one that is answered; then nothing more is read."""

_PROGRESS_BYTES: Final = 4096
"""A body of which so much came since it was last looked at is not a slow one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """What the connections of a listener may do.

    Attributes:
        keepalive_s: How long one may lie unused, the time before its first request included.
        max_header_bytes: Of a head, its request line and all line ends included.
        most: Connections at a time.
        patience: How long peers are waited for.
    """

    keepalive_s: float
    max_header_bytes: int
    most: int
    patience: PeerPatience = field(default_factory=PeerPatience)


Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@final
class ProxyServer(web.Server):
    """Makes the protocol object of each connection of a listener.

    Attributes:
        keeper: Keeps its connections few.
        limits: What they may do.
    """

    def __init__(  # noqa: PLR0913 - each is something else
        self,
        handler: Handler,
        *,
        listener: ListenerName,
        observer: Observer,
        refuse_malformed: Callable[[ProblemReason], Problem],
        report_fault: Callable[[BaseException], None],
        limits: ConnectionLimits,
    ) -> None:
        # A client that leaves cancels its request, and with it the exchange at the upstream.
        super().__init__(handler, handler_cancellation=True, request_factory=self._open_request)
        self.refuse_malformed = refuse_malformed
        self.report_fault = report_fault
        self.limits = limits
        self.keeper = ConnectionKeeper[ClientConnection](
            listener=listener,
            observer=observer,
            most=limits.most,
            patience=limits.patience,
            now_s=self._loop.time,
        )

    def __call__(self) -> ClientConnection:
        """Return the protocol of one new connection."""
        return ClientConnection(self, loop=self._loop, limits=self.limits)

    def _open_request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        cast("ClientConnection", protocol).begin(payload)
        return web.BaseRequest(message, payload, protocol, writer, task, self._loop)


@final
class ClientConnection(web.RequestHandler):
    """One connection of a client.

    Attributes:
        abandon: Ends it before it has a transport.
    """

    __slots__ = (
        "_body",
        "_framer",
        "_held",
        "_is_body_broken",
        "_is_body_paused",
        "_is_closing",
        "_is_gone",
        "_is_held_back",
        "_is_malformed",
        "_is_over",
        "_is_serving",
        "_keeper",
        "_noted",
        "_noted_bytes",
        "_progress_bytes",
        "_server",
        "_wire",
        "abandon",
    )

    def __init__(
        self, server: ProxyServer, *, loop: asyncio.AbstractEventLoop, limits: ConnectionLimits
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=limits.keepalive_s,
            access_log=None,  # type: ignore[arg-type]  # documented to switch it off
            max_line_size=limits.max_header_bytes,
            max_field_size=limits.max_header_bytes,
            max_headers=FIELDS_MAX,
            lingering_time=_LINGER_S,
            auto_decompress=False,
            read_bufsize=65536,
        )
        self._server = server
        self._keeper = server.keeper
        self._framer = RequestFramer(most_head_bytes=limits.max_header_bytes)
        self._wire: asyncio.Transport | None = None
        self._body: StreamReader | None = None
        self._held = b""
        self._noted: Stage | None = None
        self._noted_bytes = 0
        self._progress_bytes = 0
        self._is_serving = False
        self._is_closing = False
        self._is_gone = False
        self._is_over = False
        self._is_malformed = False
        self._is_body_broken = False
        self._is_body_paused = False
        self._is_held_back = False
        self.abandon: Callable[[], object] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        super().connection_made(transport)
        # aiohttp forgets its own when it closes it; one that is not flushed must still be ended.
        self._wire = cast("asyncio.Transport", transport)
        self.abandon = None
        self._note()

    def connection_lost(self, exc: BaseException | None) -> None:
        """End."""
        self._leave()
        super().connection_lost(exc)

    def drop(self) -> None:
        """Close it at once, with whatever is not flushed."""
        self._leave()
        if self._wire is not None:
            self._wire.abort()
        elif self.abandon is not None:
            self.abandon()

    def data_received(self, data: bytes) -> None:
        """Hand on what the framing lets pass; with ``b""`` aiohttp takes what its parser kept."""
        if not data:
            super().data_received(data)
        elif self._is_over:
            return
        elif self._held:
            self._hold(self._held + data)
        else:
            self._take(data)
        self._note()

    def pause_writing(self) -> None:
        """Wait for the client to read."""
        super().pause_writing()
        self._note()

    def resume_writing(self) -> None:
        """Go on: the client has read."""
        super().resume_writing()
        self._go_on()

    def pause_reading(self) -> None:
        """Read no more until the request's body has been taken."""
        self._is_body_paused = True
        super().pause_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002 - aiohttp's
        """Read again, unless too much is held already."""
        self._is_body_paused = False
        super().resume_reading(resume_parser)
        if self._is_held_back:
            self._pause_wire()

    def begin(self, body: StreamReader) -> None:
        """Note the body of the request that is answered from now on."""
        self._body = body
        if self._is_body_broken:
            body.set_exception(web.RequestPayloadError(_NO_END))

    def _take(self, data: bytes) -> None:
        framer, at = self._framer, 0
        while at < len(data):
            phase = framer.phase
            is_new = phase is not Phase.BODY
            if is_new and (self._is_serving or self.writing_paused):
                break
            piece, at = framer.feed(data, at)
            if piece:
                self._is_serving = self._is_serving or is_new
                super().data_received(piece)
            if framer.fault is not None:
                self._refuse(framer.fault)
                return
            if framer.phase is Phase.BODY:
                self._note_progress(len(piece))
                if at < len(data):
                    # Very many chunks: the rest of them after everybody else's turn.
                    self._loop.call_soon(self._go_on)
                    break
        if at < len(data) or self._noted_bytes or framer.held_bytes:
            self._hold(data[at:])

    def _hold(self, data: bytes) -> None:
        """Keep what is for later, within bounds."""
        self._held = data
        if len(data) > _PIPELINED_BYTES:
            self._is_held_back = True
            self._pause_wire()
        elif self._is_held_back:
            self._is_held_back = False
            if not self._is_body_paused and self._wire is not None:
                self._wire.resume_reading()
        held_bytes = len(data) + self._framer.held_bytes
        if held_bytes != self._noted_bytes:
            self._noted_bytes = held_bytes
            self._keeper.hold(self, held_bytes)

    def _go_on(self) -> None:
        """Go on with what was held."""
        if self._held and not self._is_over:
            data, self._held = self._held, b""
            self._take(data)
        self._note()

    def _pause_wire(self) -> None:
        if self._wire is not None and not self._wire.is_closing():
            self._wire.pause_reading()

    def _note_progress(self, taken_bytes: int) -> None:
        self._progress_bytes += taken_bytes
        if self._progress_bytes >= _PROGRESS_BYTES:
            self._progress_bytes = 0
            self._noted = None  # it enters its stage again

    def _note(self) -> None:
        stage = self._stage()
        if stage is not self._noted and not self._is_gone:
            self._noted = stage
            self._keeper.enter(self, stage)

    def _leave(self) -> None:
        self._is_over = self._is_gone = True
        self._held = b""
        self._keeper.leave(self)

    def _stage(self) -> Stage:
        if self._is_closing:
            return Stage.CLOSING
        if self.writing_paused:
            return Stage.STALLED
        phase = self._framer.phase
        if phase is Phase.BODY:
            return Stage.BODY
        if self._is_serving:
            return Stage.BUSY
        return Stage.HEAD if phase is Phase.HEAD else Stage.IDLE

    def _refuse(self, fault: HeadFault) -> None:
        """End the connection for what no request can be made of; say why if nobody else does."""
        self._is_over = True
        self._held = b""
        wire = self._wire
        if fault is HeadFault.CHUNK:
            self._is_body_broken = True
            if self._body is not None and self._is_serving:
                self._body.set_exception(web.RequestPayloadError(_NO_END))
            elif not self._is_serving:
                self.drop()  # it was answered before its body came
            return
        self._is_closing = True
        if wire is None or wire.is_closing():
            return
        reason = (
            ProblemReason.HEADERS_TOO_LARGE
            if fault is HeadFault.TOO_LARGE
            else ProblemReason.REQUEST_INVALID
        )
        self._send_problem(wire, reason)
        self._finish_writing()
        self._loop.call_later(_LINGER_S, wire.abort)

    def _send_problem(self, wire: asyncio.Transport, reason: ProblemReason) -> None:
        problem = self._server.refuse_malformed(reason)
        wire.write(render_problem(problem, is_kept_alive=False, is_head=False))

    def _finish_writing(self) -> None:
        # Closed at once, unread input would reset the connection, and overtake the answer.
        wire = self._wire
        if wire is not None and not wire.is_closing() and wire.can_write_eof():
            wire.write_eof()

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002 - aiohttp calls with all of them
        status: int = 500,  # noqa: ARG002
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002
    ) -> web.StreamResponse:
        """Answer what the parser refused: a problem, and the connection ends."""
        wire = self.transport
        if wire is not None and not wire.is_closing():
            is_path = isinstance(exc, InvalidURLError)
            self._send_problem(
                wire, ProblemReason.PATH_INVALID if is_path else ProblemReason.REQUEST_INVALID
            )
        # Nothing that follows is parsed: it could be anything.
        self.close()
        self._is_over = self._is_malformed = True
        return Ended(keep_alive=False)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """As aiohttp; then the next request, or time for the client to read why there is none."""
        finished = await super().finish_response(request, resp, start_time)
        self._is_serving = False
        self._body = None
        if self._is_malformed or self._is_body_broken or not finished[0].keep_alive:
            self._is_closing = True
        self._note()
        if self._is_malformed or self._is_body_broken:
            self._finish_writing()
            await asyncio.sleep(_LINGER_S)
            self.force_close()
        elif self._held and not self._is_closing:
            self._loop.call_soon(self._go_on)
        return finished

    def log_exception(self, *args: object, **kw: object) -> None:  # noqa: ARG002 - as aiohttp
        """Report a fault without its text, where aiohttp would log a traceback."""
        error = kw.get("exc_info")
        self._server.report_fault(error if isinstance(error, BaseException) else RuntimeError())


def runner_of(server: ProxyServer) -> web.ServerRunner:
    """Return what ends the connections of `server` once nothing is in flight any more."""
    return web.ServerRunner(server, shutdown_timeout=_GRACE_S)


def may_be_followed(request: web.BaseRequest) -> bool:
    """Whether the bytes after this request, as far as it was read, begin the next one for sure.

    They don't if its body wasn't read to the end; one that came in chunks is the last as well.
    """
    return request.content.is_eof() and "Transfer-Encoding" not in request.headers

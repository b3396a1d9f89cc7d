"""The clients' connections: aiohttp's parser with our limits and our answers to what is no request.

Whatever the parser refuses is answered with a problem and ends the connection; aiohttp's own error
pages and tracebacks reach nobody. It does not know what a request is for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, final

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage, InvalidURLError, LineTooLong

from sidecar.domain.tokens import ProblemReason
from sidecar.http.problems import Problem
from sidecar.http.reply import Ended, render_problem

_LINGER_S: Final = 2.0
_HEADERS_MAX: Final = 256
_TOO_MANY_HEADERS: Final = "Too many headers received"
"""The parser says it in these words only; a test holds it to them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """What a connection may do.

    Attributes:
        keepalive_s: How long it may lie unused, the time before its first request included.
        max_header_bytes: Of the request line, and of any one header field.
    """

    keepalive_s: float
    max_header_bytes: int


Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@final
class ProxyServer(web.Server):
    """Makes the protocol object of each connection."""

    def __init__(
        self,
        handler: Handler,
        *,
        refuse_malformed: Callable[[ProblemReason], Problem],
        report_fault: Callable[[BaseException], None],
        limits: ConnectionLimits,
    ) -> None:
        # A client that leaves cancels its request, and with it the exchange at the upstream.
        super().__init__(handler, handler_cancellation=True)
        self.refuse_malformed = refuse_malformed
        self.report_fault = report_fault
        self._limits = limits

    def __call__(self) -> ClientConnection:
        """Return the protocol of one new connection."""
        return ClientConnection(self, loop=self._loop, limits=self._limits)


@final
class ClientConnection(web.RequestHandler):
    """One connection of a client."""

    __slots__ = ("_is_malformed", "_server")

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
            max_headers=_HEADERS_MAX,
            lingering_time=_LINGER_S,
            auto_decompress=False,
            read_bufsize=65536,
        )
        self._server = server
        self._is_malformed = False

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002 - aiohttp calls with all of them
        status: int = 500,  # noqa: ARG002
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002
    ) -> web.StreamResponse:
        """Answer what the parser refused: a problem, and the connection ends."""
        problem = self._server.refuse_malformed(_reason_of(exc))
        transport = self.transport
        if transport is not None and not transport.is_closing():
            transport.write(render_problem(problem, is_kept_alive=False, is_head=False))
        # Nothing that follows is parsed: it could be anything.
        self.close()
        self._is_malformed = True
        return Ended(keep_alive=False)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """As aiohttp; after a malformed request the client gets time to read why."""
        finished = await super().finish_response(request, resp, start_time)
        transport = self.transport
        if self._is_malformed and transport is not None:
            # Closed at once, unread input would make the kernel reset the connection, and the
            # reset would overtake the answer. The client's close cancels this wait.
            if transport.can_write_eof():
                transport.write_eof()
            await asyncio.sleep(_LINGER_S)
        return finished

    def log_exception(self, *args: object, **kw: object) -> None:  # noqa: ARG002 - as aiohttp
        """Report a fault without its text, where aiohttp would log a traceback."""
        error = kw.get("exc_info")
        self._server.report_fault(error if isinstance(error, BaseException) else RuntimeError())


def _reason_of(error: BaseException | None) -> ProblemReason:
    if isinstance(error, LineTooLong):
        return ProblemReason.HEADERS_TOO_LARGE
    if isinstance(error, BadHttpMessage) and error.message == _TOO_MANY_HEADERS:
        return ProblemReason.HEADERS_TOO_LARGE
    if isinstance(error, InvalidURLError):
        return ProblemReason.PATH_INVALID
    return ProblemReason.REQUEST_INVALID


def may_be_followed(request: web.BaseRequest) -> bool:
    """Whether the bytes after this request, as far as it was read, begin the next one for sure.

    They do not where its body was not read to the end, nor where it came in chunks: the parser
    would take their trailers for headers of the next request.
    """
    return request.content.is_eof() and "Transfer-Encoding" not in request.headers

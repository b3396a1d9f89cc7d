"""The upstream: one fixed host, a pool of connections to it, one question and answer on each.

It writes the request line and the headers itself, so that a target goes out byte for byte and no
header is invented, and reads the answer with aiohttp's parser. It says in its verdict how an
exchange failed. It must not know grants, clients, or what an answer means.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import Final, Protocol, final
from weakref import WeakSet

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawResponseMessage
from aiohttp.http_writer import StreamWriter
from aiohttp.streams import StreamReader
from yarl import URL

from sidecar.domain.forwarding import RawHeader
from sidecar.domain.secret import Secret

_READ_BUFFER_BYTES: Final = 65536
_HEAD_LIMIT_BYTES: Final = 65536
_HEADERS_MAX: Final = 256
_SWITCHING: Final = 101
_FIRST_FINAL: Final = 200
_SAFE_TO_REPEAT: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class UpstreamFault(Enum):
    """How an exchange ended without an answer to pass on."""

    UNREACHABLE = auto()
    """No connection: nothing was sent."""
    NO_ANSWER = auto()
    """Sent, and no usable answer came."""
    SILENT = auto()
    """Sent, and nothing was heard for too long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamFailed:
    """There is no answer."""

    fault: UpstreamFault


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamOptions:
    """Where the upstream is and how patient we are with it.

    Attributes:
        url: Its root; a path in it is put before every target.
        connect_timeout_s: For a new connection, TLS included.
        timeout_s: Silence between two reads, or while it takes none of a body.
        keepalive_s: How long an unused connection is kept.
        egress_proxy: HTTP proxy for TLS connections, or ``None``; plain loopback goes direct.
        tls: Which authorities are trusted; ``None``: the system's.
    """

    url: str
    connect_timeout_s: float = 5.0
    timeout_s: float = 30.0
    keepalive_s: float = 55.0
    egress_proxy: str | None = None
    tls: ssl.SSLContext | None = None


class Upload(Protocol):
    """A request body that is sent while it comes in."""

    @property
    def length(self) -> int | None:
        """Its length if the client told it."""
        ...

    async def next_chunk(self) -> bytes:
        """Return more of it, ``b""`` at its end.

        Raises:
            UploadStopped: It will never be whole; the upload remembers why.
        """
        ...


class UploadStopped(Exception):
    """The rest of a request body will not come, or must not be sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One request for the upstream.

    Attributes:
        target: Path and query as the client sent them.
        headers: What goes on, without ``Host``, framing and ``Authorization``.
        body: All of it, or an upload, or ``None`` where the request has none.
    """

    method: str
    target: str
    headers: Sequence[RawHeader]
    bearer: Secret
    body: bytes | Upload | None


@final
class UpstreamAnswer:
    """An answer whose head is here; its body is read with back-pressure.

    Whoever holds one calls `close` in the end. `StreamReader` errors of aiohttp come out of the
    reads: `BODY_ERRORS`.
    """

    __slots__ = ("_connection", "_sending", "body", "message")

    def __init__(
        self,
        *,
        connection: Connection,
        message: RawResponseMessage,
        body: StreamReader,
        sending: asyncio.Task[None] | None,
    ) -> None:
        self._connection = connection
        self._sending = sending
        self.message = message
        self.body = body

    def close(self) -> None:
        """Give the connection back if the exchange is whole, else close it."""
        sending = self._sending
        if sending is not None and not sending.done():
            sending.cancel()
            self._connection.close()
        elif self.body.is_eof() and self.body.exception() is None:
            self._connection.release()
        else:
            self._connection.close()


BODY_ERRORS: Final = (aiohttp.ClientError, HttpProcessingError, OSError, asyncio.TimeoutError)


@final
class Upstream:
    """Asks the upstream. Made inside a running loop, closed with `close`."""

    def __init__(self, *, options: UpstreamOptions) -> None:
        url = URL(options.url)
        self._loop = asyncio.get_running_loop()
        self._timeout = aiohttp.ClientTimeout(
            connect=options.connect_timeout_s, sock_read=options.timeout_s
        )
        self._timeout_s = options.timeout_s
        self._connector = aiohttp.TCPConnector(
            limit=0,
            keepalive_timeout=options.keepalive_s,
            ttl_dns_cache=30,
        )
        self._where = self._where_by(url, tls=options.tls, egress_proxy=options.egress_proxy)
        self._idle: WeakSet[ResponseHandler] = WeakSet()
        self._host_line = b"Host: " + self._where.headers["Host"].encode() + b"\r\n"
        self._root = url.raw_path.rstrip("/")
        # Sends that outlive the wait for their answer; each is ended by its answer's `close`.
        self._sends: set[asyncio.Task[None]] = set()

    def renew(self, *, tls: ssl.SSLContext, egress_proxy: str | None) -> None:
        """Connect so from now on: idle connections close at once, others after their exchange."""
        self._where = self._where_by(self._where.url, tls=tls, egress_proxy=egress_proxy)
        for protocol in list(self._idle):
            protocol.close()
        self._idle.clear()

    def _where_by(
        self, url: URL, *, tls: ssl.SSLContext | None, egress_proxy: str | None
    ) -> aiohttp.ClientRequest:
        """Return what tells the connector where to connect; it is never sent."""
        proxy = egress_proxy if url.scheme == "https" else None
        return aiohttp.ClientRequest(
            "GET",
            url.origin(),
            loop=self._loop,
            ssl=tls or True,
            proxy=None if proxy is None else URL(proxy),
        )

    def _given_back(self, protocol: ResponseHandler, where: aiohttp.ClientRequest) -> None:
        """Note that an exchange is over; what connected in a former way is not used again."""
        if where is self._where:
            self._idle.add(protocol)
        else:
            protocol.force_close()

    async def close(self) -> None:
        """Close every connection, running exchanges included."""
        for sending in list(self._sends):
            sending.cancel()
        await self._connector.close()

    async def ask(self, question: Question) -> UpstreamAnswer | UpstreamFailed:
        """Send one request and return as soon as the head of its answer is here.

        A pooled connection that turns out to be closed is no fault of the upstream: a request
        that is safe to repeat is sent once more, on another connection.
        """
        while True:
            where = self._where
            try:
                connection = await self._connector.connect(where, [], self._timeout)
            except (TimeoutError, aiohttp.ClientError, OSError):
                return UpstreamFailed(fault=UpstreamFault.UNREACHABLE)
            protocol = connection.protocol
            if protocol is None or protocol.should_close:
                # Something came in while it lay in the pool: it must not answer this request.
                connection.close()
                continue
            self._idle.discard(protocol)
            connection.add_callback(partial(self._given_back, protocol, where))
            is_pooled = protocol.read_timeout is not None
            answer = await self._exchange(question, connection=connection, protocol=protocol)
            if (
                is_pooled
                and isinstance(answer, UpstreamFailed)
                and answer.fault is UpstreamFault.NO_ANSWER
                and question.method in _SAFE_TO_REPEAT
                and (question.body is None or isinstance(question.body, bytes))
            ):
                continue
            return answer

    async def _exchange(
        self, question: Question, *, connection: Connection, protocol: ResponseHandler
    ) -> UpstreamAnswer | UpstreamFailed:
        protocol.set_response_params(
            skip_payload=question.method == "HEAD",
            read_until_eof=True,
            auto_decompress=False,
            read_timeout=self._timeout_s,
            read_bufsize=_READ_BUFFER_BYTES,
            max_line_size=_HEAD_LIMIT_BYTES,
            max_field_size=_HEAD_LIMIT_BYTES,
            max_headers=_HEADERS_MAX,
        )
        sending: asyncio.Task[None] | None = None
        answer: UpstreamAnswer | None = None
        try:
            sending = self._send(question, connection=connection, protocol=protocol)
            message, body = await protocol.read()
            while message.code < _FIRST_FINAL and message.code != _SWITCHING:
                message, body = await protocol.read()
            if message.code == _SWITCHING:
                return UpstreamFailed(fault=UpstreamFault.NO_ANSWER)
            answer = UpstreamAnswer(
                connection=connection, message=message, body=body, sending=sending
            )
        except TimeoutError:
            return UpstreamFailed(fault=UpstreamFault.SILENT)
        except BODY_ERRORS:
            return UpstreamFailed(fault=UpstreamFault.NO_ANSWER)
        else:
            return answer
        finally:
            if answer is None:
                if sending is not None:
                    sending.cancel()
                connection.close()

    def _send(
        self, question: Question, *, connection: Connection, protocol: ResponseHandler
    ) -> asyncio.Task[None] | None:
        """Write the request; return the task that goes on with its body, if there is one.

        Raises:
            ConnectionError: The connection was lost in the meantime.
        """
        transport = connection.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError
        body = question.body
        head = self._head(question)
        if body is None or isinstance(body, bytes):
            transport.write(head + body if body else head)
            protocol.start_timeout()
            return None
        transport.write(head)
        # An owned task: the answer may come before the body is sent, and outlives this call.
        sending = self._loop.create_task(
            self._pump(body, transport=transport, protocol=protocol), name="upstream-send"
        )
        self._sends.add(sending)
        sending.add_done_callback(self._sends.discard)
        return sending

    def _head(self, question: Question) -> bytes:
        body = question.body
        parts = [
            f"{question.method} {self._root}{question.target} HTTP/1.1\r\n".encode("latin-1"),
            self._host_line,
        ]
        for name, value in question.headers:
            parts += (name, b": ", value, b"\r\n")
        length = len(body) if isinstance(body, bytes) else body.length if body is not None else None
        if length is not None:
            parts.append(b"Content-Length: %d\r\n" % length)
        elif body is not None:
            parts.append(b"Transfer-Encoding: chunked\r\n")
        parts += (b"Authorization: Bearer ", question.bearer.reveal().encode("latin-1"))
        parts.append(b"\r\n\r\n")
        return b"".join(parts)

    async def _pump(
        self, upload: Upload, *, transport: asyncio.Transport, protocol: ResponseHandler
    ) -> None:
        """Send a body as it comes; on any trouble the connection ends, and with it the exchange."""
        is_chunked = upload.length is None
        try:
            while chunk := await upload.next_chunk():
                if transport.is_closing():
                    return
                transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if is_chunked else chunk)
                if protocol.writing_paused:
                    async with asyncio.timeout(self._timeout_s):
                        await StreamWriter(protocol, self._loop).drain()
            if is_chunked and not transport.is_closing():
                transport.write(b"0\r\n\r\n")
            protocol.start_timeout()
        except TimeoutError as error:
            protocol.set_exception(aiohttp.SocketTimeoutError(), error)
            transport.abort()
        except (UploadStopped, OSError, aiohttp.ClientError):
            transport.abort()

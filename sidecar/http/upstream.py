"""The upstream: one fixed host, a pool of connections to it, one question and answer on each.

It writes the request line and the headers itself, so that a target goes out byte for byte and no
header is invented, and counts what it promised there. A connection carries another exchange only
where all of the request was sent and all of the answer, and nothing else, was read. It says in its
verdict why an exchange failed. It must not know grants, clients, or what an answer means.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol, final
from weakref import WeakSet

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_writer import StreamWriter
from yarl import URL

from sidecar.domain.answer_heads import FinalHead
from sidecar.domain.forwarding import RawHeader
from sidecar.domain.secret import Secret
from sidecar.domain.upstream_failures import UpstreamCause
from sidecar.http.answer_body import AnswerBody, AnswerBroken
from sidecar.http.answer_reader import AnswerReader
from sidecar.http.connect_causes import CONNECT_ERRORS, cause_of
from sidecar.http.tunnel import TunnelConnector

_SAFE_TO_REPEAT: Final = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamFailed:
    """There is no answer.

    Attributes:
        is_unheard: A connection of the pool ended before a single octet of an answer: the upstream
            had closed it meanwhile, most likely, and the request was not read.
    """

    cause: UpstreamCause
    is_unheard: bool = False


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

    Whoever holds one calls `close` in the end. Reads of the body raise `AnswerBroken` where it
    breaks.
    """

    __slots__ = ("_connection", "_reader", "_sending", "body", "head")

    def __init__(
        self,
        *,
        connection: Connection,
        reader: AnswerReader,
        head: FinalHead,
        body: AnswerBody,
        sending: asyncio.Task[None] | None,
    ) -> None:
        self._connection = connection
        self._reader = reader
        self._sending = sending
        self.head = head
        self.body = body

    def close(self) -> None:
        """Give the connection back if the exchange is whole in both directions, else close it."""
        sending = self._sending
        if sending is not None and not sending.done():
            sending.cancel()
            self._reader.give_up(UpstreamCause.CLOSED)
            self._connection.close()
        elif self._reader.may_go_on:
            self._reader.go_idle()
            self._connection.release()
        else:
            transport = self._connection.transport
            if transport is not None and transport.get_write_buffer_size():
                self._reader.give_up(UpstreamCause.CLOSED)
            self._connection.close()


@final
class Upstream:
    """Asks the upstream. Made inside a running loop, closed with `close`."""

    def __init__(self, *, options: UpstreamOptions) -> None:
        url = URL(options.url)
        self._loop = asyncio.get_running_loop()
        self._timeout = aiohttp.ClientTimeout(connect=options.connect_timeout_s)
        self._timeout_s = options.timeout_s
        self._connector = TunnelConnector(
            limit=0,
            keepalive_timeout=options.keepalive_s,
            ttl_dns_cache=30,
        )
        # A second try goes out on a connection that was never idle, and that nobody uses again.
        self._fresh = TunnelConnector(limit=0, force_close=True, ttl_dns_cache=30)
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
        await self._fresh.close()

    async def ask(self, question: Question) -> UpstreamAnswer | UpstreamFailed:
        """Send one request and return as soon as the head of its answer is here.

        A pooled connection that turns out to be closed is no fault of the upstream: a request
        that is safe to repeat is sent once more, on a fresh connection.
        """
        answer = await self._ask_on(self._connector, question)
        if (
            isinstance(answer, UpstreamFailed)
            and answer.is_unheard
            and question.method in _SAFE_TO_REPEAT
            and (question.body is None or isinstance(question.body, bytes))
        ):
            return await self._ask_on(self._fresh, question)
        return answer

    async def _ask_on(
        self, connector: TunnelConnector, question: Question
    ) -> UpstreamAnswer | UpstreamFailed:
        while True:
            where = self._where
            try:
                connection = await connector.connect(where, [], self._timeout)
            except CONNECT_ERRORS as error:
                return UpstreamFailed(cause=cause_of(error))
            transport, protocol = connection.transport, connection.protocol
            if transport is None or protocol is None:
                connection.close()
                return UpstreamFailed(cause=UpstreamCause.CLOSED)
            self._idle.discard(protocol)
            reader = transport.get_protocol()
            if isinstance(reader, AnswerReader):
                if reader.is_quiet():
                    break
                # Something came while it lay in the pool: it must not answer this request.
                connection.close()
                continue
            if protocol.should_close:
                connection.close()
                return UpstreamFailed(cause=UpstreamCause.MALFORMED_ANSWER)
            reader = AnswerReader(transport=transport, inner=protocol)
            transport.set_protocol(reader)
            break
        connection.add_callback(partial(self._given_back, protocol, where))
        return await self._exchange(question, connection=connection, reader=reader)

    async def _exchange(
        self, question: Question, *, connection: Connection, reader: AnswerReader
    ) -> UpstreamAnswer | UpstreamFailed:
        reader.expect(is_to_head=question.method == "HEAD", silence_s=self._timeout_s)
        sending: asyncio.Task[None] | None = None
        answer: UpstreamAnswer | None = None
        try:
            sending = self._send(question, connection=connection, reader=reader)
            head, body = await reader.head()
            answer = UpstreamAnswer(
                connection=connection, reader=reader, head=head, body=body, sending=sending
            )
        except AnswerBroken as broken:
            is_ended = broken.cause in {UpstreamCause.CLOSED, UpstreamCause.RESET}
            return UpstreamFailed(
                cause=broken.cause,
                is_unheard=is_ended and reader.is_reused and not reader.is_heard,
            )
        else:
            return answer
        finally:
            if answer is None:
                if sending is not None:
                    sending.cancel()
                # A polite close first sends what is buffered; a peer may never take that.
                reader.give_up(UpstreamCause.CLOSED)
                connection.close()

    def _send(
        self, question: Question, *, connection: Connection, reader: AnswerReader
    ) -> asyncio.Task[None] | None:
        """Write the request; return the task that goes on with its body, if there is one."""
        transport, protocol = connection.transport, connection.protocol
        if transport is None or protocol is None or transport.is_closing():
            raise AnswerBroken(UpstreamCause.CLOSED)
        body = question.body
        head = self._head(question)
        if body is None or isinstance(body, bytes):
            transport.write(head + body if body else head)
            reader.wait_from_now()
            return None
        transport.write(head)
        # An owned task: the answer may come before the body is sent, and outlives this call.
        sending = self._loop.create_task(
            self._pump(body, transport=transport, protocol=protocol, reader=reader),
            name="upstream-send",
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
        self,
        upload: Upload,
        *,
        transport: asyncio.Transport,
        protocol: ResponseHandler,
        reader: AnswerReader,
    ) -> None:
        """Send a body as it comes, as long as was promised.

        On any trouble the connection ends, and with it the exchange: what follows a body that is
        shorter or longer than its head says would be read as a part of it, or as a request.
        """
        promised = upload.length
        sent = 0
        try:
            while chunk := await upload.next_chunk():
                sent += len(chunk)
                if promised is not None and sent > promised:
                    reader.give_up(UpstreamCause.CLOSED)
                    return
                if transport.is_closing():
                    return
                transport.write(
                    b"%x\r\n%b\r\n" % (len(chunk), chunk) if promised is None else chunk
                )
                if protocol.writing_paused:
                    async with asyncio.timeout(self._timeout_s):
                        await StreamWriter(protocol, self._loop).drain()
            if promised is None and not transport.is_closing():
                transport.write(b"0\r\n\r\n")
            elif promised is not None and sent != promised:
                reader.give_up(UpstreamCause.CLOSED)
            reader.wait_from_now()
        except TimeoutError:
            reader.give_up(UpstreamCause.SILENT)
        except (UploadStopped, OSError, aiohttp.ClientError):
            reader.give_up(UpstreamCause.CLOSED)

"""The token service over HTTP: one request on one fresh connection, its answer read to the end.

It owns that nothing is sent before the caller said so, that no timer runs once something was, and
that every byte which arrived reaches the caller, however the connection ended. It must not know
what an answer means, when to ask again, or any grant.

aiohttp connects and writes; two things are done around it. The connector asks the caller between
the connection and the first byte, and closes what it may not use. A tap in aiohttp's place reads
what comes back, since a parser that refuses an answer drops the tokens that are in it.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, final
from urllib.parse import urlencode

import aiohttp
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from sidecar import __version__
from sidecar.adapters.idp_socket import ByteTap, claim_socket
from sidecar.adapters.trust import client_context
from sidecar.domain.secret import Secret
from sidecar.domain.wire import NotSent, TokenReply, TokenRequest

_LAST_PASSES: Final = 3
"""Passes of the loop after which whatever the kernel held has been handed up."""

BeforeSend = Callable[[], Awaitable[bool]]
OnAnswer = Callable[[TokenReply], None]


@final
class HttpIdentityProvider:
    """`ports.IdentityProvider` over HTTP/1.1; holds no connection between two requests.

    Args:
        idp_url: Scheme, host and perhaps a path prefix.
        connect_timeout_s: Bounds DNS, TCP, an egress proxy's tunnel and TLS together.
        tls: Whom to trust; by default the system's authorities.
        egress_proxy: URL of an HTTP proxy to go through; the environment's proxies are ignored.
    """

    def __init__(
        self,
        *,
        idp_url: str,
        connect_timeout_s: float,
        tls: ssl.SSLContext | None = None,
        egress_proxy: str | None = None,
    ) -> None:
        self._idp_url = idp_url.rstrip("/")
        self._timeout = aiohttp.ClientTimeout(connect=connect_timeout_s)
        self._way = _Way(tls=tls or client_context(None), egress_proxy=egress_proxy)

    def renew(self, *, tls: ssl.SSLContext, egress_proxy: str | None) -> None:
        """Trust `tls` and take `egress_proxy` from the next request on; safe from any thread."""
        self._way = _Way(tls=tls, egress_proxy=egress_proxy)

    async def send(
        self, request: TokenRequest, *, before_send: BeforeSend, on_answer: OnAnswer
    ) -> TokenReply:
        """Send one request and read its answer; see `ports.IdentityProvider`.

        `on_answer` is called once for every request, also where nothing was sent. Cancelled, it
        reads what has arrived already, tells it, resets the connection and only then ends. An
        exception of `before_send` itself passes through; nothing was sent then.
        """
        exchange = _Exchange(before_send=before_send, on_answer=on_answer)
        # Its owner is this frame. A task of its own, so that a cancellation does not tear the
        # connection down before its last bytes were read.
        work = asyncio.get_running_loop().create_task(self._perform(request, exchange))
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError:
            await exchange.give_up(work)
            raise
        return work.result()

    async def _perform(self, request: TokenRequest, exchange: _Exchange) -> TokenReply:
        way = self._way
        async with aiohttp.ClientSession(
            connector=_AskingConnector(admit=exchange.admit, tls=way.tls),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=self._timeout,
            auto_decompress=False,
            trust_env=False,
        ) as session:
            # Its owner is this frame. It never sees the answer, so it ends by a failure, or here.
            posting = asyncio.get_running_loop().create_task(self._post(session, request, way))
            posting.add_done_callback(exchange.posted)
            try:
                await exchange.over
                reply = exchange.tell(await exchange.outcome())
            finally:
                # Where this was cancelled, or is a bug, the tokens are safe first.
                exchange.tell(exchange.so_far())
                exchange.let_go()
                posting.cancel()
                await asyncio.wait([posting])
            await exchange.closed()
        return reply

    async def _post(self, session: aiohttp.ClientSession, request: TokenRequest, way: _Way) -> None:
        await session.post(
            f"{self._idp_url}{request.path}",
            data=_form(request),
            headers=_headers(request),
            proxy=way.egress_proxy,
            allow_redirects=False,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """How the token service is reached, by one request from its start to its end."""

    tls: ssl.SSLContext
    egress_proxy: str | None = field(repr=False)


class _Withheld(Exception):
    """The request may not be sent on this connection."""


@final
class _AskingConnector(aiohttp.TCPConnector):
    """Lets a fresh connection be admitted before aiohttp writes to it.

    A trace hook would be asked at the same point, but a connection that it refuses stays open
    until the peer closes it.
    """

    def __init__(
        self, *, admit: Callable[[Connection], Awaitable[None]], tls: ssl.SSLContext
    ) -> None:
        super().__init__(  # pyright: ignore[reportUnknownMemberType] - of its socket factory
            force_close=True, limit=0, socket_factory=claim_socket, ssl=tls
        )
        self._admit = admit

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's signature
    ) -> Connection:
        connection = await super().connect(req, traces, timeout)
        try:
            await self._admit(connection)
        except BaseException:
            connection.close()
            raise
        return connection


@final
class _Exchange:
    """One request on its way: whether it was sent, what arrived, what was told.

    Attributes:
        over: Done when there is nothing more to wait for.
    """

    def __init__(self, *, before_send: BeforeSend, on_answer: OnAnswer) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._before_send = before_send
        self._on_answer = on_answer
        self._tap: ByteTap | None = None
        self._is_sent = False
        self._told: TokenReply | None = None
        self._is_vetoed = False
        self._fault: BaseException | None = None

    async def admit(self, connection: Connection) -> None:
        """Return if the request may be written to `connection` now.

        Raises:
            _Withheld: The caller refused, or the peer hung up or spoke before it was asked.
        """
        transport, protocol = connection.transport, connection.protocol
        if transport is None or protocol is None:
            raise _Withheld
        self._tap = tap = ByteTap(transport=transport, inner=protocol, on_end=self._on_end)
        transport.set_protocol(tap)
        try:
            self._is_vetoed = not await self._before_send()
        except BaseException as error:
            self._fault = error
            raise
        if self._is_vetoed or transport.is_closing() or tap.arrived_bytes or tap.reply is not None:
            raise _Withheld
        self._is_sent = True

    def posted(self, posting: asyncio.Task[None]) -> None:
        """Take note that nothing more is written."""
        if not posting.cancelled():
            posting.exception()  # the tap knows what became of what was sent
        self._stop_waiting()

    async def outcome(self) -> TokenReply:
        """Return what is to be told.

        Raises:
            BaseException: That of `before_send`.
        """
        if self._fault is not None:
            raise self._fault
        if self._is_sent and self._tap is not None:
            await self._read_the_last(self._tap)
        return self.so_far()

    def so_far(self) -> TokenReply:
        """Return what must be said if nothing more comes."""
        if not self._is_sent or self._tap is None:
            return NotSent(is_vetoed=self._is_vetoed)
        return self._tap.so_far()

    def tell(self, reply: TokenReply) -> TokenReply:
        """Tell the caller, unless it was told before; return what it was told."""
        if self._told is None:
            self._told = reply
            self._on_answer(reply)
        return self._told

    def let_go(self) -> None:
        """Close the connection."""
        if self._tap is not None:
            self._tap.let_go()

    async def closed(self) -> None:
        """Return once the socket is gone."""
        if self._tap is not None:
            await self._tap.closed

    async def give_up(self, work: asyncio.Task[TokenReply]) -> None:
        """Read what the kernel holds already, tell what there is, and end `work`."""
        try:
            if self._is_sent and self._tap is not None:
                await self._read_the_last(self._tap)
        finally:
            self.tell(self.so_far())
            self.let_go()
            work.cancel()
        await asyncio.wait([work])

    async def _read_the_last(self, tap: ByteTap) -> None:
        had_bytes = -1
        while tap.reply is None and tap.arrived_bytes > had_bytes:
            had_bytes = tap.arrived_bytes
            for _ in range(_LAST_PASSES):
                await asyncio.sleep(0)

    def _on_end(self) -> None:
        if self._is_sent:
            self._stop_waiting()

    def _stop_waiting(self) -> None:
        if not self.over.done():
            self.over.set_result(None)


def _form(request: TokenRequest) -> bytes:
    fields = [
        (name, value.reveal() if isinstance(value, Secret) else value)
        for name, value in request.form
    ]
    return urlencode(fields).encode("ascii")


def _headers(request: TokenRequest) -> dict[str, str]:
    headers = {
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "Connection": "close",
        "Content-Type": "application/x-www-form-urlencoded",
        "User-Agent": f"akoya-sidecar/{__version__}",
    }
    if request.basic_auth is not None:
        client_id, client_secret = request.basic_auth
        credentials = f"{client_id}:{client_secret.reveal()}".encode()
        headers["Authorization"] = f"Basic {base64.b64encode(credentials).decode('ascii')}"
    return headers

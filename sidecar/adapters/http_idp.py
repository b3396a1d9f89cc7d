"""The token service over HTTP: one request on one fresh connection, its answer read to the end.

It owns that nothing is sent before the caller said so, that no timer runs once something was, and
that every byte which arrived reaches the caller, however the connection ended. It must not know
what an answer means, when to ask again, or any grant.

aiohttp speaks HTTP; two things are done around it. The connector asks the caller between the
connection and the first byte, and closes what it may not use. A tap below aiohttp keeps the raw
bytes, since aiohttp drops what it had of an answer that breaks.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, final
from urllib.parse import urlencode

import aiohttp
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from sidecar import __version__
from sidecar.adapters.answer_framing import (
    ANSWER_LIMIT_BYTES,
    date_s,
    media_type,
    read_torn,
    retry_after_s,
    unpacked,
)
from sidecar.adapters.idp_socket import ByteTap, claim_socket
from sidecar.adapters.trust import client_context
from sidecar.domain.secret import Secret
from sidecar.domain.wire import Answered, Broken, NotSent, TokenReply, TokenRequest

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
            try:
                response = await session.post(
                    f"{self._idp_url}{request.path}",
                    data=_form(request),
                    headers=_headers(request),
                    proxy=way.egress_proxy,
                    allow_redirects=False,
                )
                with contextlib.closing(response):
                    reply = await exchange.collect(response)
            except _Withheld as withheld:
                reply = exchange.tell(NotSent(is_vetoed=withheld.is_vetoed))
            except (aiohttp.ClientError, OSError):
                reply = exchange.tell(exchange.so_far())
            except BaseException:
                # Cancelled or a bug: it goes on, but not before the tokens are safe.
                exchange.tell(exchange.so_far())
                raise
            finally:
                exchange.let_go()
            await exchange.closed()
        return reply


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """How the token service is reached, by one request from its start to its end."""

    tls: ssl.SSLContext
    egress_proxy: str | None = field(repr=False)


class _Withheld(Exception):
    """The request may not be sent on this connection."""

    def __init__(self, *, is_vetoed: bool) -> None:
        super().__init__("nothing was sent")
        self.is_vetoed = is_vetoed


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
    """One request on its way: whether it was sent, what arrived, what was told."""

    def __init__(self, *, before_send: BeforeSend, on_answer: OnAnswer) -> None:
        self._before_send = before_send
        self._on_answer = on_answer
        self._tap: ByteTap | None = None
        self._is_sent = False
        self._told: TokenReply | None = None

    async def admit(self, connection: Connection) -> None:
        """Return if the request may be written to `connection` now.

        Raises:
            _Withheld: The caller refused, or the peer hung up or spoke before it was asked.
        """
        transport, protocol = connection.transport, connection.protocol
        if transport is None or protocol is None:
            raise _Withheld(is_vetoed=False)
        self._tap = tap = ByteTap(transport=transport, inner=protocol)
        transport.set_protocol(tap)
        if not await self._before_send():
            raise _Withheld(is_vetoed=True)
        if transport.is_closing() or tap.arrived:
            raise _Withheld(is_vetoed=False)
        self._is_sent = True

    async def collect(self, response: aiohttp.ClientResponse) -> TokenReply:
        """Read the body and tell the answer, in one step with its last byte."""
        body = bytearray()
        while not response.content.at_eof():
            body += await response.content.readany()
            if len(body) > ANSWER_LIMIT_BYTES:
                return self.tell(self.so_far())
        return self.tell(
            Answered(
                status=response.status,
                body=unpacked(bytes(body), response.headers.get("Content-Encoding", "")),
                content_type=media_type(response.headers),
                retry_after_s=retry_after_s(response.headers),
                date_s=date_s(response.headers),
            )
        )

    def so_far(self) -> NotSent | Broken:
        """Return what must be said if nothing more comes."""
        if not self._is_sent or self._tap is None:
            return NotSent()
        torn = read_torn(bytes(self._tap.arrived))
        return Broken(status=torn.status, body=torn.body)

    def tell(self, reply: TokenReply) -> TokenReply:
        """Tell the caller, unless it was told before; return what it was told."""
        if self._told is None:
            self._told = reply
            self._on_answer(reply)
        return self._told

    def let_go(self) -> None:
        """Close the connection: politely after a whole answer, otherwise with a reset."""
        if self._tap is None:
            return
        if isinstance(self._told, Answered):
            self._tap.close_politely()
        else:
            self._tap.reset()

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
        had = -1
        while self._told is None and len(tap.arrived) > had:
            had = len(tap.arrived)
            for _ in range(_LAST_PASSES):
                await asyncio.sleep(0)


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

"""How this sidecar connects to Redis: the settings that keep one call one call.

redis-py retries commands on its own and waits for seconds; a retried command runs twice and a
long wait outlives a lease. So nothing here retries, every wait is short, and whoever asked decides
what an error means. Knows no key and no script.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, final

from redis.asyncio import (
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.driver_info import DriverInfo
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.maint_notifications import MaintNotificationsConfig

from sidecar.adapters.redis_pool import OnRefused, PatientPool, unheard
from sidecar.adapters.redis_trouble import SERVER_FULL, Refused, ends_told
from sidecar.adapters.trust import ClientCertificate, Trust
from sidecar.domain.addresses import TcpAddress
from sidecar.domain.store_address import Login
from sidecar.domain.store_trouble import StoreTrouble

ANSWER_WITHIN_S: Final = 0.5
CONNECT_WITHIN_S: Final = 0.5
FREE_CONNECTION_WITHIN_S: Final = 0.5
CHECK_AFTER_IDLE_S: Final = 15
MOST_CONNECTIONS: Final = 31
"""For calls; one more is the subscription's."""

MOST_HANDSHAKES: Final = 4
"""TLS handshakes at a time for one server: each costs the loop a millisecond or two."""

NAMED_AS: Final = DriverInfo()
"""What `CLIENT LIST` shows; made once, since redis-py looks its version up on the disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How servers let a client in.

    Attributes:
        tls: Whom to trust; ``None``: the connections are in plain text.
        on_refused: Is told where a server lets no more connections in.
    """

    tls: ssl.SSLContext | None = None
    login: Login = field(default_factory=Login)
    database: int = 0
    on_refused: OnRefused = field(default=unheard, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entries:
    """How the servers of a store let us in, and the Sentinels that know them."""

    servers: Access
    sentinels: Access


@final
class _Entry:
    """How the connections of one pool get in; what changes counts from the next connection on."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self.is_closed = False
        self._turns = asyncio.Semaphore(MOST_HANDSHAKES)

    def see_open(self) -> None:
        """Raise if the pool was closed.

        Raises:
            Refused: A server that was left is not asked again, nor subscribed to.
        """
        if self.is_closed:
            raise Refused(StoreTrouble.RESET)

    def has_turn(self) -> bool:
        """Whether a connection would get in without a wait."""
        return self.access.tls is None or not self._turns.locked()

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[None]:
        """Take a turn at a handshake; a call waits for it in the pool, and a subscription here.

        Raises:
            RedisTimeoutError: None came up in time.
        """
        try:
            async with asyncio.timeout(CONNECT_WITHIN_S):
                await self._turns.acquire()
        except TimeoutError:
            raise RedisTimeoutError("no turn to connect") from None
        try:
            yield
        finally:
            self._turns.release()


class _LetIn:
    """Connects with the login and the trust that its pool has at that moment.

    redis-py would take both from the start of the pool, and make a context of its own for each
    connection.
    """

    username: str | None
    password: str | None

    def __init__(self, *, entry: _Entry, **options: Any) -> None:
        super().__init__(**options)
        self._entry = entry

    async def connect_check_health(
        self,
        check_health: bool = True,  # noqa: FBT001, FBT002 - as it is overridden
        retry_socket_connect: bool = True,  # noqa: FBT001, FBT002 - as above
    ) -> None:
        """Connect, unless it is connected."""
        connector: Any = super()
        if connector.is_connected:
            return
        self._entry.see_open()
        access = self._entry.access
        self.username, self.password = access.login.username, access.login.password
        if access.tls is None:
            await connector.connect_check_health(check_health, retry_socket_connect)
        else:
            async with self._entry.turn():
                connector.ssl_context.context = access.tls
                await connector.connect_check_health(check_health, retry_socket_connect)
        try:
            self._entry.see_open()
        except Refused:  # it was closed meanwhile, and this connection was not seen then
            await connector.disconnect(nowait=True)
            raise


class _Told:
    """Says what became of a connection in errors of redis-py, whatever the loop says of it.

    asyncio lets the write to an ended transport pass, or stumbles over what it has let go; uvloop
    raises `RuntimeError`; redis-py forgets its stream while another task uses it.
    """

    _greeting: asyncio.StreamReader | None = None

    async def _connect(self) -> None:
        """Open the connection, and keep in sight what the server says before it is asked."""
        connection: Any = self
        opener: Any = super()
        await opener._connect()  # noqa: SLF001 - as it is overridden
        self._greeting = connection._reader  # noqa: SLF001 - its own

    async def connect_check_health(
        self,
        check_health: bool = True,  # noqa: FBT001, FBT002 - as it is overridden
        retry_socket_connect: bool = True,  # noqa: FBT001, FBT002 - as it is overridden
    ) -> None:
        """Open the connection and log in, unless that was done.

        Raises:
            RedisError: It did not come about.
        """
        opener: Any = super()
        try:
            with ends_told():
                await opener.connect_check_health(check_health, retry_socket_connect)
        except RedisConnectionError as error:
            if self._was_turned_away():
                raise Refused(StoreTrouble.MAXCLIENTS) from error
            raise

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:  # noqa: FBT001, FBT002 - as it is overridden
        """Write a command.

        Raises:
            RedisError: The connection has ended; redis-py has let it go.
        """
        sender: Any = super()
        with ends_told():
            await sender.send_packed_command(command, check_health)

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """Return an answer.

        Raises:
            RedisError: It is an error, or the connection has ended.
        """
        reader: Any = super()
        with ends_told():
            return await reader.read_response(*args, **options)

    async def can_read(self) -> bool:
        """Whether something was said unasked, or the connection has ended.

        Raises:
            RedisError: It has ended.
            OSError: As above.
        """
        reader: Any = super()
        with ends_told():
            return bool(await reader.can_read())

    async def disconnect(self, *args: Any, **options: Any) -> None:
        """Let the connection go.

        Raises:
            RedisError: It did not end in time.
        """
        closer: Any = super()
        with ends_told():
            await closer.disconnect(*args, **options)

    def _was_turned_away(self) -> bool:
        """Whether the server said that it is full, and hung up before that was read."""
        greeting: Any = self._greeting
        return greeting is not None and SERVER_FULL.encode() in bytes(greeting._buffer)  # noqa: SLF001 - there is no other way to what is left


class _TcpConnection(_LetIn, _Told, Connection):
    """A connection over TCP."""


class _TlsConnection(_LetIn, _Told, SSLConnection):
    """A connection over TLS."""


class _UnixConnection(_LetIn, _Told, UnixDomainSocketConnection):
    """A connection over a unix socket."""


KINDS: Final[dict[Any, type[Connection | _UnixConnection]]] = {
    SSLConnection: _TlsConnection,
    UnixDomainSocketConnection: _UnixConnection,
}
"""Of what `parse_url` chooses for a URL."""
LOGIN: Final = frozenset({"username", "password"})
"""Options of redis-py that an `Access` has, so that they can change."""


@final
class ServerPool(PatientPool):
    """The connections to one server, on one event loop."""

    def __init__(self, *, access: Access, **options: Any) -> None:
        self._entry = _Entry(access)
        super().__init__(on_refused=access.on_refused, **options, entry=self._entry)

    def may_open(self) -> bool:
        """Whether a new connection would get in without a wait."""
        return self._entry.has_turn()

    async def end(self) -> None:
        """Let every connection go, also one that waits for an answer; none is opened any more."""
        self._entry.is_closed = True
        await self.disconnect()

    async def renew(self, access: Access) -> None:
        """Connect with `access` from now on; let idle connections go, the others after their use.

        No call fails for it: what is idle leaves the pool before it is closed.
        """
        self._entry.access = access
        idle, self._available_connections = self._available_connections, []
        for connection in self._in_use_connections:
            # At once: what an await lets back into the pool would stay as it is.
            connection.mark_for_reconnect()  # type: ignore[no-untyped-call]  # the library left it
        closing = (connection.disconnect(nowait=True) for connection in idle)
        await asyncio.gather(*closing, return_exceptions=True)


def pool_of_url(
    url: str, *, trust: Trust | None = None, on_refused: OnRefused = unheard
) -> ServerPool:
    """Return a pool for one server; nothing connects yet.

    It belongs to the first event loop that uses it.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        trust: Whom to trust, for ``rediss://``; by default the system's authorities.
        on_refused: Is told where the server lets no more connections in.
    """
    chosen: dict[str, Any] = dict(parse_url(url))
    kind = KINDS.get(chosen.get("connection_class"), _TcpConnection)
    options = {
        name: value
        for name, value in chosen.items()
        if name not in LOGIN and not name.startswith("ssl_")
    }
    options["connection_class"] = kind
    if kind is not _UnixConnection:
        options["socket_keepalive"] = True
    access = replace(access_of_url(url, trust=trust), on_refused=on_refused)
    return ServerPool(access=access, **(options | _fixed()))


def access_of_url(url: str, *, trust: Trust | None = None) -> Access:
    """Return how the one server of a URL lets a client in; see `pool_of_url`.

    Raises:
        OSError: The client certificate that the URL names cannot be used.
        ValueError: As above.
    """
    chosen: dict[str, Any] = dict(parse_url(url))
    login = Login(username=chosen.get("username"), password=chosen.get("password"))
    if chosen.get("connection_class") is not SSLConnection:
        return Access(login=login)
    trusted = trust or Trust()
    if "ssl_certfile" not in chosen:
        return Access(login=login, tls=trusted.context)
    own = ClientCertificate(
        certificate=chosen["ssl_certfile"],
        key=chosen.get("ssl_keyfile"),
        passphrase=chosen.get("ssl_password"),
    )
    return Access(login=login, tls=trusted.showing(own))


def pool_of_server(server: TcpAddress, access: Access) -> ServerPool:
    """Return a pool for one of several servers; nothing connects yet."""
    chosen: dict[str, Any] = {
        "host": server.host,
        "port": server.port,
        "db": access.database,
        "socket_keepalive": True,
        "connection_class": _TcpConnection if access.tls is None else _TlsConnection,
    }
    return ServerPool(access=access, **(chosen | _fixed()))


def _fixed() -> dict[str, Any]:
    """What no query parameter of a URL can change."""
    return {
        "protocol": 2,
        "decode_responses": False,
        "driver_info": NAMED_AS,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": ANSWER_WITHIN_S,
        "socket_connect_timeout": CONNECT_WITHIN_S,
        "health_check_interval": CHECK_AFTER_IDLE_S,
        "timeout": FREE_CONNECTION_WITHIN_S,
        "max_connections": MOST_CONNECTIONS,
    }

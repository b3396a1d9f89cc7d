"""How this sidecar connects to Redis: the settings that keep one call one call.

redis-py retries commands on its own and waits for seconds; a retried command runs twice and a
long wait outlives a lease. So nothing here retries, every wait is short, and whoever asked decides
what an error means. Knows no key and no script.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from redis.asyncio import (
    BlockingConnectionPool,
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.maint_notifications import MaintNotificationsConfig

from sidecar.domain.addresses import TcpAddress
from sidecar.domain.store_address import Login

ANSWER_WITHIN_S: Final = 0.5
CONNECT_WITHIN_S: Final = 0.5
FREE_CONNECTION_WITHIN_S: Final = 0.5
CHECK_AFTER_IDLE_S: Final = 15
MOST_CONNECTIONS: Final = 32


class _EndedAsError:
    """Makes an error of redis-py of what uvloop says of a transport that has ended.

    asyncio's own loop lets the write pass and the next step fail; uvloop raises `RuntimeError`.
    """

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:  # noqa: FBT001, FBT002 - as it is overridden
        """Write a command.

        Raises:
            RedisConnectionError: The connection has ended; redis-py has let it go.
        """
        sender: Any = super()
        try:
            await sender.send_packed_command(command, check_health)
        except RuntimeError as error:
            raise RedisConnectionError("the connection has ended") from error


class _TcpConnection(_EndedAsError, Connection):
    """A connection over TCP."""


class _TlsConnection(_EndedAsError, SSLConnection):
    """A connection over TLS."""


class _UnixConnection(_EndedAsError, UnixDomainSocketConnection):
    """A connection over a unix socket."""


KINDS: Final[dict[Any, type[Connection | _UnixConnection]]] = {
    SSLConnection: _TlsConnection,
    UnixDomainSocketConnection: _UnixConnection,
}
"""Of what `parse_url` chooses for a URL."""


def pool_of_url(url: str, *, tls_ca_file: str | None) -> BlockingConnectionPool:
    """Return a pool for one server; nothing connects yet.

    It belongs to the first event loop that uses it.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        tls_ca_file: Certificates to trust instead of the system's, for ``rediss://``.
    """
    chosen: dict[str, Any] = dict(parse_url(url))
    kind = KINDS.get(chosen.get("connection_class"), _TcpConnection)
    chosen["connection_class"] = kind
    if kind is _TlsConnection:
        chosen |= _verified(tls_ca_file)
    if kind is not _UnixConnection:
        chosen["socket_keepalive"] = True
    return BlockingConnectionPool(**(chosen | _fixed()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How the servers of a Sentinel service or a Cluster let a client in.

    Attributes:
        tls_ca_file: Certificates to trust instead of the system's.
    """

    is_tls: bool = False
    tls_ca_file: str | None = None
    login: Login = field(default_factory=Login)
    database: int = 0


def pool_of_server(server: TcpAddress, access: Access) -> BlockingConnectionPool:
    """Return a pool for one of several servers; nothing connects yet."""
    chosen: dict[str, Any] = {
        "host": server.host,
        "port": server.port,
        "db": access.database,
        "username": access.login.username,
        "password": access.login.password,
        "socket_keepalive": True,
        "connection_class": _TlsConnection if access.is_tls else _TcpConnection,
    }
    if access.is_tls:
        chosen |= _verified(access.tls_ca_file)
    return BlockingConnectionPool(**(chosen | _fixed()))


def _verified(tls_ca_file: str | None) -> dict[str, Any]:
    """What a URL cannot weaken: the certificate is checked, and the name in it."""
    checked: dict[str, Any] = {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
    return checked if tls_ca_file is None else checked | {"ssl_ca_certs": tls_ca_file}


def _fixed() -> dict[str, Any]:
    """What no query parameter of a URL can change."""
    return {
        "protocol": 2,
        "decode_responses": False,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": ANSWER_WITHIN_S,
        "socket_connect_timeout": CONNECT_WITHIN_S,
        "health_check_interval": CHECK_AFTER_IDLE_S,
        "timeout": FREE_CONNECTION_WITHIN_S,
        "max_connections": MOST_CONNECTIONS,
    }

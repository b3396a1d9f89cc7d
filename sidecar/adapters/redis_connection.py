"""How this sidecar connects to Redis: the settings that keep one call one call.

redis-py retries commands on its own and waits for seconds; a retried command runs twice and a
long wait outlives a lease. So nothing here retries, every wait is short, and whoever asked decides
what an error means. Knows no key and no script.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

ANSWER_WITHIN_S: Final = 0.5
CONNECT_WITHIN_S: Final = 0.5
FREE_CONNECTION_WITHIN_S: Final = 0.5
CHECK_AFTER_IDLE_S: Final = 15
MOST_CONNECTIONS: Final = 32

SUPPORTED: Final = ("redis", "rediss", "unix")
PLANNED: Final = ("redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")


def new_pool(*, url: str, tls_ca_file: str | None) -> BlockingConnectionPool:
    """Return a pool that has not connected yet; it belongs to the first event loop that uses it.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        tls_ca_file: Certificates to trust instead of the system's, for ``rediss://``.

    Raises:
        ValueError: The form of the URL is unknown or not supported yet; never shows the URL.
    """
    scheme = urlsplit(url).scheme
    if scheme in PLANNED:
        raise ValueError(f"a store at {scheme}:// is not supported yet")
    if scheme not in SUPPORTED:
        raise ValueError(f"a store has one of {', '.join(SUPPORTED)} as its scheme")
    chosen: dict[str, Any] = dict(parse_url(url))
    kind = chosen.get("connection_class")
    if kind is SSLConnection:
        chosen |= {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
        if tls_ca_file is not None:
            chosen["ssl_ca_certs"] = tls_ca_file
    if kind is not UnixDomainSocketConnection:
        chosen["socket_keepalive"] = True
    return BlockingConnectionPool(**(chosen | _fixed()))


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

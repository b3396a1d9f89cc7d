"""Where the store is, as one URL says it: one server, a Sentinel service, or a Cluster.

It parses and judges; it connects to nothing. A refusal never repeats the URL, which may hold a
password.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from sidecar.domain.addresses import TcpAddress, parse_address

DEFAULT_PORT: Final = 6379
SENTINEL_PORT: Final = 26379
SCHEMES: Final = (
    "redis",
    "rediss",
    "unix",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """How a client names itself to a server; nothing in it: it does not."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class OneServer:
    """One server; the client library reads the rest of the URL."""

    url: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SentinelService:
    """A primary that Sentinels know by name.

    Attributes:
        sentinels: Who is asked for the primary; not all of them need to be named.
        login: For the primary.
        sentinel_login: For the Sentinels, which have users of their own.
    """

    sentinels: tuple[TcpAddress, ...]
    service: str
    database: int = 0
    is_tls: bool = False
    login: Login = field(default_factory=Login)
    sentinel_login: Login = field(default_factory=Login)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterNodes:
    """A Cluster, known by some of its nodes."""

    nodes: tuple[TcpAddress, ...]
    is_tls: bool = False
    login: Login = field(default_factory=Login)


SSL_PARAMETERS: Final = frozenset(
    {"ssl_certfile", "ssl_keyfile", "ssl_password", "ssl_cert_reqs", "ssl_check_hostname"}
)
"""Of one server: a client certificate; and two that cannot weaken what is always checked."""
LOGIN_PARAMETERS: Final = frozenset(
    {"username", "password", "sentinel_username", "sentinel_password"}
)

StoreAddress = OneServer | SentinelService | ClusterNodes


def parse_store_address(text: str) -> StoreAddress:
    """Return the address that a URL names.

    Raises:
        ValueError: It names none; the message says what it must be, and nothing of the URL.
    """
    try:
        url = urlsplit(text)
    except ValueError:
        raise ValueError("must be a URL") from None
    if url.scheme not in SCHEMES:
        raise ValueError(f"must begin with one of {', '.join(f'{name}://' for name in SCHEMES)}")
    if url.fragment or not all("!" <= letter <= "~" for letter in text):
        raise ValueError("must be a URL without spaces and fragment")
    kind = url.scheme.partition("+")[2]
    if kind == "sentinel":
        return _sentinel(url)
    if kind == "cluster":
        return _cluster(url)
    return _server(url, text)


def is_same_store(first: str, second: str) -> bool:
    """Whether two URLs that can be parsed differ at most in how a client logs in."""
    return _without_login(first) == _without_login(second)


def is_over_tls(text: str) -> bool:
    """Whether a URL that can be parsed asks for TLS."""
    return text.startswith("rediss")


def own_certificate_files(text: str) -> tuple[str, ...]:
    """Return the files by which a URL that can be parsed has a client name itself."""
    given = parse_qs(urlsplit(text).query)
    names = ("ssl_certfile", "ssl_keyfile")
    return tuple(given[name][0] for name in names if name in given)


def _without_login(text: str) -> tuple[object, ...]:
    url = urlsplit(text)
    given = parse_qs(url.query, keep_blank_values=True)
    rest = sorted((name, values) for name, values in given.items() if name not in LOGIN_PARAMETERS)
    return url.scheme, url.netloc.rpartition("@")[2], url.path, rest


def _server(url: SplitResult, text: str) -> OneServer:
    if url.scheme == "unix":
        if not url.path.startswith("/"):
            raise ValueError("must name the path of a socket: unix:///path?db=0")
        return OneServer(url=text)
    try:
        has_host = bool(url.hostname) and (url.port is None or url.port > 0)
    except ValueError:
        has_host = False
    if not has_host or not _is_database(url.path.strip("/")):
        raise ValueError("must be redis://host:port/number or rediss://host:port/number")
    given = parse_qs(url.query, keep_blank_values=True)
    if any(name.startswith("ssl_") and name not in SSL_PARAMETERS for name in given):
        raise ValueError(
            "has a parameter for TLS that is not supported; trust an authority with SIDECAR_CA_FILE"
        )
    return OneServer(url=text)


def _sentinel(url: SplitResult) -> SentinelService:
    login, sentinels = _login_and_nodes(url, SENTINEL_PORT)
    service, _, database = url.path.strip("/").partition("/")
    if not sentinels or not service or not _is_database(database):
        raise ValueError("must be redis+sentinel://host:port,host:port/service/number")
    given = _options(url, "sentinel_username", "sentinel_password")
    return SentinelService(
        sentinels=sentinels,
        service=unquote(service),
        database=int(database or 0),
        is_tls=url.scheme.startswith("rediss"),
        login=login,
        sentinel_login=Login(
            username=given.get("sentinel_username"), password=given.get("sentinel_password")
        ),
    )


def _cluster(url: SplitResult) -> ClusterNodes:
    login, nodes = _login_and_nodes(url, DEFAULT_PORT)
    if not nodes or url.path.strip("/"):
        raise ValueError("must be redis+cluster://host:port,host:port, without a database")
    _options(url)
    return ClusterNodes(nodes=nodes, is_tls=url.scheme.startswith("rediss"), login=login)


def _login_and_nodes(url: SplitResult, port: int) -> tuple[Login, tuple[TcpAddress, ...]]:
    user_info, _, hosts = url.netloc.rpartition("@")
    username, _, password = user_info.partition(":")
    login = Login(username=unquote(username) or None, password=unquote(password) or None)
    found = [_node(host, port) for host in hosts.split(",")]
    nodes = tuple(node for node in found if node is not None)
    return login, nodes if len(nodes) == len(found) else ()


def _node(text: str, port: int) -> TcpAddress | None:
    has_port = text.rpartition("]")[2].count(":") == 1
    node = parse_address(text if has_port else f"{text}:{port}")
    return node if isinstance(node, TcpAddress) and node.port else None


def _options(url: SplitResult, *known: str) -> dict[str, str]:
    given = parse_qs(url.query, keep_blank_values=True)
    if set(given) - set(known) or any(len(values) > 1 for values in given.values()):
        allowed = ", ".join(known) or "none"
        raise ValueError(f"has a parameter that this form does not know; allowed: {allowed}")
    return {name: values[0] for name, values in given.items()}


def _is_database(text: str) -> bool:
    return not text or (text.isascii() and text.isdigit())

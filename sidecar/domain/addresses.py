"""Where a listener listens: ``host:port`` or ``unix:/path``, as a value.

It parses and judges; it opens nothing and does not know which listener it is for.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

HIGHEST_PORT: Final = 65535
LONGEST_SOCKET_PATH: Final = 107
"""Linux keeps 108 bytes for the path of a socket, the closing zero included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpAddress:
    """A host and a port; port 0 lets the kernel choose."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine (or pod) can reach it."""
        return is_loopback_host(self.host)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnixAddress:
    """The path of a Unix socket."""

    path: str

    @property
    def is_loopback(self) -> bool:
        """Always true: a Unix socket is reached through the file system."""
        return True

    def __str__(self) -> str:
        return f"unix:{self.path}"


ListenAddress = TcpAddress | UnixAddress


def is_loopback_host(host: str) -> bool:
    """Whether `host` names this machine: ``localhost`` or a loopback address."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def parse_address(text: str) -> ListenAddress | None:
    """Return the address that `text` names, or ``None`` if it names none."""
    if text.startswith("unix:"):
        return _parse_unix(text.removeprefix("unix:"))
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        return None
    if not colon or not _is_host(host) or not (port.isascii() and port.isdigit()):
        return None
    if len(port) > len(str(HIGHEST_PORT)) or int(port) > HIGHEST_PORT:
        return None
    return TcpAddress(host=host, port=int(port))


def _parse_unix(path: str) -> UnixAddress | None:
    if not path.startswith("/") or path.endswith("/") or "\0" in path:
        return None
    if len(path.encode()) > LONGEST_SOCKET_PATH:
        return None
    return UnixAddress(path=path)


def _is_host(host: str) -> bool:
    return bool(host) and host.isascii() and all(c.isalnum() or c in ".:-_%" for c in host)

"""Connections to a listener of a sidecar with the standard library alone: TCP, TLS, Unix socket.

For commands that must start quickly. It does not know which listener it is, nor what is asked.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from typing import Final, assert_never, final

from sidecar.domain.addresses import ListenAddress, TcpAddress, UnixAddress

_WILDCARDS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - asked, not bound


@final
class UnixConnection(http.client.HTTPConnection):
    """An HTTP connection through the path of a socket."""

    def __init__(self, path: str, *, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect to the path; `http.client` calls this before it sends."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def connection_to(
    address: ListenAddress, *, timeout_s: float, tls: ssl.SSLContext | None = None
) -> http.client.HTTPConnection:
    """Return a connection to whoever listens at `address`; nothing is sent or connected yet.

    A wildcard stands for this machine. A Unix socket has no use for `tls`.
    """
    match address:
        case UnixAddress():
            return UnixConnection(address.path, timeout_s=timeout_s)
        case TcpAddress():
            host = _WILDCARDS.get(address.host, address.host)
            if tls is None:
                return http.client.HTTPConnection(host, address.port, timeout=timeout_s)
            return http.client.HTTPSConnection(host, address.port, timeout=timeout_s, context=tls)
        case _:
            assert_never(address)

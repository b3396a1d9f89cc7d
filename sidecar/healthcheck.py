"""The container's health check: asks ``/readyz`` of the metrics listener, standard library only.

It is started every few seconds, so it imports nothing that takes time; of the configuration it
knows one variable.
"""

from __future__ import annotations

import http.client
import socket
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, final

from sidecar.domain.addresses import ListenAddress, TcpAddress, UnixAddress, parse_address

VARIABLE: Final = "SIDECAR_METRICS_LISTEN"
DEFAULT: Final = "0.0.0.0:9464"
TIMEOUT_S: Final = 3.0
_WILDCARDS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - asked, not bound


@final
class _UnixConnection(http.client.HTTPConnection):
    """An HTTP connection through the path of a socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        """Connect to the path; `http.client` calls this before it sends."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(self._path)


def check(environ: Mapping[str, str]) -> tuple[bool, str]:
    """Return whether the sidecar of this environment is ready, and a word on why not."""
    address = parse_address(environ.get(VARIABLE) or DEFAULT)
    if address is None:
        return False, f"{VARIABLE} is no address"
    connection = _connection(address)
    try:
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return False, f"no answer on {address}: {type(error).__name__}"
    finally:
        connection.close()
    return status == HTTPStatus.OK, f"/readyz answered {status}"


def _connection(address: ListenAddress) -> http.client.HTTPConnection:
    match address:
        case UnixAddress():
            return _UnixConnection(address.path)
        case TcpAddress():
            host = _WILDCARDS.get(address.host, address.host)
            return http.client.HTTPConnection(host, address.port, timeout=TIMEOUT_S)

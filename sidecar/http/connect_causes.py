"""Why a connection to the upstream could not be made, from what aiohttp and the system raise.

It must not know what follows from it.
"""

from __future__ import annotations

import socket
import ssl
from typing import Final

import aiohttp

from sidecar.domain.upstream_failures import (
    SHORTAGES,
    UpstreamCause,
    cause_of_errno,
    cause_of_verification,
)

CONNECT_ERRORS: Final = (TimeoutError, aiohttp.ClientError, OSError)
"""What making a connection can raise."""


def cause_of(error: Exception) -> UpstreamCause:
    """Return why `error`, one of `CONNECT_ERRORS`, was raised."""
    of_system = _cause_of_system(error)
    if of_system in SHORTAGES:
        return of_system
    match error:
        case aiohttp.ClientConnectorDNSError():
            # A resolver without a descriptor for its files and sockets finds no name either.
            return _shortage() or UpstreamCause.DNS
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            return UpstreamCause.EGRESS_PROXY
        case aiohttp.ClientResponseError() | aiohttp.ClientPayloadError():
            return UpstreamCause.MALFORMED_ANSWER
        case aiohttp.ClientConnectorCertificateError():
            return _cause_of_certificate(error.certificate_error)
        case aiohttp.ClientSSLError():
            return UpstreamCause.TLS_OTHER
        case aiohttp.ClientConnectorError() | OSError():
            return of_system
        case _:
            return UpstreamCause.CLOSED


def _cause_of_system(error: Exception) -> UpstreamCause:
    raised = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    match raised:
        case TimeoutError():
            return UpstreamCause.CONNECT_TIMEOUT
        case ConnectionError(errno=None):
            # The loops say so of a peer that ends within the handshake.
            return UpstreamCause.RESET
        case OSError():
            return cause_of_errno(raised.errno)
        case _:
            return UpstreamCause.UNREACHABLE


def _cause_of_certificate(error: Exception) -> UpstreamCause:
    if isinstance(error, ssl.SSLCertVerificationError):
        return cause_of_verification(error.verify_code)
    return UpstreamCause.TLS_OTHER


def _shortage() -> UpstreamCause | None:
    """Return what the process is out of just now, if it cannot have one more socket."""
    try:
        socket.socket().close()
    except OSError as error:
        cause = cause_of_errno(error.errno)
        return cause if cause in SHORTAGES else None
    return None

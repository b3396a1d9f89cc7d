"""Why the upstream gave no answer that can be passed on: a closed set, and what the system says.

It must not know how connections are made, nor what a client is told.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from sidecar.domain.resources import Resource, resource_of_errno


class UpstreamCause(StrEnum):
    """Why an exchange with the upstream failed."""

    DNS = "dns"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    CONNECT_TIMEOUT = "connect_timeout"
    EGRESS_PROXY = "egress_proxy"
    TLS_UNTRUSTED = "tls_untrusted"
    TLS_EXPIRED = "tls_expired"
    TLS_NAME = "tls_name"
    TLS_OTHER = "tls_other"
    NO_DESCRIPTORS = "no_descriptors"
    NO_SYSTEM_DESCRIPTORS = "no_system_descriptors"
    NO_MEMORY = "no_memory"
    RESET = "reset"
    CLOSED = "closed"
    MALFORMED_ANSWER = "malformed_answer"
    SILENT = "silent"


CAUSES: Final[Mapping[UpstreamCause, str]] = {
    UpstreamCause.DNS: "The name of the upstream, or of the egress proxy, has no address.",
    UpstreamCause.REFUSED: "Nothing listens at the address.",
    UpstreamCause.UNREACHABLE: "There is no way to the address, or no connection for a reason "
    "that the system doesn't name.",
    UpstreamCause.CONNECT_TIMEOUT: "No connection, TLS included, within "
    "`SIDECAR_UPSTREAM_CONNECT_TIMEOUT_S`.",
    UpstreamCause.EGRESS_PROXY: "`SIDECAR_EGRESS_PROXY` can't be reached, or refused the tunnel.",
    UpstreamCause.TLS_UNTRUSTED: "The certificate is of no authority that is trusted.",
    UpstreamCause.TLS_EXPIRED: "The certificate expired, or isn't valid yet.",
    UpstreamCause.TLS_NAME: "The certificate is for another name.",
    UpstreamCause.TLS_OTHER: "The TLS handshake failed for another reason.",
    UpstreamCause.NO_DESCRIPTORS: "The sidecar has no file descriptor left for a connection.",
    UpstreamCause.NO_SYSTEM_DESCRIPTORS: "The machine has no open file left for a connection.",
    UpstreamCause.NO_MEMORY: "The system has no memory left for a connection.",
    UpstreamCause.RESET: "The connection was reset before the end of the answer.",
    UpstreamCause.CLOSED: "The connection was closed before the end of the answer.",
    UpstreamCause.MALFORMED_ANSWER: "The answer isn't well-formed HTTP/1.1, or has more than one "
    "reading.",
    UpstreamCause.SILENT: "Nothing came, or nothing of the request was taken, within "
    "`SIDECAR_UPSTREAM_TIMEOUT_S`.",
}
"""What each one means, for the reference."""

_BY_ERRNO: Final[Mapping[int, UpstreamCause]] = {
    errno.ECONNREFUSED: UpstreamCause.REFUSED,
    errno.ECONNRESET: UpstreamCause.RESET,
    errno.EPIPE: UpstreamCause.RESET,
    errno.ECONNABORTED: UpstreamCause.RESET,
    errno.ETIMEDOUT: UpstreamCause.CONNECT_TIMEOUT,
}

SHORTAGES: Final[Mapping[UpstreamCause, Resource]] = {
    UpstreamCause.NO_DESCRIPTORS: Resource.DESCRIPTORS,
    UpstreamCause.NO_SYSTEM_DESCRIPTORS: Resource.SYSTEM_DESCRIPTORS,
    UpstreamCause.NO_MEMORY: Resource.MEMORY,
}
"""The failures that are ours and not the upstream's, and what was missing."""

_BY_RESOURCE: Final[Mapping[Resource, UpstreamCause]] = {
    resource: cause for cause, resource in SHORTAGES.items()
}

# Numbers of OpenSSL's x509_vfy.h.
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_OTHER_NAME: Final = 62
_OTHER_ADDRESS: Final = 64
_BY_VERIFICATION: Final[Mapping[int, UpstreamCause]] = {
    _NOT_YET_VALID: UpstreamCause.TLS_EXPIRED,
    _EXPIRED: UpstreamCause.TLS_EXPIRED,
    _OTHER_NAME: UpstreamCause.TLS_NAME,
    _OTHER_ADDRESS: UpstreamCause.TLS_NAME,
}


def cause_of_errno(number: int | None) -> UpstreamCause:
    """Return why a connection could not be made, from the system's error number."""
    resource = resource_of_errno(number)
    if resource is not None:
        return _BY_RESOURCE[resource]
    return _BY_ERRNO.get(number or 0, UpstreamCause.UNREACHABLE)


def cause_of_verification(code: int) -> UpstreamCause:
    """Return what is wrong with a certificate, from OpenSSL's code of its verification."""
    return _BY_VERIFICATION.get(code, UpstreamCause.TLS_UNTRUSTED)

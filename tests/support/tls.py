"""A private authority, its file, and a server's TLS; imported by the tests that need them."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateTls:
    """TLS for `localhost` by an authority that nobody knows.

    Attributes:
        ca_file: What a client must trust.
        server: What a server listens with.
    """

    ca_file: Path
    server: ssl.SSLContext


def private_tls(directory: Path) -> PrivateTls:
    """Make an authority below `directory` and a certificate of it."""
    authority = trustme.CA()
    ca_file = directory / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(  # pyright: ignore[reportUnknownMemberType]
        server  # (its signature names OpenSSL's own type as well)
    )
    return PrivateTls(ca_file=ca_file, server=server)

"""A private authority, its file, and a server's TLS; imported by the tests that need them."""

from __future__ import annotations

import ssl
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme

from tests.support.redis_server import RedisServer, free_port


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


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsRedis:
    """A Redis that also listens over TLS.

    Attributes:
        url: Its address over TLS, by name.
        ca_file: What a client must trust.
    """

    server: RedisServer
    url: str
    ca_file: Path


@contextmanager
def tls_redis(directory: Path, authority: trustme.CA) -> Generator[TlsRedis]:
    """Run a Redis in `directory` with a certificate of `authority` for `localhost`."""
    made, port = authority.issue_cert("localhost", "127.0.0.1"), free_port()
    ca_file, chain, key = (directory / f"redis-{name}.pem" for name in ("ca", "chain", "key"))
    authority.cert_pem.write_to_path(str(ca_file))
    made.cert_chain_pems[0].write_to_path(str(chain))
    made.private_key_pem.write_to_path(str(key))
    server = RedisServer(
        directory,
        options=(
            *("--tls-port", str(port), "--tls-auth-clients", "no"),
            *("--tls-cert-file", str(chain), "--tls-key-file", str(key)),
            *("--tls-ca-cert-file", str(ca_file)),
        ),
    )
    server.start()
    try:
        yield TlsRedis(server=server, url=f"rediss://localhost:{port}/0", ca_file=ca_file)
    finally:
        server.stop()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopbackTls:
    """TLS between a client and a server at 127.0.0.1 that trust one another."""

    server: ssl.SSLContext
    client: ssl.SSLContext


def loopback_tls() -> LoopbackTls:
    """Make an authority, a server of it, and a client that trusts it."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(  # pyright: ignore[reportUnknownMemberType]
        server  # (its signature names OpenSSL's own type as well)
    )
    client = ssl.create_default_context()
    authority.configure_trust(client)  # pyright: ignore[reportUnknownMemberType]
    return LoopbackTls(server=server, client=client)

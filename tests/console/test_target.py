"""Whom the commands trust that ask a control listener over TLS."""

from __future__ import annotations

import argparse
import ssl
from pathlib import Path

import pytest
import trustme

from sidecar.console.target import Target, add_options, find_target
from tests.support.environment import good_environment


def trusted(environ: dict[str, str], *words: str) -> ssl.SSLContext:
    parser = argparse.ArgumentParser()
    add_options(parser)
    target = find_target(parser.parse_args(["--control", "https://localhost:1", *words]), environ)
    assert isinstance(target, Target)
    assert target.tls is not None
    return target.tls


def accepts(client: ssl.SSLContext, certificate: trustme.LeafCert) -> bool:
    """Whether a client shakes hands with a server that shows `certificate`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)  # pyright: ignore[reportUnknownMemberType]
    # (its signature names OpenSSL's own type as well)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = (
        client.wrap_bio(to_client, to_server, server_hostname="localhost"),
        context.wrap_bio(to_server, to_client, server_side=True),
    )
    done: set[ssl.SSLObject] = set()
    while len(done) < len(sides):
        for side in sides:
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError:
                return False
    return True


@pytest.fixture
def of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.LeafCert:
    """A certificate that the system's authorities vouch for."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "system.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "system.pem"))
    return authority.issue_cert("localhost")


def test_a_named_file_stands_instead_of_the_systems_authorities(
    tmp_path: Path, of_the_system: trustme.LeafCert
) -> None:
    """With `--ca-file` no other authority is trusted; without it the system's are."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    of_the_file = authority.issue_cert("localhost")

    plain = trusted(good_environment())
    named = trusted(good_environment(), "--ca-file", str(tmp_path / "ca.pem"))

    assert [accepts(plain, each) for each in (of_the_system, of_the_file)] == [True, False]
    assert [accepts(named, each) for each in (of_the_system, of_the_file)] == [False, True]


def test_the_listeners_own_certificate_is_trusted_and_nothing_else(
    tmp_path: Path, of_the_system: trustme.LeafCert
) -> None:
    """In the sidecar's environment its certificate is known, whichever authority issued it."""
    own = trustme.CA().issue_cert("localhost")
    own.cert_chain_pems[0].write_to_path(str(tmp_path / "own.pem"))

    tls = trusted(good_environment(CONTROL_TLS_CERT=str(tmp_path / "own.pem")))

    assert [accepts(tls, each) for each in (own, of_the_system)] == [True, False]

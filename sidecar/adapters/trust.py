"""TLS contexts, all made here: whom this process trusts as a client, what its listeners show.

A context with the system's authorities takes some 40 ms to make, so one is made for each file of
authorities, before anything connects, and every connection shares it. A named file stands instead
of the system's authorities, and adds nothing to them. Files that cannot be used raise; what is said
about them is the caller's business.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Final, final

UNUSABLE_FILE: Final = (OSError, ValueError)
"""What a file that cannot be used as certificates or a key raises (`ssl.SSLError` included)."""


def client_context(ca_file: str | None) -> ssl.SSLContext:
    """Return a context that trusts the authorities of `ca_file` alone, or else the system's.

    Raises:
        OSError: The file cannot be read, or holds no certificates.
        ValueError: As above.
    """
    return ssl.create_default_context(cafile=ca_file)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCertificate:
    """Files by which this process names itself as a client."""

    certificate: str
    key: str | None = None
    passphrase: str | None = field(default=None, repr=False)


@final
class Trust:
    """The authorities that a client trusts.

    Attributes:
        context: Shared by every connection that shows no certificate of its own.
    """

    def __init__(self, ca_file: str | None = None) -> None:
        """Read the authorities; see `client_context`."""
        self.context = client_context(ca_file)
        self._ca_file = ca_file
        self._showing: dict[ClientCertificate, ssl.SSLContext] = {}

    def showing(self, own: ClientCertificate) -> ssl.SSLContext:
        """Return a context that trusts the same and shows `own`; made once.

        Raises:
            OSError: A file cannot be read or used.
            ValueError: As above.
        """
        context = self._showing.get(own)
        if context is None:
            context = client_context(self._ca_file)
            _show(context, own.certificate, own.key, own.passphrase or "")
            self._showing[own] = context
        return context


def server_context(certificate: str, key: str | None) -> ssl.SSLContext:
    """Return a context that shows a certificate chain.

    Raises:
        OSError: A file cannot be read or used, or the key does not belong to the certificate.
        ValueError: As above.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _show(context, certificate, key, "")
    return context


def _show(context: ssl.SSLContext, certificate: str, key: str | None, passphrase: str) -> None:
    # With a callback, since OpenSSL would ask a terminal for the passphrase of an encrypted key.
    context.load_cert_chain(certificate, key, password=lambda: passphrase)


@final
class ShownCertificate:
    """The certificate of one listener, which may be replaced while it listens.

    Attributes:
        context: What the listener is opened with.
    """

    def __init__(self, current: ssl.SSLContext) -> None:
        """Show what `current` holds."""
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._current = current

        def choose(wanted: ssl.SSLObject, _name: str | None, _own: ssl.SSLContext) -> None:
            wanted.context = self._current

        # OpenSSL calls it in every handshake, also where the client names no host.
        self.context.sni_callback = choose

    def replace(self, current: ssl.SSLContext) -> None:
        """Show another certificate from the next handshake on; open connections stay."""
        self._current = current

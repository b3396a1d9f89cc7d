"""What files hold apart from text: certificates and keys, read and tried before anything uses them.

The start, a reload, `check-config` and `doctor` all ask here, so that they agree on what can be
used. It starts nothing and changes nothing.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sidecar.adapters.redis_topology import entries_of
from sidecar.adapters.trust import UNUSABLE_FILE, Trust, server_context
from sidecar.domain.store_address import own_certificate_files
from sidecar.settings import Problem, Settings
from sidecar.settings.loading import variable_of

SYSTEM: Final = "the system's authorities"
FILES: Final = (
    "ca_file",
    "control_tls_cert",
    "control_tls_key",
    "connect_tls_cert",
    "connect_tls_key",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """What was made of the files that settings name.

    Attributes:
        control: What the control listener shows, or ``None`` in plain text.
        connect: As above, for the connect listener.
        marks: A digest of each file by what names it, to tell a change.
    """

    trust: Trust
    control: ssl.SSLContext | None
    connect: ssl.SSLContext | None
    marks: Mapping[str, bytes]


def read_tls_files(settings: Settings) -> TlsFiles | tuple[Problem, ...]:
    """Return what the files hold, or all that is wrong with them; it blocks for some 50 ms."""
    marks = dict(_marks(settings))
    problems: list[Problem] = []
    try:
        trust = Trust(settings.ca_file)
    except UNUSABLE_FILE:
        problems.append(
            _problem(
                "ca_file",
                "the file holds no certificates that can be read; "
                "give the certificates of the authorities in PEM",
            )
        )
        trust = Trust()
    try:
        entries_of(settings.redis_url.reveal(), trust=trust)
    except UNUSABLE_FILE:
        sentence = "names a client certificate and a key that cannot be used; give both in PEM"
        problems.append(_problem("redis_url", sentence))
    shown = {
        name: _shown(name, getattr(settings, f"{name}_tls_cert"), problems, settings=settings)
        for name in ("control", "connect")
    }
    if problems:
        return tuple(problems)
    return TlsFiles(trust=trust, marks=marks, **shown)


def _shown(
    listener: str, certificate: str | None, problems: list[Problem], *, settings: Settings
) -> ssl.SSLContext | None:
    if certificate is None:
        return None
    try:
        return server_context(certificate, getattr(settings, f"{listener}_tls_key"))
    except UNUSABLE_FILE:
        problems.append(
            _problem(
                f"{listener}_tls_cert",
                "certificate and key cannot be used together; give the certificate chain in PEM, "
                f"and in {variable_of(f'{listener}_tls_key')} the private key, without a "
                "passphrase, that belongs to its first certificate",
            )
        )
    return None


def _problem(field: str, sentence: str) -> Problem:
    return Problem(variable=variable_of(field), sentence=sentence)


def _marks(settings: Settings) -> Iterator[tuple[str, bytes]]:
    for field in FILES:
        path: str | None = getattr(settings, field)
        if path is not None:
            yield variable_of(field), _digest(path)
    own = own_certificate_files(settings.redis_url.reveal())
    yield variable_of("redis_url"), b"".join(map(_digest, own))
    system: str | None = ssl.get_default_verify_paths().cafile  # typeshed has it never missing
    if settings.ca_file is None and system:
        yield SYSTEM, _digest(system)


def _digest(path: str) -> bytes:
    """Return what tells a file's content; nothing where it cannot be read: its use will say so."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).digest()
    except OSError:
        return b""

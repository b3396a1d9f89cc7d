"""Which sidecar is asked, and with which key: from options, else from the environment of `run`.

So that in the sidecar's own container nothing has to be said. A key comes from a file or the
environment and never from the command line, which every process of the machine can read.
"""

from __future__ import annotations

import argparse
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast
from urllib.parse import urlsplit

from sidecar.adapters.trust import UNUSABLE_FILE, client_context
from sidecar.domain.addresses import ListenAddress, parse_address
from sidecar.domain.secret import LARGEST_SECRET_BYTES, Secret, text_of_secret
from sidecar.settings.forms import VISIBLE, Refused
from sidecar.settings.keys import NamedKey, split_keys
from sidecar.settings.loading import load_one
from sidecar.settings.rules import Problem

ADDRESS_FORMS: Final = "host:port, https://host:port or unix:/path"
OPTION: Final = "--control"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A control listener and a key of it.

    Attributes:
        tls: ``None``: it is asked in plain text.
    """

    address: ListenAddress
    key: Secret
    tls: ssl.SSLContext | None = None


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give a command the options that `find_target` reads."""
    parser.add_argument(
        OPTION,
        metavar="ADDRESS",
        help=f"control listener: {ADDRESS_FORMS} (default: that of SIDECAR_CONTROL_LISTEN)",
    )
    parser.add_argument(
        "--key-file",
        metavar="FILE",
        help="file with a control key (default: the first of SIDECAR_CONTROL_KEYS or its _FILE)",
    )
    parser.add_argument(
        "--ca-file",
        metavar="FILE",
        help="certificates (PEM) to trust for https, and no others (default: "
        "SIDECAR_CONTROL_TLS_CERT, else the system's)",
    )


def find_target(options: argparse.Namespace, environ: Mapping[str, str]) -> Target | Problem:
    """Return whom to ask, or what is wrong; a problem repeats no value."""
    found = _address(options.control, environ)
    if isinstance(found, Problem):
        return found
    address, is_tls = found
    key = _key(options.key_file, environ)
    if isinstance(key, Problem):
        return key
    if not is_tls:
        if address.is_loopback or load_one("allow_plaintext_control", environ) is True:
            return Target(address=address, key=key)
        sentence = (
            "is beyond this machine and plain text: the key could be read on the way; use https://"
            "host:port, or set SIDECAR_ALLOW_PLAINTEXT_CONTROL=true"
        )
        return Problem(variable=OPTION, sentence=sentence)
    tls = _tls(options.ca_file or "", environ)
    return tls if isinstance(tls, Problem) else Target(address=address, key=key, tls=tls)


def _address(given: str | None, environ: Mapping[str, str]) -> tuple[ListenAddress, bool] | Problem:
    if given is None:
        address = load_one("control_listen", environ)
        if isinstance(address, Problem):
            return address
        return cast("ListenAddress", address), bool(environ.get("SIDECAR_CONTROL_TLS_CERT"))
    scheme, separator, _ = given.partition("://")
    if separator and scheme not in ("http", "https"):
        return Problem(variable=OPTION, sentence=f"must be {ADDRESS_FORMS}")
    parsed = parse_address(urlsplit(given).netloc if separator else given)
    if parsed is None:
        return Problem(variable=OPTION, sentence=f"must be {ADDRESS_FORMS}")
    return parsed, scheme == "https" and bool(separator)


def _key(file: str | None, environ: Mapping[str, str]) -> Secret | Problem:
    if file is None:
        keys = load_one("control_keys", environ)
        if isinstance(keys, Problem):
            return keys
        return cast("tuple[NamedKey, ...]", keys)[0].key
    try:
        with Path(file).open("rb") as opened:
            text = text_of_secret(opened.read(LARGEST_SECRET_BYTES + 1))
    except (OSError, ValueError):
        text = None
    if text is None:
        return Problem(variable="--key-file", sentence="is empty, too large or cannot be read")
    try:
        return split_keys(text)[0].key
    except Refused:  # not as in SIDECAR_CONTROL_KEYS: the key alone
        if VISIBLE.fullmatch(text) is None:
            return Problem(variable="--key-file", sentence="must hold one key, without spaces")
        return Secret(text)


def _tls(ca_file: str, environ: Mapping[str, str]) -> ssl.SSLContext | Problem:
    own = environ.get("SIDECAR_CONTROL_TLS_CERT", "")
    try:
        tls = client_context(ca_file or own or None)
    except UNUSABLE_FILE:
        return Problem(variable="--ca-file", sentence="holds no certificates that can be read")
    if own and not ca_file:
        # The listener's own certificate is trusted itself, whatever authority issued it.
        tls.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return tls

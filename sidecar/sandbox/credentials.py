"""Reads how an app proves itself to the token service, strictly as documented or as dex would.

It must not know what the app then asks for.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias, final
from urllib.parse import unquote_plus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.sandbox.settings import SandboxSettings

Place: TypeAlias = Literal["basic", "body", "either"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A client id and secret as they came; empty where one is missing."""

    client_id: str = ""
    client_secret: str = field(default="", repr=False)

    def belong_to(self, settings: SandboxSettings) -> bool:
        """Tell whether both are the app's, as they are or percent-encoded (RFC 6749, 2.3.1)."""
        return _matches(self.client_id, settings.client_id) and _matches(
            self.client_secret, settings.client_secret
        )


def prove_client(
    authorization: str | None,
    form: Mapping[str, str],
    *,
    place: Place,
    settings: SandboxSettings,
) -> bool:
    """Tell whether a request comes from the app.

    A strict sandbox wants the credentials in the documented place and nowhere else. Otherwise Basic
    goes before the body, as in dex.
    """
    in_body = bool(form.get("client_id") or form.get("client_secret"))
    in_header = authorization is not None
    if settings.strict_auth and place == "basic" and in_body:
        return False
    if settings.strict_auth and place == "body" and in_header:
        return False
    found = _basic(authorization) if authorization is not None else body_credentials(form)
    return found.belong_to(settings)


def body_credentials(form: Mapping[str, str]) -> Credentials:
    """Read the credentials of a form."""
    return Credentials(
        client_id=form.get("client_id", ""), client_secret=form.get("client_secret", "")
    )


def _basic(authorization: str) -> Credentials:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return Credentials()
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return Credentials()
    client_id, _, client_secret = decoded.partition(":")
    return Credentials(client_id=client_id, client_secret=client_secret)


def _matches(given: str, expected: str) -> bool:
    return any(
        hmac.compare_digest(form.encode(), expected.encode())
        for form in (given, unquote_plus(given))
    )

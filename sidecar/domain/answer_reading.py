"""What the bytes of a token answer hold: the tokens of a whole or torn one, the words of an error.

It reads any bytes without raising, and saves a refresh token from a torn answer as soon as its
closing quote is there: that token is the only live one in the world. It must not know statuses or
decide what an answer means (see `sidecar.domain.token_wire`).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final, cast

from sidecar.domain.secret import Secret

_BEARER: Final = re.compile(r"[!-~]+")
"""An id_token goes into a header: visible ASCII, no blank, no line end."""

_OPAQUE: Final = re.compile("[^\\x00-\\x1f\\x7f\\ud800-\\udfff\\ufffd]+")
"""A refresh token goes into a form: anything UTF-8 can say that is no scar of a bad decoding."""

_BOM: Final = b"\xef\xbb\xbf"
_DECODER: Final = json.JSONDecoder()
_HTML_MEDIA_TYPES: Final = frozenset({"text/html", "application/xhtml+xml"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenMembers:
    """What a body held of a token answer.

    Attributes:
        expires_in: The member as it came, to be believed or not.
        grant_id: The top-level member as it came.
        is_whole: The body was one whole JSON text, so what is missing was never sent.
    """

    id_token: Secret | None = None
    refresh_token: Secret | None = None
    expires_in: object = None
    grant_id: object = None
    is_whole: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorMembers:
    """``error`` and ``error_description`` as they came, or ``""``; not fit for a log yet."""

    error: str = ""
    description: str = ""


def read_tokens(body: bytes) -> TokenMembers:
    """Return the tokens in `body`; where it is no whole JSON, what can be saved from it."""
    try:
        parsed: object = json.loads(body)
    except (ValueError, RecursionError):
        return _salvage(body)
    if not isinstance(parsed, dict):
        return TokenMembers(is_whole=True)
    members = cast("dict[str, object]", parsed)
    return TokenMembers(
        id_token=_secret(members.get("id_token"), _BEARER),
        refresh_token=_secret(members.get("refresh_token"), _OPAQUE),
        expires_in=members.get("expires_in"),
        grant_id=members.get("grant_id"),
        is_whole=True,
    )


def read_error(body: bytes) -> ErrorMembers:
    """Return the OAuth error that `body` tells, if it does."""
    try:
        parsed: object = json.loads(body)
    except (ValueError, RecursionError):
        return ErrorMembers()
    if not isinstance(parsed, dict):
        return ErrorMembers()
    members = cast("dict[str, object]", parsed)
    error, description = members.get("error"), members.get("error_description")
    return ErrorMembers(
        error=error if isinstance(error, str) else "",
        description=description if isinstance(description, str) else "",
    )


def begins_an_object(body: bytes) -> bool:
    """Whether the body is a JSON object, or the beginning of one."""
    return body.removeprefix(_BOM).lstrip()[:1] == b"{"


def leading_object(body: bytes) -> bytes | None:
    """Return the complete JSON object that the body begins with, or ``None``.

    No part of an object is an object, so this is whole, whatever was to follow it.
    """
    if not begins_an_object(body):
        return None
    text = body.removeprefix(_BOM).decode("utf-8", errors="surrogateescape").lstrip()
    try:
        _, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return text[:end].encode("utf-8", errors="surrogateescape")


def is_page(body: bytes, content_type: str) -> bool:
    """Whether this is a page for people, so not an answer of the token service at all."""
    return content_type in _HTML_MEDIA_TYPES or body.lstrip()[:1] == b"<"


def _salvage(body: bytes) -> TokenMembers:
    text = body.decode("utf-8", errors="replace")
    return TokenMembers(
        id_token=_secret(_last_string(text, "id_token"), _BEARER),
        refresh_token=_secret(_last_string(text, "refresh_token"), _OPAQUE),
        is_whole=False,
    )


def _last_string(text: str, name: str) -> object:
    """Return the member's last complete value: the one a JSON parser would have kept."""
    found: object = None
    for match in re.finditer(rf'"{name}"\s*:\s*("(?:[^"\\\x00-\x1f]|\\.)*")', text):
        try:
            found = json.loads(match[1])
        except ValueError:
            found = None
    return found


def _secret(value: object, shape: re.Pattern[str]) -> Secret | None:
    return Secret(value) if isinstance(value, str) and shape.fullmatch(value) else None

"""The last net under every log line: masks what looks like a secret, whoever put it there.

No event carries a secret on purpose; this catches accidents, libraries included. A finished line is
first searched for a few telltale strings, which costs two microseconds; only a line that has one is
taken apart and masked field by field. It knows shapes and names, not values.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final, cast

MASK: Final = "****"

SECRET_NAMES: Final = frozenset(
    {
        "access_token",
        "authorization",
        "client_secret",
        "code",
        "control_key",
        "cookie",
        "encryption_key",
        "hash_key",
        "id_token",
        "key",
        "password",
        "refresh_token",
        "secret",
        "set-cookie",
        "sidecar-key",
        "token",
    }
)
"""Names of fields whose value is masked whatever it looks like."""

TELLTALES: Final = (" ", "=", "?", "@", "\\", "[", "eyJ", "ory_", "Chl", "Chk")
"""What a line must hold for any of the shapes below to be in it: a single character costs a
twentieth of a microsecond, and the usual line of a request holds none."""

_SPELLINGS: Final = frozenset(
    spelling
    for name in SECRET_NAMES
    for spelling in (name, name.title(), name.capitalize(), name.upper())
)

_SHAPES: Final = (
    # JSON Web Tokens, whole or cut: the first part is base64 of '{"'.
    (re.compile(r"eyJ[A-Za-z0-9_-]{6,}(\.[A-Za-z0-9_=-]*){0,2}"), MASK),
    (re.compile(r"(?i)\b(bearer|basic)\s+[^\s,;\"']+"), rf"\1 {MASK}"),
    # Ory's tokens and codes, and dex's (base64 of a message whose first field is a string).
    (re.compile(r"ory_[a-z]{2}_[A-Za-z0-9_.-]+"), MASK),
    (re.compile(r"\bCh[lk][A-Za-z0-9_/+=-]{16,}"), MASK),
    (re.compile(r"(://)[^/\s@]*@"), rf"\1{MASK}@"),
    (re.compile(r"((?:://|/)[^\s?]*\?)[^\s]+"), rf"\1{MASK}"),
    (
        re.compile(
            r"(?i)\b((?:access_|refresh_|id_)?token|client_secret|secret|password|code"
            r"|authorization|sidecar-key|cookie)(\s*=\s*|\s*:\s+|\"\s*:\s*)(\"?)(?!\*|(?:bearer|basic)\s)[^\s&,;\"']+"
        ),
        rf"\1\2\3{MASK}",
    ),
)


def is_suspect(line: str, fields: Mapping[str, object]) -> bool:
    """Whether a finished line of `fields` might hold a secret; when it says no, none has a shape.

    Names of nested fields are not looked at: a line that has any is suspect.
    """
    for telltale in TELLTALES:
        if telltale in line:
            return True
    return line.find("{", 1) > 0 or not _SPELLINGS.isdisjoint(fields)


def redact_text(text: str) -> str:
    """Return `text` with everything masked that has the shape of a secret."""
    for shape, mask in _SHAPES:
        text = shape.sub(mask, text)
    return text


def redact(fields: Mapping[str, object]) -> dict[str, object]:
    """Return `fields` with secrets masked, at any depth and in names of fields too."""
    return {
        redact_text(name): MASK if name.lower() in SECRET_NAMES else _redact_value(value)
        for name, value in fields.items()
    }


def _redact_value(value: object) -> object:
    match value:
        case str():
            return redact_text(value)
        case bytes():
            return redact_text(value.decode("utf-8", "replace"))
        case bool() | int() | float() | None:
            return value
        case Mapping():
            mapping = cast("Mapping[object, object]", value)
            return redact({str(name): member for name, member in mapping.items()})
        case Sequence() | AbstractSet():
            members = cast("Iterable[object]", value)
            return [_redact_value(member) for member in members]
        case _:
            return redact_text(repr(value))

"""How the identity provider spells its ids, codes and tokens.

dex and Hydra spell them differently, and their users can tell. It must not know what they mean.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sidecar.sandbox.settings import Profile

_ID_BYTES: Final = 16
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
_DIGEST_LENGTH: Final = 16
_HYDRA_TOKEN_BYTES: Final = 32


def new_id() -> str:
    """Draw a fresh id of dex's form: 25 characters of lower-case base 32, a letter in front."""
    raw = secrets.token_bytes(_ID_BYTES)
    tail = base64.b32encode(raw[1:]).decode().rstrip("=").lower()
    return _LETTERS[raw[0] % len(_LETTERS)] + tail


def new_code(profile: Profile) -> str:
    """Draw a fresh authorization code."""
    return new_id() if profile == "dex" else f"ory_ac_{secrets.token_urlsafe(_HYDRA_TOKEN_BYTES)}"


def new_refresh_token(profile: Profile, *, family: str) -> str:
    """Draw a fresh refresh token of a family.

    dex packs the family's id, which stays, and a secret, which changes, so the tokens of a family
    begin alike.
    """
    if profile == "hydra":
        return f"ory_rt_{secrets.token_urlsafe(_HYDRA_TOKEN_BYTES)}"
    return _base64url(_two_fields(family, new_id()))


def new_access_token() -> str:
    """Draw a fresh access token of Hydra's form; nothing here takes it as a bearer."""
    return f"ory_at_{secrets.token_urlsafe(_HYDRA_TOKEN_BYTES)}"


def subject(*, user: str, provider: str) -> str:
    """Spell the `sub` claim as dex does: stable for a user of a provider."""
    return _base64url(_two_fields(user, provider))


def digest(token: str) -> str:
    """Name a token without telling it: the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(token.encode()).hexdigest()[:_DIGEST_LENGTH]


def stable_id(*parts: str, length: int = _DIGEST_LENGTH) -> str:
    """Derive an id that is the same in every run from the things it stands for."""
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:length]


def _two_fields(first: str, second: str) -> bytes:
    """Encode a protobuf message of two strings."""
    out = bytearray()
    for tag, text in ((0x0A, first), (0x12, second)):
        raw = text.encode()
        out.append(tag)
        length = len(raw)
        while length > 0x7F:  # noqa: PLR2004 - seven bits a byte: a protobuf varint
            out.append(0x80 | (length & 0x7F))
            length >>= 7
        out.append(length)
        out += raw
    return bytes(out)


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")

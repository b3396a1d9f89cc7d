"""How the text of a variable becomes keys: of clients, of the control listener, for sealing.

No key is repeated in an error. What a key is used for is decided elsewhere.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import Annotated, Final

from sidecar.domain.secret import Secret
from sidecar.settings.forms import FROM_FILE, VISIBLE, Form, Parser, Refused, refuse_repeats

KEY_BYTES: Final = 32
SHORTEST_KEY: Final = 32
"""Characters of a client key or control key."""

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedKey:
    """A key and the name that logs may show for it."""

    name: str
    key: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class SealingKey:
    """A key that seals what lies in the store and the spool.

    Attributes:
        key: 32 bytes.
    """

    key_id: str
    key: bytes = field(repr=False)


def split_keys(text: str) -> tuple[NamedKey, ...]:
    """Return the keys of ``name:key[,name:key...]``.

    Raises:
        Refused: The text has another shape, a name or a key stands twice, or a key is
            short.
    """
    keys: list[NamedKey] = []
    for part in text.split(","):
        name, colon, key = part.strip().partition(":")
        if not colon or not _NAME.fullmatch(name):
            raise Refused("must be name:key[,name:key...], names of A-Z a-z 0-9 . _ -")
        if not VISIBLE.fullmatch(key):
            raise Refused("keys must be visible ASCII characters without spaces")
        if len(key) < SHORTEST_KEY:
            raise Refused(f"keys must have at least {SHORTEST_KEY} characters")
        keys.append(NamedKey(name=name, key=Secret(key)))
    refuse_repeats((key.name for key in keys), "the same name stands twice")
    refuse_repeats((key.key for key in keys), "the same key stands twice")
    return tuple(keys)


def _named_keys(value: str) -> tuple[NamedKey, ...]:
    return split_keys(value)


def _decode_key(text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:
        raise Refused(f"must hold {KEY_BYTES} bytes in base64") from None
    if len(key) != KEY_BYTES:
        raise Refused(f"must hold {KEY_BYTES} bytes in base64")
    return key


def _hash_key(value: str) -> bytes:
    return _decode_key(value)


def _sealing_keys(value: str) -> tuple[SealingKey, ...]:
    keys: list[SealingKey] = []
    for part in value.split(","):
        key_id, colon, key = part.strip().partition(":")
        if not colon or not _NAME.fullmatch(key_id):
            raise Refused("must be kid:base64key[,kid:base64key...], kid of A-Z a-z 0-9 . _ -")
        keys.append(SealingKey(key_id=key_id, key=_decode_key(key)))
    refuse_repeats((key.key_id for key in keys), "the same key id stands twice")
    refuse_repeats((key.key for key in keys), "the same key stands twice")
    return tuple(keys)


NamedKeys = Annotated[
    tuple[NamedKey, ...],
    Parser(_named_keys),
    FROM_FILE,
    Form(f"`name:key[,name:key…]`, keys of at least {SHORTEST_KEY} characters"),
]
HashKey = Annotated[bytes, Parser(_hash_key), FROM_FILE, Form("32 bytes in base64")]
SealingKeys = Annotated[
    tuple[SealingKey, ...],
    Parser(_sealing_keys),
    FROM_FILE,
    Form("`kid:base64key[,kid:base64key…]`, 32 bytes each"),
]

"""An environment that the settings accept, to be changed by one variable at a time."""

from __future__ import annotations

import base64
from typing import Final

CANARY: Final = "canary-5f1e"
"""Stands in every secret below; must never be seen anywhere."""


def encoded_key(letter: str) -> str:
    """Return 32 equal bytes in base64."""
    return base64.b64encode(letter.encode() * 32).decode()


def good_environment(**changes: str) -> dict[str, str]:
    """Return the least environment that `load` accepts, with `changes` under short names."""
    environment = {
        "SIDECAR_AKOYA_CLIENT_ID": "app-1",
        "SIDECAR_AKOYA_CLIENT_SECRET": f"{CANARY}-secret",
        "SIDECAR_ENCRYPTION_KEYS": f"k1:{encoded_key('e')}",
        "SIDECAR_HASH_KEY": encoded_key("h"),
        "SIDECAR_CONTROL_KEYS": f"ops:{CANARY}-{'c' * 32}",
    }
    return environment | {f"SIDECAR_{name}": value for name, value in changes.items()}

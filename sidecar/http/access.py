"""Which client key belongs to whom, told in constant time.

Used by the proxy (client keys) and the control listener (control keys); it does not know where on
a request a key lies.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import final

from sidecar.domain.secret import Secret


@final
class AccessKeys:
    """Named keys; a key that is shown is compared with all of them, whatever matches."""

    __slots__ = ("_digests",)

    def __init__(self, *, keys: Mapping[str, Secret]) -> None:
        self.replace(keys)

    def replace(self, keys: Mapping[str, Secret]) -> None:
        """Know these keys, and no others, from the next request on."""
        self._digests = tuple((name, _digest(key)) for name, key in keys.items())

    def __bool__(self) -> bool:
        return bool(self._digests)

    def name_of(self, shown: Secret | None) -> str | None:
        """Return the name of the key that was shown, or ``None`` if it is none of them."""
        if shown is None:
            return None
        digest = _digest(shown)
        matching = None
        for name, known in self._digests:
            # Equal lengths (both are digests), and no early end: time tells nothing.
            if hmac.compare_digest(known, digest):
                matching = name
        return matching


def _digest(key: Secret) -> bytes:
    return hashlib.sha256(key.reveal().encode("utf-8", "surrogatepass")).digest()

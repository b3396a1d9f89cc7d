"""A sealer that hides nothing and costs nothing: what it seals is bound to its place, and plain.

For stories of thousands of claims, in which real ciphers would take most of the time and a test
wants to see which token lies where: a fingerprint is the token itself. What real envelopes promise
is shown where they are real. It must not know what it seals.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Final, final

from sidecar.domain.record import GrantId, GrantKey
from sidecar.domain.sealing import KeyName, SealContext
from sidecar.domain.secret import Secret
from sidecar.ports import SealError

_KEY_ID: Final = b"glass"


@final
class GlassSealer:
    """Implements `sidecar.ports.Sealer` without a secret.

    Attributes:
        opens: Told of each envelope that is about to be opened.
    """

    def __init__(self) -> None:
        self.opens: Callable[[SealContext], None] = _ignore
        self._names: dict[GrantKey, GrantId] = {}

    def seal(self, plaintext: bytes, *, context: SealContext) -> bytes:
        """Return an envelope that only `context` opens."""
        return _place(context) + plaintext

    def open(self, envelope: bytes, *, context: SealContext) -> bytes:
        """Return the plaintext.

        Raises:
            SealError: The envelope is not of this context.
        """
        self.opens(context)
        place = _place(context)
        if not envelope.startswith(place):
            raise SealError(_KEY_ID.decode())
        return envelope[len(place) :]

    def is_current(self, envelope: bytes) -> bool:
        """Whether the envelope is one of this sealer's."""
        return envelope.startswith(_KEY_ID)

    def grant_id(self, key: GrantKey) -> GrantId:
        """Return the hash that names the grant everywhere."""
        if key not in self._names:
            named = hashlib.sha256(f"{key.provider}/{key.user}".encode())
            self._names[key] = GrantId(named.hexdigest()[:32])
        return self._names[key]

    def fingerprint(self, refresh_token: Secret) -> str:
        """Return the token itself, so that a test can tell which one it looks at."""
        return refresh_token.reveal()

    def proofs(self) -> Mapping[KeyName, str]:
        """Return that there is one key, which is no secret."""
        return {KeyName(key_id=_KEY_ID.decode()): _KEY_ID.decode()}


def _ignore(context: SealContext) -> None:
    """Nobody looks in most tests."""
    del context


def _place(context: SealContext) -> bytes:
    bound = (context.purpose, context.grant, context.consent_id, context.claim_id)
    return b"%b|%b|%d|" % (_KEY_ID, "|".join(bound).encode(), context.generation)

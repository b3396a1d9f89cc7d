"""Seals tokens, and names grants and tokens by keyed hashes; the only importer of ``cryptography``.

An envelope is ``ak1|<key id>|`` in ASCII, then a random nonce of 12 bytes, then the AES-256-GCM
ciphertext with its tag. Each record has a key of its own, derived from the master key and the grant
id with HKDF-SHA256, so random nonces cannot run out. The associated data binds an envelope to its
format, key id, environment, client and every field of the `SealContext`: moved to another user,
generation or purpose, it does not open.

The hash key names things and is never rotated; a hash tells nothing to whoever lacks the key. It
must not know what it seals, where envelopes are kept, or when a key is due to be replaced.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sidecar.domain.record import GrantId, GrantKey
from sidecar.domain.sealing import KeyName, SealContext
from sidecar.domain.secret import Secret
from sidecar.ports import SealError

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_HASH_BYTES: Final = 16
_BUSY_GRANTS: Final = 4096
_FORMAT: Final = b"ak1"
_PROOF: Final = b"proof of a key"
_KEY_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,32}")
_ENVELOPE: Final = re.compile(rb"ak1\|([A-Za-z0-9._-]{1,32})\|")


@final
class AesGcmSealer:
    """Implements `sidecar.ports.Sealer`; its `repr` shows key ids only."""

    def __init__(
        self,
        *,
        keys: Sequence[tuple[str, bytes]],
        hash_key: bytes,
        environment: str,
        client_id: str,
    ) -> None:
        """Take the keys: the first of `keys` (id, 32 bytes) seals, all of them open.

        Raises:
            ValueError: A key is not 32 bytes long, or an id is malformed or given twice.
        """
        if not keys or any(len(key) != KEY_BYTES for key in (hash_key, *(key for _, key in keys))):
            raise ValueError(f"every key must have {KEY_BYTES} bytes, and one at least must seal")
        if any(_KEY_ID.fullmatch(key_id) is None for key_id, _ in keys):
            raise ValueError("a key id is 1 to 32 letters, digits, dots, dashes or underscores")
        self._keys = dict(keys)
        if len(self._keys) != len(keys):
            raise ValueError("a key id is given twice")
        self._first = keys[0][0]
        self._hash_key = hash_key
        self._place = (environment.encode(), client_id.encode())
        # Every request needs one; the busiest grants need not be hashed each time.
        self._grant_id = lru_cache(maxsize=_BUSY_GRANTS)(self._hash_key_of)

    def seal(self, plaintext: bytes, *, context: SealContext) -> bytes:
        """Return an envelope that only `context` opens, sealed with the first key."""
        nonce = os.urandom(_NONCE_BYTES)
        cipher = self._cipher(self._first, context)
        sealed = cipher.encrypt(nonce, plaintext, self._bound_to(self._first, context))
        return b"%b|%b|%b%b" % (_FORMAT, self._first.encode(), nonce, sealed)

    def open(self, envelope: bytes, *, context: SealContext) -> bytes:
        """Return the plaintext.

        Raises:
            SealError: The key is unknown, the envelope is damaged, or it is not of this context.
        """
        key_id = _key_id_of(envelope)
        nonce_at = len(_FORMAT) + len(key_id) + 2
        sealed_at = nonce_at + _NONCE_BYTES
        if key_id not in self._keys or len(envelope) < sealed_at + _TAG_BYTES:
            raise SealError(key_id)
        cipher = self._cipher(key_id, context)
        nonce, sealed = envelope[nonce_at:sealed_at], envelope[sealed_at:]
        try:
            return cipher.decrypt(nonce, sealed, self._bound_to(key_id, context))
        except InvalidTag as error:
            raise SealError(key_id) from error

    def is_current(self, envelope: bytes) -> bool:
        """Whether the envelope was sealed with the first key."""
        return _key_id_of(envelope) == self._first

    def grant_id(self, key: GrantKey) -> GrantId:
        """Return the keyed hash that names the grant everywhere: 32 hex digits."""
        return self._grant_id(key)

    def _hash_key_of(self, key: GrantKey) -> GrantId:
        return GrantId(self._hash(b"grant", _encoded(key.provider), _encoded(key.user)))

    def fingerprint(self, refresh_token: Secret) -> str:
        """Return a keyed fingerprint of 32 hex digits; never to be logged."""
        return self._hash(b"fingerprint", _encoded(refresh_token.reveal()))

    def proofs(self) -> Mapping[KeyName, str]:
        """Return a one-way proof of each key, bound to environment and client: 32 hex digits."""
        named = {KeyName(key_id=key_id): key for key_id, key in self._keys.items()}
        named[KeyName(key_id=None)] = self._hash_key
        return {name: self._proof(name, key) for name, key in named.items()}

    def __repr__(self) -> str:
        return f"AesGcmSealer(key_ids={tuple(self._keys)})"

    def _cipher(self, key_id: str, context: SealContext) -> AESGCM:
        return AESGCM(_derived(self._keys[key_id], context.grant.encode()))

    def _proof(self, name: KeyName, key: bytes) -> str:
        info = _framed(_PROOF, *self._place, name.label.encode())
        return _derived(key, info)[:_HASH_BYTES].hex()

    def _bound_to(self, key_id: str, context: SealContext) -> bytes:
        return _framed(
            _FORMAT,
            key_id.encode(),
            *self._place,
            context.purpose.encode(),
            context.grant.encode(),
            context.consent_id.encode(),
            b"%d" % context.generation,
            context.claim_id.encode(),
        )

    def _hash(self, domain: bytes, *parts: bytes) -> str:
        digest = hmac.digest(self._hash_key, _framed(domain, *parts), hashlib.sha256)
        return digest[:_HASH_BYTES].hex()


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedKeys:
    """Fresh values, in the form the configuration takes them.

    Attributes:
        encryption_keys: ``id:base64`` of one key; put it before the former ones to rotate.
        hash_key: Base64 of 32 bytes.
        control_key: A bearer of the control listener.
    """

    encryption_keys: Secret
    hash_key: Secret
    control_key: Secret


def generate_keys() -> GeneratedKeys:
    """Return fresh keys from the machine's source of chance; no two calls share a key id."""
    key = base64.b64encode(os.urandom(KEY_BYTES)).decode()
    return GeneratedKeys(
        encryption_keys=Secret(f"k{os.urandom(4).hex()}:{key}"),
        hash_key=Secret(base64.b64encode(os.urandom(KEY_BYTES)).decode()),
        control_key=Secret(base64.urlsafe_b64encode(os.urandom(KEY_BYTES)).decode().rstrip("=")),
    )


def _derived(key: bytes, info: bytes) -> bytes:
    """Return the key of one purpose: it tells nothing of the other purposes' keys."""
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(key)


def _key_id_of(envelope: bytes) -> str:
    """Return the key id, or ``""`` where the head is not that of an envelope."""
    head = _ENVELOPE.match(envelope)
    return "" if head is None else head[1].decode()


def _encoded(text: str) -> bytes:
    """Encode any text: a `UnicodeEncodeError` would carry it."""
    return text.encode(errors="surrogatepass")


def _framed(*parts: bytes) -> bytes:
    """Join so that no two sequences of parts give the same bytes: each after its length."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)

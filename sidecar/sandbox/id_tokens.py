"""id_tokens: real RS256 JWTs with the claims Akoya's have, and the key set that proves them.

It must not know grants beyond the claims it is given, nor who presents a token where.
"""

from __future__ import annotations

import base64
import hashlib
import json
from functools import lru_cache
from typing import TYPE_CHECKING, Final, cast, final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from sidecar.sandbox.ids import new_id, subject

if TYPE_CHECKING:
    from sidecar.sandbox.grants import Grant
    from sidecar.sandbox.replies import Document

_PRODUCTS: Final = (
    "ACCOUNT_BASIC",
    "ACCOUNT_DETAILED",
    "BALANCES",
    "CUSTOMER_CONTACT",
    "INVESTMENTS",
    "PAYMENT_SUPPORT",
    "STATEMENTS",
    "TAX",
    "TRANSACTIONS",
)
_SEGMENTS: Final = 3
_PUBLIC_EXPONENT: Final = 65537


@lru_cache(maxsize=4)
def signing_key(bits: int) -> rsa.RSAPrivateKey:
    """Make the signing key of this process, once: a test opens sandboxes by the hundred.

    Sandbox tokens protect invented data, so sharing the key between sandboxes costs nothing.
    """
    return rsa.generate_private_key(public_exponent=_PUBLIC_EXPONENT, key_size=bits)


@final
class IdTokenSigner:
    """Signs id_tokens and tells its own from foreign ones."""

    def __init__(self, key: rsa.RSAPrivateKey) -> None:
        self._key = key
        self._public = key.public_key()
        numbers = self._public.public_numbers()
        self._key_values = {"e": _number(numbers.e), "kty": "RSA", "n": _number(numbers.n)}
        # The key id is the key's thumbprint as RFC 7638 has it.
        thumb = json.dumps(self._key_values, separators=(",", ":"), sort_keys=True).encode()
        self._key_id = _encode(hashlib.sha256(thumb).digest())
        header = {"alg": "RS256", "kid": self._key_id, "typ": "JWT"}
        self._header = _encode(json.dumps(header, separators=(",", ":")).encode())

    @property
    def key_set(self) -> Document:
        """The JWKS that verifies every token of this signer."""
        return {"keys": [{**self._key_values, "alg": "RS256", "use": "sig", "kid": self._key_id}]}

    def sign(self, claims: Document) -> str:
        """Make a token of the claims. Costs 0.4 ms with a key of 2048 bits, 0.1 ms with 1024."""
        payload = _encode(json.dumps(claims, separators=(",", ":")).encode())
        signed = f"{self._header}.{payload}"
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), SHA256())
        return f"{signed}.{_encode(signature)}"

    def verified_claims(self, token: str) -> dict[str, object] | None:
        """Read the claims of a token that this signer made; none of any other."""
        parts = token.split(".")
        if len(parts) != _SEGMENTS or parts[0] != self._header:
            return None
        try:
            signature, payload = _decode(parts[2]), _decode(parts[1])
            signed = f"{parts[0]}.{parts[1]}".encode()
            self._public.verify(signature, signed, padding.PKCS1v15(), SHA256())
        except (InvalidSignature, ValueError):
            return None
        return cast("dict[str, object]", json.loads(payload))


def claims_of(grant: Grant, *, issuer: str, client_id: str, now: float, life_s: float) -> Document:
    """State the claims of a fresh id_token for a grant; `jti` is new in each."""
    consent = grant.consent
    return {
        "accounts": list(consent.accounts),
        # Without an access token to hash the claim is there all the same, and changes.
        "at_hash": hash_of_access_token(new_id()),
        "aud": [client_id],
        "auth_time": int(consent.given_at),
        "connectorId": consent.provider,
        "exp": int(now + life_s),
        "grant_id": grant.id,
        "iat": int(now),
        "iss": f"{issuer.rstrip('/')}/",
        "jti": new_id(),
        "name": consent.user,
        "products": list(_PRODUCTS),
        "rat": int(consent.given_at),
        "recipientId": client_id,
        "sid": grant.family,
        "sub": subject(user=consent.user, provider=consent.provider),
    }


def hash_of_access_token(access_token: str) -> str:
    """State the `at_hash` of an access token: the left half of its SHA-256 (OpenID Connect)."""
    return _encode(hashlib.sha256(access_token.encode()).digest()[:16])


def _number(value: int) -> str:
    return _encode(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)

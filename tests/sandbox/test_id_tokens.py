"""id_tokens are real: signed with RS256 by a published key, with the claims Akoya's have."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from tests.sandbox.driver import NOON, Pair, pair_of

if TYPE_CHECKING:
    from sidecar.sandbox import Sandbox
    from tests.sandbox.driver import AppDriver


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _claims(pair: Pair) -> dict[str, Any]:
    return dict(json.loads(_decode(pair.id_token.split(".")[1])))


@pytest.mark.parametrize("path", ["/keys", "/.well-known/jwks.json"])
async def test_an_id_token_is_verified_by_the_published_key(app: AppDriver, path: str) -> None:
    """The key of the token's kid in the key set verifies its RS256 signature."""
    pair = await app.connect("mikomo_10")
    header, payload, signature = pair.id_token.split(".")
    fields = json.loads(_decode(header))

    keys = (await app.send("GET", path)).json["keys"]
    key = next(each for each in keys if each["kid"] == fields["kid"])
    numbers = rsa.RSAPublicNumbers(
        e=int.from_bytes(_decode(key["e"]), "big"), n=int.from_bytes(_decode(key["n"]), "big")
    )

    assert fields["alg"] == "RS256"
    numbers.public_key().verify(
        _decode(signature), f"{header}.{payload}".encode(), padding.PKCS1v15(), SHA256()
    )


async def test_the_claims_are_those_akoya_shows(app: AppDriver, sandbox: Sandbox) -> None:
    """Issuer with its slash, dex's subject, array audience, a day of life, accounts, grant."""
    pair = await app.connect("mikomo_1")

    claims = _claims(pair)

    assert claims["iss"] == f"{sandbox.url}/"
    assert claims["sub"] == "CghtaWtvbW9fMRIGbWlrb21v"
    assert claims["aud"] == ["sandbox-client"]
    assert (claims["iat"], claims["exp"]) == (int(NOON), int(NOON) + 86400)
    assert claims["connectorId"] == "mikomo"
    assert len(claims["accounts"]) == 3
    assert {
        "at_hash", "auth_time", "grant_id", "jti", "name", "products", "rat", "recipientId", "sid",
    } <= set(claims)  # fmt: skip


async def test_subject_and_grant_outlive_a_refresh_and_only_the_subject_a_consent(
    app: AppDriver,
) -> None:
    """A refresh changes `jti` only; a new consent changes `grant_id` too; `sub` never changes."""
    first = await app.connect("mikomo_10")
    second = pair_of(await app.refresh(first.refresh_token))
    third = await app.connect("mikomo_10")

    a, b, c = _claims(first), _claims(second), _claims(third)

    assert a["sub"] == b["sub"] == c["sub"]
    assert a["grant_id"] == b["grant_id"] != c["grant_id"]
    assert len({a["jti"], b["jti"], c["jti"]}) == 3


async def test_a_forged_or_mangled_bearer_opens_nothing(app: AppDriver) -> None:
    """A changed payload, a foreign signature, no JWT at all, no bearer: all are 401/602."""
    pair, other = await app.connect("mikomo_10"), await app.connect("mikomo_7")
    header, payload, signature = pair.id_token.split(".")
    forged = [
        f"{header}.{other.id_token.split('.')[1]}.{signature}",
        f"{header}.{payload}.{other.id_token.split('.')[2]}",
        f"{header}.{payload}",
        f"{header}.{payload}.!!",
        "not-a-jwt",
        "",
    ]

    refused = [
        await app.get("/accounts/v2/mikomo", Pair(id_token=each, refresh_token=""))
        for each in forged
    ]
    bare = await app.send("GET", "/accounts/v2/mikomo")

    assert [each.json["code"] for each in [*refused, bare]] == [602] * 7


async def test_discovery_names_the_endpoints(app: AppDriver, sandbox: Sandbox) -> None:
    """The discovery document has dex's shape and this origin's URLs."""
    document = (await app.send("GET", "/.well-known/openid-configuration")).json

    assert document["issuer"] == f"{sandbox.url}/"
    assert document["token_endpoint"] == f"{sandbox.url}/token"
    assert document["jwks_uri"] == f"{sandbox.url}/keys"
    assert document["token_endpoint_auth_methods_supported"] == ["client_secret_basic"]

"""The profile `hydra`: Ory Hydra's tokens and words where Akoya's documentation has dex's."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from sidecar.domain.answer_reading import ErrorMembers
from sidecar.domain.failure import FailureReason, Operation
from sidecar.domain.token_refusals import reason_of
from sidecar.sandbox.token_errors import TOKEN_ERRORS
from tests.sandbox.driver import CALLBACK, pair_of
from tests.sandbox.races import lose_race

if TYPE_CHECKING:
    from sidecar.sandbox import Sandbox
    from sidecar.sandbox.settings import Profile
    from tests.sandbox.driver import AppDriver

_GRANT = "The provided authorization grant (e.g., authorization code, resource owner credentials)"
_CLIENT = "Client authentication failed (e.g., unknown client,"
_R = FailureReason
_OBTAIN, _REFRESH = Operation.OBTAIN, Operation.REFRESH


@pytest.fixture(autouse=True)
def _hydra(sandbox: Sandbox) -> None:
    sandbox.tune(profile="hydra")


@pytest.mark.parametrize(
    ("changes", "error", "begins", "ends"),
    [
        ({"code": "ory_ac_wrong"}, "invalid_grant", _GRANT, "another client."),
        ({"redirect_uri": f"{CALLBACK}2"}, "invalid_grant", _GRANT, "authorize request."),
        ({"grant_type": "password"}, "unsupported_grant_type", "The auth", "server."),
    ],
)
async def test_a_refused_obtain_speaks_hydras_words_and_spends_no_code(
    app: AppDriver, changes: dict[str, str], error: str, begins: str, ends: str
) -> None:
    """One general sentence for each error, with a hint where Hydra gives one."""
    code = await app.code("mikomo_10")

    refused = await app.exchange(code, **changes)

    assert (refused.status, refused.json["error"]) == (400, error)
    assert refused.json["error_description"].startswith(begins)
    assert refused.json["error_description"].endswith(ends)
    assert (await app.exchange(code)).status == 200


@pytest.mark.parametrize(
    ("changes", "status", "error", "begins"),
    [
        ({"refresh_token": ""}, 400, "invalid_grant", _GRANT),
        ({"refresh_token": "ory_rt_never-issued"}, 400, "invalid_grant", _GRANT),
        ({"grant_type": "refresh"}, 400, "unsupported_grant_type", "The authorization grant type"),
        ({"client_secret": "wrong"}, 401, "invalid_client", _CLIENT),
    ],
)
async def test_a_refused_refresh_speaks_hydras_words_and_spends_no_token(
    app: AppDriver, changes: dict[str, str], status: int, error: str, begins: str
) -> None:
    """What ends no family leaves the token as good as it was."""
    pair = await app.connect("mikomo_10")

    refused = await app.refresh(pair.refresh_token, **changes)

    assert (refused.status, refused.json["error"]) == (status, error)
    assert refused.json["error_description"].startswith(begins)
    assert (await app.refresh(pair.refresh_token)).status == 200


async def test_a_token_set_has_an_access_token_that_opens_nothing(app: AppDriver) -> None:
    """It has a life of its own and its hash in the id_token, which alone is a bearer."""
    obtained = await app.exchange(await app.code("mikomo_10"))

    access_token = obtained.json["access_token"]
    payload = obtained.json["id_token"].split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    half = hashlib.sha256(access_token.encode()).digest()[:16]
    bearer = {"Authorization": f"Bearer {access_token}"}
    refused = await app.send("GET", "/accounts/v2/mikomo", headers=bearer)
    assert access_token.startswith("ory_at_")
    assert obtained.json["scope"] == "offline_access openid profile"
    assert (obtained.json["expires_in"], claims["exp"] - claims["iat"]) == (3600, 86400)
    assert claims["at_hash"] == base64.urlsafe_b64encode(half).decode().rstrip("=")
    assert (refused.status, refused.json["code"]) == (401, 602)


async def test_the_loser_of_a_race_is_told_so_and_ends_no_family(
    app: AppDriver, sandbox: Sandbox
) -> None:
    """While a token is being spent, a second use is a race and not a theft."""
    sandbox.tune(race_error=True)
    lost = await lose_race(app, sandbox)

    (grant,) = (await app.send("GET", "/sandbox/grants")).json["grants"]
    assert (lost.status, lost.json["error"]) == (400, "invalid_request")
    assert "multiple concurrent requests" in lost.json["error_description"]
    assert grant["ended"] is None


async def test_a_revocation_is_refused_as_akoya_documents_it(app: AppDriver) -> None:
    """Of revocation there is Akoya's own word, whatever runs behind it."""
    refused = await app.revoke("ory_rt_never-issued")

    assert (refused.status, refused.json) == (400, {"error": "invalid_request"})


async def test_a_family_that_has_ended_stays_so(app: AppDriver) -> None:
    """After a theft neither the old nor the new token buys anything, and data is closed."""
    old = await app.connect("mikomo_10")
    new = pair_of(await app.refresh(old.refresh_token))
    await app.refresh(old.refresh_token)

    again = [await app.refresh(pair.refresh_token) for pair in (old, new)]

    assert {answered.json["error"] for answered in again} == {"invalid_grant"}
    assert not any("already used" in answered.json["error_description"] for answered in again)


@pytest.mark.parametrize("profile", ["dex", "hydra"])
def test_the_sidecar_knows_each_refusal(profile: Profile) -> None:
    """No refusal of either profile is unknown to the sidecar, and each means the same to it."""
    errors = TOKEN_ERRORS[profile]
    dead = _R.REFRESH_TOKEN_CLAIMED if profile == "dex" else _R.REFRESH_TOKEN_EXPIRED
    missing = _R.REFRESH_TOKEN_MISSING if profile == "dex" else dead

    told = {
        (name, operation): reason_of(operation, reply.status, members_of(reply.body))
        for name, operation, reply in (
            ("client", _OBTAIN, errors.client),
            ("client", _REFRESH, errors.client),
            ("not_obtain", _OBTAIN, errors.not_obtain),
            ("not_refresh", _REFRESH, errors.not_refresh),
            ("code", _OBTAIN, errors.code),
            ("redirect", _OBTAIN, errors.redirect),
            ("missing", _REFRESH, errors.token_missing),
            ("dead", _REFRESH, errors.token_dead),
            ("reused", _REFRESH, errors.token_reused),
            ("race", _REFRESH, errors.race),
        )
    }
    assert told == {
        ("client", _OBTAIN): _R.CLIENT_CREDENTIALS_INVALID,
        ("client", _REFRESH): _R.CLIENT_CREDENTIALS_INVALID,
        ("not_obtain", _OBTAIN): _R.GRANT_TYPE_INVALID,
        ("not_refresh", _REFRESH): _R.GRANT_TYPE_INVALID,
        ("code", _OBTAIN): _R.CODE_INVALID,
        ("redirect", _OBTAIN): _R.REDIRECT_URI_MISMATCH,
        ("missing", _REFRESH): missing,
        ("dead", _REFRESH): dead,
        ("reused", _REFRESH): dead,
        ("race", _REFRESH): _R.SERVER_ERROR,
    }


def members_of(body: bytes) -> ErrorMembers:
    document = json.loads(body)
    return ErrorMembers(error=document["error"], description=document.get("error_description", ""))

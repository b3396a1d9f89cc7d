"""Akoya's own guidance for testing token management, as acceptance tests of the sandbox."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.sandbox.driver import APP, pair_of

if TYPE_CHECKING:
    from sidecar.sandbox import Sandbox
    from tests.sandbox.driver import AppDriver, FakeClock

_ACCOUNTS = "/accounts/v2/mikomo"


async def test_a_refresh_brings_a_valid_new_pair(app: AppDriver) -> None:
    """Both tokens of a refresh are new, and the new id_token opens the data."""
    old = await app.connect("mikomo_10")

    new = pair_of(await app.refresh(old.refresh_token))
    data = await app.get(_ACCOUNTS, new)

    assert new.id_token != old.id_token
    assert new.refresh_token != old.refresh_token
    assert data.status == 200


async def test_an_id_token_older_than_a_day_is_refused_and_refreshed(
    app: AppDriver, clock: FakeClock
) -> None:
    """An id_token ends after 24 hours; the refresh token beside it still buys a new pair."""
    old = await app.connect("mikomo_10")
    clock.advance(86400 - 1)
    alive = await app.get(_ACCOUNTS, old)
    clock.advance(1)

    expired = await app.get(_ACCOUNTS, old)
    new = pair_of(await app.refresh(old.refresh_token))

    assert alive.status == 200
    assert (expired.status, expired.json["code"]) == (401, 602)
    assert (await app.get(_ACCOUNTS, new)).status == 200


@pytest.mark.parametrize("path", ["/revoke", "/token/revoke"])
async def test_a_revoke_is_empty_and_ends_data_at_once(app: AppDriver, path: str) -> None:
    """Revoking answers 200 with no payload; the unexpired id_token is then worth nothing."""
    pair = await app.connect("mikomo_10")

    revoked = await app.revoke(pair.refresh_token, path)
    data = await app.get(_ACCOUNTS, pair)

    assert (revoked.status, revoked.body) == (200, b"")
    assert data.status == 401
    assert data.json == {"code": 602, "message": "Customer not authorized"}


async def test_a_used_refresh_token_is_refused(app: AppDriver) -> None:
    """A second use is refused in the documented words, and the newest pair stays good."""
    old = await app.connect("mikomo_10")
    new = pair_of(await app.refresh(old.refresh_token))

    again = await app.refresh(old.refresh_token)

    assert again.status == 400
    assert again.json == {
        "error": "invalid_request",
        "error_description": (
            "Refresh token is invalid or has already been claimed by another client."
        ),
    }
    assert (await app.refresh(new.refresh_token)).status == 200


async def test_a_refresh_with_a_wrong_secret_is_an_invalid_client(app: AppDriver) -> None:
    """A wrong client_secret is 401 and does not spend the token."""
    pair = await app.connect("mikomo_10")

    refused = await app.refresh(pair.refresh_token, client_secret="wrong")

    assert refused.status == 401
    assert refused.json["error"] == "invalid_client"
    assert refused.json["error_description"] == "Invalid client credentials."
    assert (await app.refresh(pair.refresh_token)).status == 200


async def test_a_revoke_without_or_with_a_wrong_secret_is_told_apart(app: AppDriver) -> None:
    """No client_secret is 400 invalid_request, a wrong one 401 unauthorized_client."""
    pair = await app.connect("mikomo_10")
    form = {
        "token": pair.refresh_token,
        "token_type_hint": "refresh_token",
        "client_id": APP["client_id"],
    }

    without = await app.send("POST", "/revoke", data=form)
    wrong = await app.send("POST", "/revoke", data={**form, "client_secret": "wrong"})

    assert (without.status, without.json) == (400, {"error": "invalid_request"})
    assert (wrong.status, wrong.json) == (401, {"error": "unauthorized_client"})


async def test_an_expired_and_a_wrong_code_are_refused_alike(
    app: AppDriver, clock: FakeClock
) -> None:
    """Both are 400 invalid_request with the same description."""
    code = await app.code("mikomo_10")
    clock.advance(301)

    expired, wrong = await app.exchange(code), await app.exchange("nonsense")

    assert expired.status == wrong.status == 400
    assert expired.json == wrong.json
    assert wrong.json["error"] == "invalid_request"


async def test_the_token_set_is_what_akoya_sends(app: AppDriver, sandbox: Sandbox) -> None:
    """A token set has id_token, refresh_token, token_type and expires_in, and no access token."""
    sandbox.tune(id_token_life_s=900)

    obtained = await app.exchange(await app.code("mikomo_10"))

    assert set(obtained.json) == {"id_token", "refresh_token", "token_type", "expires_in"}
    assert obtained.json["token_type"] == "bearer"
    assert obtained.json["expires_in"] == 900
    assert obtained.headers["Cache-Control"] == "no-store"

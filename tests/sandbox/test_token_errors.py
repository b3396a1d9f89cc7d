"""Akoya's three tables of token errors, word for word, and the order of the checks behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.sandbox.driver import APP, BASIC, CALLBACK

if TYPE_CHECKING:
    from sidecar.sandbox import Sandbox
    from tests.sandbox.driver import AppDriver, FakeClock

_WRONG_BASIC = aiohttp.encode_basic_auth("sandbox-client", "wrong")
_CLAIMED = "Refresh token is invalid or has already been claimed by another client."


@pytest.mark.parametrize(
    ("changes", "status", "document"),
    [
        (
            {"code": "wrong"},
            400,
            {
                "error": "invalid_request",
                "error_description": "Invalid or expired code parameter.",
            },
        ),
        (
            {"code": ""},
            400,
            {
                "error": "invalid_request",
                "error_description": "Invalid or expired code parameter.",
            },
        ),
        (
            {"redirect_uri": "http://127.0.0.1:7777/other"},
            400,
            {
                "error": "invalid_request",
                "error_description": "redirect_uri did not match URI from initial request",
            },
        ),
        (
            {"grant_type": "password"},
            400,
            {
                "error": "invalid_grant",
                "error_description": (
                    "Missing or incorrect grant_type field. Must be authorization_code"
                ),
            },
        ),
    ],
)
async def test_each_refused_obtain_names_its_documented_cause(
    app: AppDriver, changes: dict[str, str], status: int, document: dict[str, str]
) -> None:
    """A wrong code, redirect URI or grant type is refused in Akoya's words, and spends no code."""
    code = await app.code("mikomo_10")

    refused = await app.exchange(code, **changes)
    repaired = await app.exchange(code)

    assert (refused.status, refused.json) == (status, document)
    assert repaired.status == 200


@pytest.mark.parametrize(
    ("changes", "status", "document"),
    [
        (
            {"refresh_token": ""},
            400,
            {"error": "invalid_request", "error_description": "No refresh token in request"},
        ),
        (
            {"refresh_token": "never-issued"},
            400,
            {"error": "invalid_request", "error_description": _CLAIMED},
        ),
        (
            {"grant_type": "refresh"},
            400,
            {
                "error": "invalid_grant",
                "error_description": "Missing or incorrect grant_type field. Must be refresh_token",
            },
        ),
        (
            {"client_secret": "wrong"},
            401,
            {"error": "invalid_client", "error_description": "Invalid client credentials."},
        ),
        (
            {"client_id": "somebody-else"},
            401,
            {"error": "invalid_client", "error_description": "Invalid client credentials."},
        ),
    ],
)
async def test_each_refused_refresh_names_its_documented_cause(
    app: AppDriver, changes: dict[str, str], status: int, document: dict[str, str]
) -> None:
    """A refused refresh speaks Akoya's words and leaves the token as good as it was."""
    pair = await app.connect("mikomo_10")

    refused = await app.refresh(pair.refresh_token, **changes)
    repaired = await app.refresh(pair.refresh_token)

    assert (refused.status, refused.json) == (status, document)
    assert repaired.status == 200


@pytest.mark.parametrize(
    ("changes", "status", "document"),
    [
        ({"token": ""}, 400, {"error": "invalid_request"}),
        ({"token": "never-issued"}, 400, {"error": "invalid_request"}),
        ({"client_id": ""}, 400, {"error": "invalid_request"}),
        ({"client_id": "somebody-else"}, 400, {"error": "invalid_request"}),
        ({"client_secret": ""}, 400, {"error": "invalid_request"}),
        ({"token_type_hint": ""}, 400, {"error": "invalid_request"}),
        ({"token_type_hint": "access_token"}, 400, {"error": "unsupported_token_type"}),
        ({"client_secret": "wrong"}, 401, {"error": "unauthorized_client"}),
    ],
)
async def test_each_refused_revoke_names_its_documented_cause(
    app: AppDriver, changes: dict[str, str], status: int, document: dict[str, str]
) -> None:
    """A refused revoke has the documented error, no description, and revokes nothing."""
    pair = await app.connect("mikomo_10")
    form = {"token": pair.refresh_token, "token_type_hint": "refresh_token", **APP, **changes}

    refused = await app.send("POST", "/revoke", data=form)
    still = await app.refresh(pair.refresh_token)

    assert (refused.status, refused.json) == (status, document)
    assert still.status == 200


async def test_an_expired_code_is_refused(app: AppDriver, clock: FakeClock) -> None:
    """A code lives five minutes and no longer."""
    early, late = await app.code("mikomo_1"), await app.code("mikomo_7")

    clock.advance(299)
    in_time = await app.exchange(early)
    clock.advance(1)
    too_late = await app.exchange(late)

    assert in_time.status == 200
    assert too_late.json["error_description"] == "Invalid or expired code parameter."


async def test_a_code_works_once(app: AppDriver) -> None:
    """A used code is refused as a wrong one is."""
    code = await app.code("mikomo_10")
    await app.exchange(code)

    again = await app.exchange(code)

    assert again.status == 400
    assert again.json["error_description"] == "Invalid or expired code parameter."


async def test_a_wrong_secret_on_obtain_is_an_invalid_client(app: AppDriver) -> None:
    """The client is checked before grant type and code, as dex does it."""
    headers = {"Authorization": _WRONG_BASIC}

    refused = await app.send("POST", "/token", data={"grant_type": "password"}, headers=headers)

    assert refused.status == 401
    assert refused.json == {
        "error": "invalid_client",
        "error_description": "Invalid client credentials.",
    }


async def test_a_request_without_any_grant_type_is_a_bare_invalid_grant(app: AppDriver) -> None:
    """Without a code or token there is nothing to tell which grant type was meant."""
    refused = await app.send("POST", "/token", data={}, headers={"Authorization": BASIC})

    assert (refused.status, refused.json) == (400, {"error": "invalid_grant"})


async def test_a_strict_obtain_refuses_credentials_in_the_form(app: AppDriver) -> None:
    """Obtain is documented with Basic only, alone or beside a form that has them too."""
    form: dict[str, Any] = {
        "grant_type": "authorization_code",
        "code": await app.code("mikomo_10"),
        "redirect_uri": CALLBACK,
        **APP,
    }

    in_form = await app.send("POST", "/token", data=form)
    in_both = await app.send("POST", "/token", data=form, headers={"Authorization": BASIC})

    assert (in_form.status, in_both.status) == (401, 401)


async def test_a_strict_refresh_refuses_basic(app: AppDriver) -> None:
    """Refresh is documented with credentials in the form and without a Basic header."""
    pair = await app.connect("mikomo_10")
    form = {"grant_type": "refresh_token", "refresh_token": pair.refresh_token}
    basic = {"Authorization": BASIC}

    in_header = await app.send("POST", "/token", data=form, headers=basic)
    in_both = await app.send("POST", "/token", data={**form, **APP}, headers=basic)

    assert (in_header.status, in_both.status) == (401, 401)


async def test_a_lenient_sandbox_takes_credentials_from_either_place(
    app: AppDriver, sandbox: Sandbox
) -> None:
    """Without strictness obtain works from the form, refresh and revoke with Basic."""
    sandbox.tune(strict_auth=False)
    basic = {"Authorization": BASIC}
    code_form = {
        "grant_type": "authorization_code",
        "code": await app.code("mikomo_10"),
        "redirect_uri": CALLBACK,
        **APP,
    }

    obtained = await app.send("POST", "/token", data=code_form)
    token_form = {"grant_type": "refresh_token", "refresh_token": obtained.json["refresh_token"]}
    refreshed = await app.send("POST", "/token", data=token_form, headers=basic)
    revoke_form = {
        "token": refreshed.json["refresh_token"],
        "token_type_hint": "refresh_token",
    }
    revoked = await app.send("POST", "/revoke", data=revoke_form, headers=basic)

    assert [obtained.status, refreshed.status, revoked.status] == [200, 200, 200]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/x-www-form-urlencoded", b"\xff"),
        ("application/x-www-form-urlencoded; charset=nonsense", b"a=b"),
        ("multipart/form-data", b"a"),
        ("application/json", b"{}"),
    ],
)
async def test_a_form_that_cannot_be_read_proves_no_client(
    app: AppDriver, content_type: str, body: bytes
) -> None:
    """What is no form has no credentials: 401, and nothing breaks."""
    headers = {"Content-Type": content_type}

    refused = await app.send("POST", "/token", data=body, headers=headers)

    assert (refused.status, refused.json["error"]) == (401, "invalid_client")

"""The control paths: scripted consent, settings that change, and an index that leaves none out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sidecar.sandbox.index import ROWS
from tests.sandbox.driver import pair_of

if TYPE_CHECKING:
    from sidecar.sandbox import Sandbox
    from tests.sandbox.driver import AppDriver


async def test_a_scripted_consent_defaults_to_mikomo_and_the_hub(app: AppDriver) -> None:
    """A user is enough: provider and redirect URI have defaults, and the answer names the URI."""
    given = (await app.send("POST", "/sandbox/consents", json={"user": "user 1/ä"})).json

    obtained = await app.exchange(given["code"], redirect_uri=given["redirect_uri"])
    data = await app.get("/accounts/v2/mikomo", pair_of(obtained))

    assert given["redirect_uri"] == "https://recipient.ddp.akoya.com/flow/callback"
    assert data.status == 200


@pytest.mark.parametrize(
    "wish",
    [
        {},
        {"user": ""},
        {"user": 7},
        {"user": "a\nb"},
        {"user": "mikomo_1", "provider": "unknown-bank"},
        {"user": "mikomo_1", "provider": "Bank"},
        {"user": "mikomo_1", "redirect_uri": "https://evil.example/"},
        ["mikomo_1"],
    ],
)
async def test_a_consent_that_cannot_be_is_refused(app: AppDriver, wish: Any) -> None:
    """A wrong user, provider or redirect URI is 400 with a reason."""
    refused = await app.send("POST", "/sandbox/consents", json=wish)

    assert refused.status == 400
    assert refused.json["error"]


async def test_what_is_not_json_is_refused(app: AppDriver) -> None:
    """A broken body is the sender's fault, not the sandbox's."""
    refused = await app.send("PATCH", "/sandbox/settings", data=b"{")

    assert (refused.status, refused.json) == (400, {"error": "the body is not JSON"})


async def test_settings_change_while_it_runs(app: AppDriver, sandbox: Sandbox) -> None:
    """A patch changes the named settings and answers all that may change."""
    patched = await app.send(
        "PATCH", "/sandbox/settings", json={"id_token_life_s": 60, "profile": "hydra"}
    )

    assert patched.json["id_token_life_s"] == 60
    assert patched.json == (await app.send("GET", "/sandbox/settings")).json
    assert (sandbox.settings.profile, sandbox.settings.grace_s) == ("hydra", 0)


@pytest.mark.parametrize(
    "changes",
    [
        {"client_secret": "other"},
        {"profile": "keycloak"},
        {"id_token_life_s": 0},
        {"grace_s": -1},
        {"grace_s": "long"},
        {"strict_auth": 1},
        {"rate_limit": True},
    ],
)
async def test_a_wrong_setting_changes_nothing(
    app: AppDriver, sandbox: Sandbox, changes: dict[str, object]
) -> None:
    """An unknown name, a wrong type or a value out of bounds is refused as a whole."""
    before = sandbox.settings

    refused = await app.send("PATCH", "/sandbox/settings", json={"code_life_s": 1, **changes})

    assert refused.status == 400
    assert sandbox.settings is before


async def test_grants_are_told_with_their_state(app: AppDriver) -> None:
    """A replaced, a refreshed and a revoked grant are told apart."""
    await app.connect("mikomo_10")
    second = await app.connect("mikomo_10")
    await app.refresh(second.refresh_token)
    third = await app.connect("mikomo_7", "other-bank")
    await app.revoke(third.refresh_token)

    grants = (await app.send("GET", "/sandbox/grants")).json["grants"]

    assert [
        (each["user"], each["provider"], each["generation"], each["revoked"], each["ended"])
        for each in grants
    ] == [
        ("mikomo_10", "mikomo", 0, True, "replaced"),
        ("mikomo_10", "mikomo", 1, False, None),
        ("mikomo_7", "other-bank", 0, True, "revoked_by_app"),
    ]


async def test_the_index_tells_of_every_control_path(app: AppDriver, sandbox: Sandbox) -> None:
    """What a script can ask for is on the page, and the page needs no script itself."""
    page = await app.send("GET", "/")
    health = await app.send("GET", "/sandbox/health")
    served = {
        str(resource.canonical)
        for resource in sandbox._runner.app.router.resources()  # type: ignore[union-attr]  # it runs
        if str(resource.canonical).startswith(("/sandbox/", "/auth", "/token", "/revoke", "/keys"))
    }

    told = " ".join(call for call, _ in ROWS)
    missing = {path for path in served if path not in told and not path.startswith("/auth/")}
    assert missing == set()
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert health.json == {"status": "ok"}


async def test_a_rotated_secret_is_the_only_one(app: AppDriver, sandbox: Sandbox) -> None:
    """From then on the former secret is refused and the new one is taken."""
    pair = await app.connect("user 1")

    sandbox.rotate_secret("another")
    refused = await app.refresh(pair.refresh_token)
    taken = await app.refresh(pair.refresh_token, client_secret="another")

    assert (refused.status, refused.json["error"]) == (401, "invalid_client")
    assert taken.status == 200

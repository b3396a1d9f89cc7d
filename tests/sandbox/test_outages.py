"""What goes wrong at a bank: it is away, or ends bearers before their time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.sandbox.driver import pair_of

if TYPE_CHECKING:
    from sidecar.sandbox import Sandbox
    from tests.sandbox.driver import AppDriver, FakeClock

_ACCOUNTS = "/accounts/v2/mikomo"


@pytest.mark.parametrize("profile", ["dex", "hydra"])
async def test_a_bank_that_is_away_spends_nothing(
    app: AppDriver, sandbox: Sandbox, profile: str
) -> None:
    """Data is 501, a refresh and an exchange are 500, and token and code are good afterwards."""
    sandbox.tune(profile=profile)
    pair, code = await app.connect("mikomo_10"), await app.code("mikomo_7")
    sandbox.tune(providers_down=["mikomo"])

    data = await app.get(_ACCOUNTS, pair)
    refused = await app.refresh(pair.refresh_token)
    unanswered = await app.exchange(code)

    sandbox.tune(providers_down=[])
    assert (data.status, data.json["code"]) == (501, 501)
    assert (refused.status, refused.json) == (500, {"error": "server_error"})
    assert (unanswered.status, unanswered.json) == (500, {"error": "server_error"})
    assert (await app.refresh(pair.refresh_token)).status == 200
    assert (await app.exchange(code)).status == 200


async def test_an_outage_of_one_bank_is_nobody_elses(app: AppDriver) -> None:
    """Other banks' users neither notice in their data nor in their tokens."""
    pair = await app.connect("mikomo_10", "other-bank")
    patched = await app.send("PATCH", "/sandbox/settings", json={"providers_down": ["mikomo"]})

    renewed = pair_of(await app.refresh(pair.refresh_token))

    assert patched.json["providers_down"] == ["mikomo"]
    assert (await app.get("/accounts/v2/other-bank", renewed)).status == 200


async def test_an_outage_tells_nothing_to_whoever_may_not_ask(
    app: AppDriver, sandbox: Sandbox
) -> None:
    """A wrong secret is told as one, and a bad bearer as 602, whether the bank is there or not."""
    pair = await app.connect("mikomo_10")
    sandbox.tune(providers_down=["mikomo"])

    refused = await app.refresh(pair.refresh_token, client_secret="wrong")
    data = await app.send("GET", _ACCOUNTS, headers={"Authorization": "Bearer nonsense"})

    assert (refused.status, refused.json["error"]) == (401, "invalid_client")
    assert (data.status, data.json["code"]) == (401, 602)


async def test_a_bearer_can_be_refused_before_its_own_end(
    app: AppDriver, sandbox: Sandbox, clock: FakeClock
) -> None:
    """Whatever `exp` says, data is 602 after the time that the bank honours, until a refresh."""
    sandbox.tune(id_token_honoured_s=900)
    pair = await app.connect("mikomo_10")

    clock.advance(899)
    before = await app.get(_ACCOUNTS, pair)
    clock.advance(1)
    after = await app.get(_ACCOUNTS, pair)

    renewed = pair_of(await app.refresh(pair.refresh_token))
    assert before.status == 200
    assert (after.status, after.json["code"]) == (401, 602)
    assert (await app.get(_ACCOUNTS, renewed)).status == 200


async def test_akoyas_five_requests_a_second_can_be_had(
    app: AppDriver, sandbox: Sandbox, clock: FakeClock
) -> None:
    """The sixth within a second is 429 with code 1207 and no hint when to come back."""
    sandbox.tune(rate_limit=5)
    pair = await app.connect("mikomo_10")

    answered = [await app.get(_ACCOUNTS, pair) for _ in range(6)]
    clock.advance(1)

    assert [each.status for each in answered] == [200] * 5 + [429]
    assert answered[5].json == {"code": 1207, "message": "Too many requests"}
    assert "Retry-After" not in answered[5].headers
    assert (await app.get(_ACCOUNTS, pair)).status == 200

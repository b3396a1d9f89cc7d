"""Rotation under both profiles: what a second use costs, what grace buys, what ends a grant."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.driver import pair_of
from tests.sandbox.races import lose_race

if TYPE_CHECKING:
    from sidecar.sandbox import Sandbox
    from tests.sandbox.driver import AppDriver, FakeClock

_ACCOUNTS = "/accounts/v2/mikomo"
_CLAIMED = "Refresh token is invalid or has already been claimed by another client."


async def test_hydra_takes_a_second_use_for_theft(app: AppDriver, sandbox: Sandbox) -> None:
    """Under hydra a used token ends the whole family, in Hydra's words."""
    sandbox.tune(profile="hydra")
    old = await app.connect("mikomo_10")
    new = pair_of(await app.refresh(old.refresh_token))

    again = await app.refresh(old.refresh_token)
    fresh = await app.refresh(new.refresh_token)
    data = await app.get(_ACCOUNTS, new)

    assert (again.status, again.json["error"]) == (400, "invalid_grant")
    assert again.json["error_description"].startswith("The provided authorization grant")
    assert (fresh.status, fresh.json["error"]) == (400, "invalid_grant")
    assert (data.status, data.json["code"]) == (401, 602)


async def test_a_token_used_again_within_the_grace_forks(
    app: AppDriver, sandbox: Sandbox, clock: FakeClock
) -> None:
    """Within the grace a used token buys one more pair, and both successors are good."""
    sandbox.tune(grace_s=10)
    old = await app.connect("mikomo_10")
    first = pair_of(await app.refresh(old.refresh_token))
    clock.advance(9)

    second = pair_of(await app.refresh(old.refresh_token))
    clock.advance(1)
    too_late = await app.refresh(old.refresh_token)

    assert first.refresh_token != second.refresh_token
    assert too_late.json["error_description"] == _CLAIMED
    assert (await app.refresh(first.refresh_token)).status == 200
    assert (await app.refresh(second.refresh_token)).status == 200


async def test_a_refresh_token_ends_with_its_life(
    app: AppDriver, sandbox: Sandbox, clock: FakeClock
) -> None:
    """An expired refresh token is refused as a used one is; its successor has its own life."""
    sandbox.tune(refresh_token_life_s=100)
    first = await app.connect("mikomo_10")
    clock.advance(99)
    second = pair_of(await app.refresh(first.refresh_token))
    clock.advance(99)
    third = pair_of(await app.refresh(second.refresh_token))
    clock.advance(100)

    expired = await app.refresh(third.refresh_token)

    assert (expired.status, expired.json["error_description"]) == (400, _CLAIMED)


async def test_a_new_consent_replaces_the_former_grant(app: AppDriver) -> None:
    """After a second consent of a user at a bank, only the newer tokens count there."""
    old = await app.connect("mikomo_10")
    elsewhere = await app.connect("mikomo_10", "other-bank")

    new = await app.connect("mikomo_10")

    assert (await app.refresh(old.refresh_token)).json["error_description"] == _CLAIMED
    assert (await app.get(_ACCOUNTS, old)).json["code"] == 602
    assert (await app.get(_ACCOUNTS, new)).status == 200
    assert (await app.refresh(elsewhere.refresh_token)).status == 200


async def test_a_consent_revoked_at_the_bank_is_told_in_the_claimed_words(app: AppDriver) -> None:
    """The app learns of it only by refusals: refresh says claimed, data says 602."""
    pair = await app.connect("mikomo_10")
    elsewhere = await app.connect("mikomo_10", "other-bank")
    at_mikomo = {"user": "mikomo_10", "provider": "mikomo"}

    answered = await app.send("POST", "/sandbox/revoke-consent", json=at_mikomo)

    assert answered.json == {"revoked": 1}
    assert (await app.refresh(elsewhere.refresh_token)).status == 200
    assert (await app.refresh(pair.refresh_token)).json["error_description"] == _CLAIMED
    assert (await app.get(_ACCOUNTS, pair)).json["code"] == 602


async def test_id_tokens_can_be_voided_before_they_expire(app: AppDriver) -> None:
    """Voided id_tokens are 602 from then on; a refresh heals it, and others are left alone."""
    pair, other = await app.connect("mikomo_10"), await app.connect("mikomo_7")
    await app.connect("mikomo_10", "other-bank")
    at_mikomo = {"user": "mikomo_10", "provider": "mikomo"}

    answered = await app.send("POST", "/sandbox/expire-id-tokens", json=at_mikomo)
    healed = pair_of(await app.refresh(pair.refresh_token))

    assert answered.json == {"expired": 1}
    assert (await app.get(_ACCOUNTS, pair)).json["code"] == 602
    assert (await app.get(_ACCOUNTS, healed)).status == 200
    assert (await app.get(_ACCOUNTS, other)).status == 200


async def test_dex_tokens_of_a_family_begin_alike(app: AppDriver) -> None:
    """A dex token is base64url of two protobuf strings: the family's id, then the secret."""
    first = await app.connect("mikomo_10")
    second = pair_of(await app.refresh(first.refresh_token))

    raws = [
        base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        for token in (first.refresh_token, second.refresh_token)
    ]

    assert first.refresh_token.startswith("Chl")
    assert [raw[:2] for raw in raws] == [b"\x0a\x19", b"\x0a\x19"]
    assert [len(raw) for raw in raws] == [54, 54]
    assert raws[0][:29] == raws[1][:29]
    assert raws[0][29:] != raws[1][29:]


async def test_hydra_tokens_look_like_hydras(app: AppDriver, sandbox: Sandbox) -> None:
    """Codes and refresh tokens carry Ory's prefixes."""
    sandbox.tune(profile="hydra")

    code = await app.code("mikomo_10")
    pair = pair_of(await app.exchange(code))

    assert code.startswith("ory_ac_")
    assert pair.refresh_token.startswith("ory_rt_")


@pytest.mark.parametrize("profile", ["dex", "hydra"])
async def test_a_spent_token_cannot_revoke(app: AppDriver, sandbox: Sandbox, profile: str) -> None:
    """Only a live token revokes; a spent one is an invalid request and harms nothing."""
    sandbox.tune(profile=profile)
    old = await app.connect("mikomo_10")
    new = pair_of(await app.refresh(old.refresh_token))

    refused = await app.revoke(old.refresh_token)

    assert (refused.status, refused.json) == (400, {"error": "invalid_request"})
    assert (await app.refresh(new.refresh_token)).status == 200


@pytest.mark.parametrize(("race_error", "status"), [(True, 500), (False, 400)])
async def test_the_loser_of_a_race_may_be_told_a_server_error(
    app: AppDriver,
    sandbox: Sandbox,
    race_error: bool,  # noqa: FBT001 - a parameter of the test
    status: int,
) -> None:
    """A dex answers 500 to a token that another request is spending, and 400 once that is done."""
    sandbox.tune(race_error=race_error)
    lost = await lose_race(app, sandbox)

    assert lost.status == status
    assert lost.json["error"] == ("server_error" if race_error else "invalid_request")

"""Akoya's guidance for testing data errors, and the rules of the data APIs' front door."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.sandbox.driver import V3

if TYPE_CHECKING:
    from sidecar.sandbox import Sandbox
    from tests.sandbox.driver import AppDriver, FakeClock

_CHECKING = "g833202fb0866d0ad83472c429"


async def _first_account(app: AppDriver, user: str) -> str:
    pair = await app.connect(user)
    listed = await app.get("/accounts-info/v2/mikomo", pair)
    return str(next(iter(listed.json["accounts"][0].values()))["accountId"])


@pytest.mark.parametrize(
    "path",
    [
        "/accounts-info/v2/mikomo?mode=cooked",
        f"/transactions/v2/mikomo/{_CHECKING}?limit=many",
        f"/transactions/v2/mikomo/{_CHECKING}?limit=0",
        f"/transactions/v2/mikomo/{_CHECKING}?offset=-1",
        "/accounts-info/v2/Mikomo!",
        "/customers/v2/mikomo/former",
    ],
)
async def test_a_wrong_parameter_is_invalid_input(app: AppDriver, path: str) -> None:
    """Invalid input has HTTP status 400 and the code 401, which is no HTTP status."""
    pair = await app.connect("mikomo_10")

    refused = await app.get(path, pair)

    assert refused.status == 400
    assert refused.json == {"code": 401, "message": "Invalid input"}


async def test_an_id_token_of_another_provider_is_not_authorized(app: AppDriver) -> None:
    """A bearer opens the provider it was given for and no other."""
    pair = await app.connect("mikomo_10", "other-bank")

    refused = await app.get("/accounts/v2/mikomo", pair)

    assert refused.status == 401
    assert refused.json == {"code": 602, "message": "Customer not authorized"}


async def test_account_ids_of_another_user_are_not_found(app: AppDriver) -> None:
    """An account of another user of the same provider is 404/701, as if it did not exist."""
    foreign = await _first_account(app, "mikomo_14")
    pair = await app.connect("mikomo_10")

    refused = await app.get(f"/accounts/v2/mikomo?accountIds={_CHECKING},{foreign}", pair)
    allowed = await app.get(f"/accounts/v2/mikomo?accountIds={_CHECKING}", pair)

    assert (refused.status, refused.json) == (404, {"code": 701, "message": "Account not found"})
    assert allowed.status == 200


async def test_transactions_without_an_account_are_not_found(app: AppDriver) -> None:
    """Leaving the accountId out of the path is 404/701."""
    pair = await app.connect("mikomo_10")

    refused = [await app.get(f"/transactions/v2/mikomo{end}", pair) for end in ("", "/")]

    assert [(each.status, each.json["code"]) for each in refused] == [(404, 701)] * 2


async def test_a_path_without_a_provider_is_invalid_input(app: AppDriver) -> None:
    """Leaving the providerId out of the path is 400/401."""
    pair = await app.connect("mikomo_10")

    refused = [await app.get(f"/accounts/v2{end}", pair) for end in ("", "/")]

    assert [(each.status, each.json["code"]) for each in refused] == [(400, 401)] * 2


@pytest.mark.parametrize(
    ("window", "code", "message"),
    [
        ("startTime=yesterday&endTime=today", 702, "Invalid start or end date"),
        ("startTime=06/01/2026&endTime=06/02/2026", 702, "Invalid start or end date"),
        ("startTime=2026-05-02&endTime=2026-05-01", 703, "Invalid date range"),
        ("startTime=2026-05-01", 703, "Invalid date range"),
    ],
)
async def test_dates_that_are_no_window_are_refused(
    app: AppDriver, window: str, code: int, message: str
) -> None:
    """What is not ISO 8601 is 702; an upside-down or half window is 703."""
    pair = await app.connect("mikomo_10")

    refused = await app.get(f"/transactions/v2/mikomo/{_CHECKING}?{window}", pair)

    assert (refused.status, refused.json) == (400, {"code": code, "message": message})


async def test_dates_before_the_history_find_nothing(app: AppDriver) -> None:
    """A window before the bank's history is a good request with an empty answer."""
    pair = await app.connect("mikomo_10")
    path = f"/transactions/v2/mikomo/{_CHECKING}?startTime=1999-01-01&endTime=1999-12-31"

    found = await app.get(path, pair)

    assert (found.status, found.json) == (200, {"transactions": []})


@pytest.mark.parametrize(
    ("user", "status", "code", "message"),
    [
        ("mikomo_500", 500, 500, "Internal server error"),
        ("mikomo_501", 501, 501, "Subsystem unavailable"),
        ("mikomo_601", 404, 601, "Customer not found"),
        ("mikomo_602", 401, 602, "Customer not authorized"),
        ("mikomo_701", 404, 701, "Account not found"),
        ("mikomo_702", 400, 702, "Invalid start or end date"),
        ("mikomo_703", 400, 703, "Invalid date range"),
        ("mikomo_704", 422, 704, "Account type not supported"),
    ],
)
async def test_an_error_user_gets_tokens_but_its_error_for_data(
    app: AppDriver, user: str, status: int, code: int, message: str
) -> None:
    """Consent and tokens of an error user work; every data call answers its code."""
    pair = await app.connect(user)

    refused = await app.get("/accounts-info/v2/mikomo", pair)

    assert (refused.status, refused.json) == (status, {"code": code, "message": message})


@pytest.mark.parametrize("product", ["accounts-info", "balances", "accounts"])
async def test_a_partial_answer_is_206_with_the_error_in_its_account(
    app: AppDriver, product: str
) -> None:
    """mikomo_206 has one account with data and one with an error in its place."""
    pair = await app.connect("mikomo_206")

    partial = await app.get(f"/{product}/v2/mikomo", pair)

    checking, savings = (each["depositAccount"] for each in partial.json["accounts"])
    assert partial.status == 206
    assert "error" not in checking
    assert savings["error"] == {"code": 501, "message": "Subsystem unavailable"}


async def test_an_unknown_provider_is_not_subscribed(app: AppDriver) -> None:
    """A provider unknown-... is 403, whoever asks; a version that is none is 403 too."""
    pair = await app.connect("mikomo_10")

    unsubscribed = await app.get("/accounts/v2/unknown-bank", pair)
    no_version = await app.get("/accounts/v9/mikomo", pair)

    assert unsubscribed.status == 403
    assert unsubscribed.json == {"code": 403, "message": "Subscription not found"}
    assert (no_version.status, "code" in no_version.json) == (403, False)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-akoya-interaction-type": "user"},
        {"x-akoya-last-access": "2026-06-01T12:00:00Z"},
        {**V3, "x-akoya-interaction-type": "robot"},
        {**V3, "x-akoya-last-access": "lately"},
        {**V3, "x-akoya-intent-type": "gifts"},
    ],
)
async def test_v3_needs_its_headers(app: AppDriver, headers: dict[str, str]) -> None:
    """v3 refuses a request without interaction type and last access; v2 does not ask."""
    pair = await app.connect("mikomo_10")

    v3 = await app.get("/accounts/v3/mikomo", pair, **headers)
    v2 = await app.get("/accounts/v2/mikomo", pair, **headers)

    assert (v3.status, v3.json) == (400, {"code": 401, "message": "Invalid input"})
    assert v2.status == 200


async def test_requests_above_the_rate_are_refused(
    app: AppDriver, sandbox: Sandbox, clock: FakeClock
) -> None:
    """Within one second as many requests pass as the rate says; then 429/1207."""
    sandbox.tune(rate_limit=5)
    pair = await app.connect("mikomo_10")

    answers = [await app.get("/accounts/v2/mikomo", pair) for _ in range(6)]
    clock.advance(1)
    later = await app.get("/accounts/v2/mikomo", pair)

    assert [each.status for each in answers] == [200] * 5 + [429]
    assert answers[-1].json == {"code": 1207, "message": "Too many requests"}
    assert later.status == 200


async def test_every_response_has_an_interaction_id(app: AppDriver) -> None:
    """The client's own id is echoed; without one each response has a fresh one, refused or not."""
    pair = await app.connect("mikomo_10")
    path = "/accounts/v2/mikomo"

    echoed = await app.get(path, pair, **{"x-akoya-interaction-id": "mine"})
    fresh = [await app.get(path, pair), await app.send("GET", path), await app.refresh("nonsense")]

    assert echoed.headers["x-akoya-interaction-id"] == "mine"
    assert len({each.headers["x-akoya-interaction-id"] for each in fresh}) == 3


async def test_data_is_compressed_for_clients_that_read_gzip_only(app: AppDriver) -> None:
    """Gzip is used when it is accepted, and the content is the same without it."""
    pair = await app.connect("mikomo_10")
    path = "/accounts/v2/mikomo"

    zipped = await app.get(path, pair, **{"Accept-Encoding": "gzip"})
    plain = await app.get(path, pair, **{"Accept-Encoding": "identity"})
    refused = await app.get(path, pair, **{"Accept-Encoding": "gzip;q=0"})

    assert zipped.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert "Content-Encoding" not in refused.headers
    assert zipped.json == plain.json


async def test_data_is_read_only(app: AppDriver) -> None:
    """Nothing but GET is allowed on data paths."""
    pair = await app.connect("mikomo_10")
    headers = {"Authorization": f"Bearer {pair.id_token}"}

    refused = await app.send("POST", "/accounts/v2/mikomo", headers=headers)

    assert refused.status == 405

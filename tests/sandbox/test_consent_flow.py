"""The login can be clicked through with plain forms, and refuses what Akoya's refuses."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from tests.sandbox.driver import CALLBACK, pair_of

if TYPE_CHECKING:
    from sidecar.sandbox import Sandbox
    from tests.sandbox.driver import Answered, AppDriver, FakeClock

_REQUEST = {
    "connector": "mikomo",
    "client_id": "sandbox-client",
    "redirect_uri": CALLBACK,
    "response_type": "code",
    "scope": "openid profile offline_access",
    "state": "some state & more",
}


def _form(page: Answered) -> tuple[str, dict[str, str], list[str]]:
    """Read a page's form: where it posts, its hidden fields, its account boxes."""
    text = page.body.decode()
    action = re.search(r'<form method="post" action="([^"]+)">', text)
    assert action is not None, text
    hidden = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]+)">', text))
    boxes = re.findall(r'<input type="checkbox" name="account" value="([^"]+)">', text)
    return action[1], hidden, [unescape(box) for box in boxes]


async def _begin(app: AppDriver, **changes: str) -> Answered:
    wish = {name: value for name, value in {**_REQUEST, **changes}.items() if value}
    return await app.send("GET", f"/auth?{urlencode(wish)}")


async def _click(app: AppDriver, page: Answered, **fields: str | list[str]) -> Answered:
    action, hidden, _ = _form(page)
    pairs: list[tuple[str, str]] = list(hidden.items())
    for name, value in fields.items():
        pairs += [(name, each) for each in (value if isinstance(value, list) else [value])]
    return await app.send("POST", action, data=pairs)


async def _until_accounts(app: AppDriver, user: str = "mikomo_7") -> Answered:
    page = await _click(app, await _begin(app), username=user, password=user)
    return await _click(app, page, decision="next")


def _landed(answered: Answered) -> dict[str, str]:
    assert answered.status == 302
    location = answered.headers["Location"]
    assert location.startswith(f"{CALLBACK}?")
    return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}


async def test_a_script_clicks_through_with_three_forms(app: AppDriver) -> None:
    """Sign in, Next, Approve: the user lands at the app with a code that covers the chosen."""
    accounts = await _until_accounts(app)
    _, _, boxes = _form(accounts)

    landed = _landed(await _click(app, accounts, account=boxes[:2], decision="approve"))
    pair = pair_of(await app.exchange(landed["code"]))
    listed = (await app.get("/accounts-info/v2/mikomo", pair)).json["accounts"]
    hidden = await app.get(f"/accounts/v2/mikomo?accountIds={boxes[2]}", pair)

    ids = [account["accountId"] for each in listed for account in each.values()]
    assert landed["state"] == "some state & more"
    assert re.fullmatch(r"[a-z][a-z2-7]{24}", landed["code"])
    assert ids == boxes[:2]
    assert (hidden.status, hidden.json["code"]) == (404, 701)


@pytest.mark.parametrize("step", [0, 1, 2])
async def test_a_user_can_cancel_at_every_step(app: AppDriver, step: int) -> None:
    """Cancel leads back to the app with access_denied and the state, and ends the flow."""
    page = await _begin(app)
    for fields in ({"username": "mikomo_7", "password": "mikomo_7"}, {"decision": "next"})[:step]:
        page = await _click(app, page, **fields)

    landed = _landed(await _click(app, page, decision="cancel"))
    again = await _click(app, page, decision="cancel")

    assert landed["error"] == "access_denied"
    assert landed["state"] == "some state & more"
    assert again.status == 400


@pytest.mark.parametrize(
    ("user", "password"),
    [("mikomo_7", "wrong"), ("", ""), ("somebody", "somebody"), ("mikomo_7\n", "mikomo_7\n")],
)
async def test_a_wrong_login_is_told_and_can_be_mended(
    app: AppDriver, user: str, password: str
) -> None:
    """Only sandbox users with their name as password get on; the form is there to try again."""
    refused = await _click(app, await _begin(app), username=user, password=password)
    mended = await _click(app, refused, username="GenericUser_Pfm", password="GenericUser_Pfm")

    assert refused.status == 401
    assert b"GenericUser_Pfm" in mended.body


async def test_no_step_can_be_skipped(app: AppDriver) -> None:
    """Without a sign-in there are no terms, and without terms no accounts and no code."""
    begun = await _begin(app)
    _, hidden, _ = _form(begun)
    form = {**hidden, "decision": "approve", "account": "5426873"}

    terms = await app.send("POST", "/auth/terms", data=form)
    accounts = await app.send("POST", "/auth/accounts", data=form)
    signed_in = await _click(app, begun, username="mikomo_7", password="mikomo_7")
    past_terms = await app.send("POST", "/auth/accounts", data=form)

    assert signed_in.status == 200
    assert [terms.status, accounts.status, past_terms.status] == [400, 400, 400]
    assert b"Requested resource does not exist" in past_terms.body


async def test_at_least_one_own_account_must_be_chosen(app: AppDriver) -> None:
    """No account, or one that was not offered, brings the page back."""
    page = await _until_accounts(app)

    none = await _click(app, page, decision="approve")
    foreign = await _click(app, page, account=["5426873", "foreign"], decision="approve")

    assert (none.status, foreign.status) == (400, 400)
    assert _form(foreign)[2] == _form(page)[2]


async def test_a_flow_left_alone_ends(app: AppDriver, clock: FakeClock) -> None:
    """After ten minutes a login page leads nowhere."""
    page = await _begin(app)
    clock.advance(600)

    late = await _click(app, page, username="mikomo_7", password="mikomo_7")

    assert late.status == 400


@pytest.mark.parametrize(
    ("changes", "status", "text"),
    [
        ({"client_id": '<b>"'}, 400, "Invalid client_id (&quot;&lt;b&gt;&quot;&quot;)"),
        ({"redirect_uri": "https://evil.example/"}, 400, "Unregistered redirect_uri"),
        ({"redirect_uri": "http://127.evil.example/"}, 400, "Unregistered redirect_uri"),
        ({"redirect_uri": "http://me@127.0.0.1/"}, 400, "Unregistered redirect_uri"),
        ({"redirect_uri": ""}, 400, "Unregistered redirect_uri"),
        ({"connector": "unknown-bank"}, 400, "Invalid ConnectorID"),
        ({"connector": "Bank!"}, 400, "Invalid ConnectorID"),
        ({"connector": ""}, 200, "this login leads to no bank"),
    ],
)
async def test_what_must_not_be_redirected_is_shown(
    app: AppDriver, changes: dict[str, str], status: int, text: str
) -> None:
    """Wrong client, redirect URI or connector stay in the browser, escaped, with Akoya's status."""
    shown = await _begin(app, **changes)

    assert shown.status == status
    assert "Location" not in shown.headers
    assert text in shown.body.decode()


@pytest.mark.parametrize(
    ("changes", "error", "description"),
    [
        ({"scope": "profile"}, "invalid_scope", 'Missing required scope(s) ["openid"].'),
        ({"response_type": "token"}, "invalid_request", "Invalid response type"),
        ({"response_type": ""}, "invalid_request", "Invalid response type"),
    ],
)
async def test_what_the_app_got_wrong_is_sent_back_to_it(
    app: AppDriver, changes: dict[str, str], error: str, description: str
) -> None:
    """Scope and response type errors are redirected with error, description and state."""
    landed = _landed(await _begin(app, **changes))

    assert landed == {
        "error": error,
        "error_description": description,
        "state": _REQUEST["state"],
    }


async def test_the_pages_load_nothing_and_post_home_or_to_the_app_only(app: AppDriver) -> None:
    """The policy forbids scripts and assets; forms may post here and end at the redirect URI."""
    pages = [await _begin(app), await _until_accounts(app)]

    policies = [page.headers["Content-Security-Policy"] for page in pages]

    assert all("default-src 'none'" in policy for policy in policies)
    assert all("form-action 'self' http://127.0.0.1:7777;" in policy for policy in policies)
    assert all(b"<script" not in page.body and b"src=" not in page.body for page in pages)


async def test_without_offline_access_there_is_no_refresh_token(app: AppDriver) -> None:
    """The scope offline_access is what brings a refresh token."""
    page = await _begin(app, scope="openid profile")
    page = await _click(app, page, username="mikomo_10", password="mikomo_10")
    page = await _click(app, page, decision="next")
    landed = _landed(await _click(app, page, account=_form(page)[2], decision="approve"))

    obtained = await app.exchange(landed["code"])

    assert obtained.status == 200
    assert "refresh_token" not in obtained.json


async def test_registered_redirect_uris_shut_out_all_others(sandbox: Sandbox) -> None:
    """Once the app has registered URIs, no other will do, loopback or not."""
    settings = replace(sandbox.settings, redirect_uris=("https://app.example/back",))

    assert settings.allows_redirect_to("https://app.example/back")
    assert not settings.allows_redirect_to("https://app.example/back/")
    assert not settings.allows_redirect_to(CALLBACK)

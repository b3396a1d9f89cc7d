"""The life of a grant as an app drives it: onboarded, imported, watched, renewed, ended, erased."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest

from sidecar.domain.events import GrantInvalidated, GrantPurged, GrantRevoked
from sidecar.domain.failure import Operation
from sidecar.domain.wire import Answered, TokenRequest
from tests.support.control_rig import CODE, GRANT, ONBOARDING, running_control
from tests.support.scripted_idp import (
    field_of,
    id_token,
    json_answer,
    pair_answer,
    refusal,
)
from tests.support.sidecar_parts import KEY, REDIRECT_URI
from tests.support.wait import until

IMPORTED = {"id_token": id_token(), "refresh_token": "canary-imported-0"}
DAY_S = 86400


async def test_a_code_becomes_a_grant() -> None:
    """The code goes to Akoya once with its redirect URI, and the grant is shown without tokens."""
    async with running_control() as control:
        got = await control.onboard("canary-refresh")
        shown = await control.ask("GET", GRANT)
        request = control.rig.idp.sent[0]

    assert got.status == 201
    assert (
        got.document
        == shown.document
        == {
            "user": "u-1",
            "provider": "mikomo",
            "grant": control.rig.parts.grant(),
            "state": "active",
            "consented_at": "2023-11-14T22:13:20.000Z",
            "generation": 0,
            "id_token_expires_at": "2023-11-14T22:28:20.000Z",
            "refreshed_at": "2023-11-14T22:13:20.000Z",
            "subject": "subject-1",
            "grant_id": "akoya-grant-1",
            "readable": True,
            "last_error": None,
        }
    )
    assert "canary" not in got.text
    assert (field_of(request, "code"), field_of(request, "redirect_uri")) == (CODE, REDIRECT_URI)


async def test_an_exchange_goes_on_when_its_caller_has_waited_long_enough() -> None:
    """After the wait the app is told to ask GET; the pair still comes and is stored."""
    released = asyncio.Event()

    async def slowly(request: TokenRequest) -> Answered:
        del request
        await released.wait()
        return pair_answer("refresh-0")

    async with running_control(slowly, exchange_wait_s=0.05) as control:
        got = await control.ask("POST", "/grants", body=ONBOARDING)
        released.set()
        store = control.rig.store
        await until(lambda: bool(store.records), within_s=30, what="the pair to be stored")
        shown = await control.ask("GET", GRANT)

    assert (got.status, got.document["reason"]) == (503, "token_unavailable")
    assert "Retry-After" in got.headers
    assert shown.document["state"] == "active"


async def test_a_user_id_is_decoded_once() -> None:
    """An encoded slash or percent belongs to the id, on every call."""
    user = "a/b%2Fc@d"
    async with running_control(pair_answer("refresh-0")) as control:
        await control.ask("POST", "/grants", body=ONBOARDING | {"user": user})
        got = await control.ask("GET", "/grants/mikomo/a%2Fb%252Fc%40d")
        dots = await control.ask("GET", "/grants/mikomo/%2e%2e")

    assert got.document["user"] == user
    assert (dots.status, dots.document["reason"]) == (400, "request_invalid")


async def test_imported_tokens_are_served_until_their_own_end() -> None:
    """The life of an imported id_token is what is left of it, not what it once had."""
    async with running_control() as control:
        control.rig.clock.advance(600)
        got = await control.ask("PUT", GRANT, body=IMPORTED | {"expires_in": 86400})
        bearer = control.rig.parts.vault.open_pair(
            control.rig.parts.grant(), control.rig.store.records[control.rig.parts.grant()].pair
        )

    assert got.status == 201
    assert got.document["id_token_expires_at"] == "2023-11-14T22:28:20.000Z"
    assert bearer.refresh_token.reveal() == "canary-imported-0"
    assert "canary" not in got.text


@pytest.mark.parametrize(
    ("members", "status", "changes"),
    [
        ({}, 200, False),
        ({"refresh_token": "canary-imported-1"}, 409, False),
        (
            {"refresh_token": "canary-imported-1", "consented_at": "2023-11-14T22:13:19Z"},
            409,
            False,
        ),
        (
            {"refresh_token": "canary-imported-1", "consented_at": "2023-11-14T23:13:21+01:00"},
            200,
            True,
        ),
    ],
)
async def test_an_import_replaces_only_an_older_consent(
    members: dict[str, str], status: int, *, changes: bool
) -> None:
    """A forgotten import job cannot put yesterday's tokens over today's consent."""
    async with running_control() as control:
        await control.ask("PUT", GRANT, body=IMPORTED)
        before = control.rig.store.records[control.rig.parts.grant()]
        got = await control.ask("PUT", GRANT, body=IMPORTED | members)
        after = control.rig.store.records[control.rig.parts.grant()]

    assert got.status == status
    assert (after.pair.consent != before.pair.consent) == changes
    if status == 409:
        assert got.document["reason"] == "grant_exists"
        assert got.document["current"]["state"] == "active"


async def test_an_import_may_replace_a_live_grant_on_purpose() -> None:
    """`?replace=true` is the operator's way out."""
    async with running_control() as control:
        await control.ask("PUT", GRANT, body=IMPORTED)
        got = await control.ask(
            "PUT", f"{GRANT}?replace=true", body=IMPORTED | {"refresh_token": "other"}
        )

    assert got.status == 200


async def test_the_url_of_the_consent_page_is_made_for_a_provider() -> None:
    """The app sends its user to Akoya with its own state, and nothing is guessed."""
    async with running_control() as control:
        got = await control.ask("GET", "/authorize-url?provider=mikomo&state=12345678")
        short = await control.ask("GET", "/authorize-url?provider=mikomo&state=1234567")

    url = urlsplit(str(got.document["url"]))
    assert (url.netloc, url.path) == ("idp.example", "/auth")
    assert parse_qs(url.query) == {
        "connector": ["mikomo"],
        "client_id": ["client-1"],
        "redirect_uri": [REDIRECT_URI],
        "response_type": ["code"],
        "scope": ["openid profile offline_access"],
        "state": ["12345678"],
    }
    assert (short.status, short.document["errors"][0]["name"]) == (400, "state")


async def test_a_refresh_on_demand_brings_the_next_generation() -> None:
    """The app can renew a grant now, and sees the new expiry."""
    async with running_control() as control:
        await control.onboard()
        control.rig.clock.advance(60)
        control.rig.idp.then(pair_answer("refresh-1"))
        got = await control.ask("POST", f"{GRANT}/refresh", body={})
        shown = await control.ask("GET", GRANT)

    assert got.status == 200
    assert got.document["generation"] == 1
    assert got.document == shown.document


async def test_only_an_order_skips_a_backoff_and_not_twice_at_once() -> None:
    """`override_backoff` is a person's word: obeyed once, then it waits with `Retry-After`."""
    busy = refusal(503, "busy", retry_after_s=31_536_000.0)
    order = f"{GRANT}/refresh?override_backoff=true"
    async with running_control() as control:
        await control.onboard()
        control.rig.idp.then(busy, busy)
        failed = await control.ask("POST", f"{GRANT}/refresh")
        plain = await control.ask("POST", f"{GRANT}/refresh")
        denied = await control.ask("POST", f"{GRANT}/refresh?override_backoff=false")
        first = await control.ask("POST", order)
        second = await control.ask("POST", order)
        control.rig.clock.advance(30)
        control.rig.idp.then(pair_answer("refresh-1"))
        third = await control.ask("POST", order)
        odd = await control.ask("POST", f"{GRANT}/refresh?override_backoff=1")

    assert failed.document["reason"] == "server_error"
    assert {each.document.get("obstacle") for each in (plain, denied, second)} == {"backing_off"}
    assert plain.headers["Retry-After"] == "120", "ten minutes remain; two are told"
    assert first.document["reason"] == "server_error", "Akoya was asked"
    assert 1 <= int(second.headers["Retry-After"]) <= 30
    assert (third.status, third.document["generation"]) == (200, 1)
    assert (odd.status, odd.document["errors"][0]["name"]) == (400, "override_backoff")


@pytest.mark.parametrize("field", ["expires_at_ms", "consented_at_ms"])
async def test_an_instant_that_no_calendar_has_is_shown_as_none(field: str) -> None:
    """A record of another version is shown and listed, whatever its numbers."""
    async with running_control() as control:
        await control.onboard()
        grant = control.rig.parts.grant()
        stands = control.rig.store.records[grant]
        if field == "expires_at_ms":
            odd = replace(stands.pair, expires_at_ms=2**53 - 1)
        else:
            consent = replace(stands.pair.consent, consented_at_ms=2**53 - 1)
            odd = replace(stands.pair, consent=consent)
        control.rig.store.records[grant] = replace(stands, pair=odd)
        shown = await control.ask("GET", GRANT)
        listed = await control.ask("GET", "/grants")

    name = {"expires_at_ms": "id_token_expires_at", "consented_at_ms": "consented_at"}[field]
    assert (shown.status, shown.document[name]) == (200, None)
    assert listed.document["grants"] == [shown.document]


async def test_pages_show_every_grant_once() -> None:
    """Whoever follows the cursor sees each grant; filters make pages shorter, not fewer."""
    users = [f"u-{number}" for number in range(7)]
    async with running_control(*(pair_answer(user) for user in users)) as control:
        for user in users:
            await control.ask("POST", "/grants", body=ONBOARDING | {"user": user})
        await control.ask("POST", "/grants/mikomo/u-3/invalidate")
        seen: dict[str, list[str]] = {}
        for wanted in ("", "&state=reauth_required", "&state=active&provider=mikomo", "&user=u-5"):
            cursor = ""
            while cursor is not None:
                got = await control.ask("GET", f"/grants?limit=2{wanted}&cursor={cursor}")
                seen.setdefault(wanted, []).extend(g["user"] for g in got.document["grants"])
                cursor = got.document["cursor"]
        direct = await control.ask("GET", "/grants?user=u-5&provider=mikomo")
        none = await control.ask("GET", "/grants?user=u-3&provider=mikomo&state=active")

    assert [sorted(found) for found in seen.values()] == [
        users,
        ["u-3"],
        [user for user in users if user != "u-3"],
        ["u-5"],
    ]
    assert [grant["user"] for grant in direct.document["grants"]] == ["u-5"]
    assert direct.document["cursor"] is None
    assert none.document["grants"] == []


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=x",
        "state=gone",
        "cursor=abc",
        "cursor=%00",
        "user=%20",
        "x=1",
    ],
)
async def test_a_listing_refuses_what_it_cannot_mean(query: str) -> None:
    """A mangled cursor does not quietly start from the beginning."""
    async with running_control() as control:
        got = await control.ask("GET", f"/grants?{query}")

    assert (got.status, got.document["reason"]) == (400, "request_invalid")
    assert [error["name"] for error in got.document["errors"]] == [query.partition("=")[0]]


async def test_the_feed_tells_an_app_whom_to_ask_for_consent_again() -> None:
    """Each change of a grant's state is an entry, and the cursor goes on after the last."""
    async with running_control() as control:
        await control.onboard()
        first = await control.ask("GET", "/events?limit=1")
        await control.ask("POST", f"{GRANT}/invalidate")
        control.rig.idp.then(json_answer(200, {}))
        await control.ask("DELETE", GRANT)
        later = await control.ask("GET", f"/events?cursor={first.document['cursor']}")
        end = await control.ask("GET", f"/events?cursor={later.document['cursor']}")
        foreign = await control.ask("GET", f"/grants?cursor={first.document['cursor']}")

    assert [event["state"] for event in first.document["events"]] == ["active"]
    assert [
        (event["user"], event["provider"], event["state"], event["reason"])
        for event in later.document["events"]
    ] == [
        ("u-1", "mikomo", "reauth_required", "invalidated"),
        ("u-1", "mikomo", "revoked", None),
    ]
    assert end.document == {"events": [], "cursor": later.document["cursor"]}
    assert foreign.status == 400


async def test_an_invalidated_grant_waits_for_consent_without_asking_akoya() -> None:
    """After a webhook the grant is dead at once; saying it again changes nothing."""
    async with running_control() as control:
        await control.onboard()
        got = await control.ask("POST", f"{GRANT}/invalidate")
        again = await control.ask("POST", f"{GRANT}/invalidate")
        unknown = await control.ask("POST", "/grants/mikomo/nobody/invalidate")
        sent = len(control.rig.idp.sent)

    assert got.document["state"] == "reauth_required"
    assert got.document["last_error"]["reason"] == "invalidated"
    assert (again.status, again.document) == (200, got.document)
    assert (unknown.status, unknown.document["reason"]) == (404, "grant_unknown")
    assert len(control.rig.parts.observer.of(GrantInvalidated)) == 1
    assert sent == 1


async def test_a_revoked_grant_is_revoked_at_akoya_with_its_newest_token() -> None:
    """DELETE ends the grant at both sides, and doing it again is fine."""
    async with running_control() as control:
        await control.onboard("refresh-0")
        control.rig.idp.then(pair_answer("refresh-1"), json_answer(200, {}))
        await control.ask("POST", f"{GRANT}/refresh")
        got = await control.ask("DELETE", GRANT)
        again = await control.ask("DELETE", GRANT)
        shown = await control.ask("GET", GRANT)
        unknown = await control.ask("DELETE", "/grants/mikomo/nobody")
        told = control.rig.idp.of(Operation.REVOKE)

    assert (got.status, again.status, unknown.status) == (204, 204, 404)
    assert [field_of(request, "token") for request in told] == ["refresh-1"]
    assert shown.document["state"] == "revoked"
    assert shown.document["user"] == "u-1"
    assert shown.document["id_token_expires_at"] is None
    assert len(control.rig.parts.observer.of(GrantRevoked)) == 1


async def test_a_revocation_that_akoya_does_not_answer_is_kept() -> None:
    """202 says that the grant is served no more and that the order is repeated."""
    released = asyncio.Event()

    async def never(request: TokenRequest) -> Answered:
        del request
        await released.wait()
        return json_answer(200, {})

    async with running_control(exchange_wait_s=0.2) as control:
        await control.onboard()
        control.rig.idp.then(never)
        got = await control.ask("DELETE", GRANT)
        shown = await control.ask("GET", GRANT)
        released.set()

    assert got.status == 202
    assert got.document["state"] == shown.document["state"] == "revoking"
    assert (got.document["user"], got.document["failure"]) == ("u-1", None)


async def test_a_person_is_forgotten_once_no_late_copy_can_revive_the_grant() -> None:
    """`?purge=true` revokes, asks for patience, and then erases, here and in the spool."""
    async with running_control() as control:
        await control.onboard()
        control.rig.idp.then(json_answer(200, {}))
        early = await control.ask("DELETE", f"{GRANT}?purge=true")
        control.rig.clock.advance(DAY_S - 1)
        almost = await control.ask("DELETE", f"{GRANT}?purge=true")
        control.rig.clock.advance(1)
        got = await control.ask("DELETE", f"{GRANT}?purge=true")
        gone = await control.ask("DELETE", f"{GRANT}?purge=true")
        pairs = dict(control.rig.spool.state.pairs)

    assert (early.status, early.document["reason"]) == (409, "purge_too_early")
    assert early.headers["Retry-After"] == str(DAY_S)
    assert early.document["current"]["state"] == "revoked"
    assert (almost.status, almost.headers["Retry-After"]) == (409, "1")
    assert (got.status, gone.status) == (204, 404)
    assert control.rig.store.records == {}
    assert pairs == {}
    assert len(control.rig.parts.observer.of(GrantPurged)) == 1


async def test_a_record_of_a_lost_key_is_shown_as_unreadable() -> None:
    """What is sealed with a key that is not here is not shown, and the listing goes on."""
    async with running_control() as control:
        await control.onboard()
        grant = control.rig.parts.grant()
        record = control.rig.store.records[grant]
        control.rig.store.records[grant] = replace(
            record,
            pair=replace(record.pair, sealed_pair=b"ak1|lost|x", sealed_key=b"ak1|lost|x"),
        )
        shown = await control.ask("GET", GRANT)
        listed = await control.ask("GET", "/grants")
        filtered = await control.ask("GET", "/grants?user=u-1")
        direct = await control.ask("GET", "/grants?user=u-1&provider=mikomo")

    assert (shown.document["readable"], shown.document["subject"]) == (False, None)
    assert shown.document["user"] == "u-1"
    assert [grant["user"] for grant in listed.document["grants"]] == [None]
    assert filtered.document["grants"] == []
    assert direct.document["grants"] == [shown.document]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", GRANT, None),
        ("GET", "/grants", None),
        ("GET", "/events", None),
        ("POST", "/grants", ONBOARDING),
        ("PUT", GRANT, IMPORTED),
        ("POST", f"{GRANT}/refresh", None),
        ("POST", f"{GRANT}/invalidate", None),
        ("DELETE", GRANT, None),
        ("DELETE", f"{GRANT}?purge=true", None),
    ],
)
async def test_while_the_store_is_away_every_call_says_so(
    method: str, path: str, body: object
) -> None:
    """Nothing is sent to Akoya and nothing is promised; the app is told to come back."""
    async with running_control() as control:
        control.rig.store.is_available = False
        got = await control.ask(method, path, body=body)

    assert (got.status, got.document["reason"]) == (503, "token_unavailable")
    assert got.document["obstacle"] == "store_away"
    assert "Retry-After" in got.headers
    assert control.rig.idp.requests == []


async def test_after_a_change_the_proxy_asks_the_store_again() -> None:
    """A bearer in memory is not served on after its grant was ended over this very API."""
    async with running_control() as control:
        await control.onboard()
        broker = control.rig.parts.broker
        await broker.token_for(KEY)
        before = broker.peek(KEY)
        await control.ask("POST", f"{GRANT}/invalidate")
        after = broker.peek(KEY)

    assert before is not None
    assert after is None

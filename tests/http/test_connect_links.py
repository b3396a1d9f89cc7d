"""What an app gets for `POST /connect-links`."""

from __future__ import annotations

from tests.support.connect_rig import CONNECT_URL, ORDER, running_connect
from tests.support.control_rig import running_control


async def test_a_link_names_nobody_and_is_another_one_each_time() -> None:
    """201 with a URL at the public address and its life; no two are the same."""
    async with running_connect() as rig:
        got = [await rig.control.ask("POST", "/connect-links", body=ORDER) for _ in range(2)]

    assert [each.status for each in got] == [201, 201]
    urls = {each.document["url"] for each in got}
    assert len(urls) == 2
    assert all(url.startswith(f"{CONNECT_URL}/connect/") and "u-1" not in url for url in urls)
    assert [each.document["expires_in_s"] for each in got] == [300, 300]
    assert [event.route for event in rig.control.completed] == ["POST /connect-links"] * 2
    assert all(event.grant for event in rig.control.completed)


async def test_all_that_is_wrong_with_an_order_is_said_at_once() -> None:
    """Every member is checked, and what is not known is refused."""
    async with running_connect() as rig:
        body = {"user": "", "provider": "a/b", "return_to": "x", "account": "\n", "more": 1}
        got = await rig.control.ask("POST", "/connect-links", body=body)

    assert got.status == 400
    named = [error["name"] for error in got.document["errors"]]
    assert named == ["user", "provider", "return_to", "account", "more"]


async def test_no_link_is_made_without_a_control_key() -> None:
    """Only the app decides who connects a bank as whom."""
    async with running_connect() as rig:
        got = await rig.control.ask("POST", "/connect-links", body=ORDER, key=None)

    assert (got.status, got.document["reason"]) == (401, "control_key_invalid")


async def test_a_link_needs_the_store() -> None:
    """503 with Retry-After: a link that no sidecar could find helps nobody."""
    async with running_connect() as rig:
        rig.control.rig.store.is_available = False
        got = await rig.control.ask("POST", "/connect-links", body=ORDER)

    assert (got.status, got.document["obstacle"]) == (503, "store_away")
    assert got.headers["Retry-After"] == "1"


async def test_where_consent_in_the_browser_is_off_the_app_is_told_so() -> None:
    """404 with a reason of its own, which names the setting."""
    async with running_control() as control:
        got = await control.ask("POST", "/connect-links", body=ORDER)

    assert (got.status, got.document["reason"]) == (404, "connect_off")
    assert "SIDECAR_CONNECT_LISTEN" in got.document["detail"]

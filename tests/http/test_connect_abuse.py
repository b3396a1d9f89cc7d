"""What a hostile person, page or browser cannot do with a link, a state or a way back."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.domain.return_targets import ReturnTarget, parse_return_target
from sidecar.domain.wire import TokenReply
from tests.support.connect_rig import (
    APP,
    CODE,
    ConnectRig,
    back_in,
    path_of,
    proof_in,
    running_connect,
)
from tests.support.control_rig import GRANT
from tests.support.scripted_idp import pair_answer
from tests.support.secrets_search import found_in


async def assert_nothing_connected(rig: ConnectRig) -> None:
    """No grant stands, and no code was sent."""
    grant = await rig.control.ask("GET", GRANT)
    assert grant.status == 404
    assert rig.control.rig.idp.requests == []


async def test_another_browser_cannot_finish() -> None:
    """A victim who is led to Akoya with an attacker's state connects nothing to the attacker."""
    async with running_connect() as rig:
        attacker, victim = rig.browser(), rig.browser()
        state = await attacker.begin(await rig.link())
        told = await victim.come_back(state)
        await assert_nothing_connected(rig)

    assert told.status == 403
    assert back_in(told) == ""
    assert rig.visits[-1].outcome == "other_browser"


async def test_another_browser_uses_nothing_up() -> None:
    """Whoever learns a state cannot stop the person it belongs to, whatever cookie they make up."""
    async with running_connect(pair_answer("refresh-0")) as rig:
        owner, other = rig.browser(), rig.browser()
        state = await owner.begin(await rig.link())
        other.cookies = dict.fromkeys(owner.cookies, "0" * 32)
        refused = await other.come_back(state)
        done = await owner.come_back(state)

    assert (refused.status, done.status) == (400, 200)
    assert [visit.outcome for visit in rig.visits][-2:] == ["state_unknown", "connected"]


async def test_a_cookie_of_another_visit_does_not_do() -> None:
    """A victim who is connecting a bank of their own can be given no other person's state."""
    async with running_connect() as rig:
        attacker, victim = rig.browser(), rig.browser()
        theirs = await attacker.begin(await rig.link(user="attacker"))
        await victim.begin(await rig.link(user="u-2"))
        told = await victim.come_back(theirs)
        await assert_nothing_connected(rig)

    assert told.status == 400


async def test_a_state_works_once() -> None:
    """A way back that is replayed, in the very same browser, exchanges nothing."""
    async with running_connect(pair_answer("refresh-0"), pair_answer("refresh-1")) as rig:
        browser = rig.browser()
        state = await browser.begin(await rig.link())
        await browser.come_back(state)
        again = await browser.come_back(state)

    assert again.status == 400
    assert rig.visits[-1].outcome == "state_unknown"
    assert len(rig.control.rig.idp.requests) == 1


@pytest.mark.parametrize(
    "query",
    [
        "",
        f"code={CODE}",
        f"code={CODE}&state=",
        f"code={CODE}&state={'0' * 31}",
        f"code={CODE}&state={'0' * 32}&state={'1' * 32}",
        f"code={CODE}&state={'g' * 32}",
        "&".join(f"n{number}=1" for number in range(20)),
        "state=%ff%00",
    ],
)
async def test_a_state_that_was_never_given_leads_nowhere(query: str) -> None:
    """Forged, doubled, cut or missing: a plain page, and no exchange."""
    async with running_connect() as rig:
        browser = rig.browser()
        await browser.begin(await rig.link())
        told = await browser.ask("GET", f"/callback?{query}")
        await assert_nothing_connected(rig)

    assert told.status == 400
    assert rig.visits[-1].outcome == "state_unknown"


async def test_a_forged_state_of_the_right_form_leads_nowhere() -> None:
    """Not even in a browser with a visit of its own under way."""
    async with running_connect() as rig:
        browser = rig.browser()
        await browser.begin(await rig.link())
        told = await browser.come_back("f" * 32)
        await assert_nothing_connected(rig)

    assert (told.status, rig.visits[-1].outcome) == (400, "state_unknown")


async def test_a_link_works_once() -> None:
    """Neither its page nor its form does anything after the button was pressed."""
    async with running_connect() as rig:
        browser = rig.browser()
        link = await rig.link()
        proof = proof_in(await browser.ask("GET", path_of(link)))
        await browser.ask("POST", path_of(link), form={"proof": proof})
        looked = await browser.ask("GET", path_of(link))
        pressed = await browser.ask("POST", path_of(link), form={"proof": proof})

    assert [looked.status, pressed.status] == [410, 410]
    assert [visit.outcome for visit in rig.visits][-2:] == ["link_unknown"] * 2


async def test_a_button_that_is_pressed_twice_begins_once() -> None:
    """Two presses at once, at two sidecars or one, send one browser on and tell the other."""
    async with running_connect() as rig:
        browser = rig.browser()
        link = await rig.link()
        form = {"proof": proof_in(await browser.ask("GET", path_of(link)))}
        pressed = await asyncio.gather(
            *(browser.ask("POST", path_of(link), form=form) for _ in range(8))
        )

    assert sorted(page.status for page in pressed) == [200] + [410] * 7


async def test_links_and_states_age() -> None:
    """A link is good for five minutes, the way to the bank and back for half an hour."""
    async with running_connect() as rig:
        clock, browser = rig.control.rig.clock, rig.browser()
        old = await rig.link()
        state = await browser.begin(await rig.link())
        clock.advance(301)
        link = await browser.ask("GET", path_of(old))
        clock.advance(1500)
        callback = await browser.come_back(state)

    assert (link.status, callback.status) == (410, 400)


@pytest.mark.parametrize("form", [None, {}, {"proof": ""}, {"proof": "0" * 32}, {"proof": "ä"}])
async def test_another_page_cannot_press_the_button(form: dict[str, str] | None) -> None:
    """A form of another site, which cannot know the proof, leaves the link unused."""
    async with running_connect() as rig:
        browser = rig.browser()
        link = await rig.link()
        shown = await browser.ask("GET", path_of(link))
        forged = await browser.ask("POST", path_of(link), form=form)
        pressed = await browser.ask("POST", path_of(link), form={"proof": proof_in(shown)})

    assert (forged.status, pressed.status) == (403, 200)
    assert rig.visits[-2].outcome == "form_refused"


async def test_a_proof_is_of_one_browser_and_one_link() -> None:
    """An attacker's own proof presses no button in a victim's browser, nor on another link."""
    async with running_connect() as rig:
        attacker, victim = rig.browser(), rig.browser()
        link, other = await rig.link(), await rig.link()
        theirs = {"proof": proof_in(await attacker.ask("GET", path_of(link)))}
        await victim.ask("GET", path_of(link))
        await attacker.ask("GET", path_of(other))
        pressed = [
            await rig.browser().ask("POST", path_of(link), form=theirs),
            await victim.ask("POST", path_of(link), form=theirs),
            await attacker.ask("POST", path_of(other), form=theirs),
        ]

    assert [each.status for each in pressed] == [403] * 3


@pytest.mark.parametrize(
    "data", [b"proof=" + b"0" * 5000, b"\xff\xfe", b"&".join([b"proof=1"] * 20)]
)
async def test_a_form_that_is_none_presses_nothing(data: bytes) -> None:
    """Too long, not text, or with too many members."""
    async with running_connect() as rig:
        browser = rig.browser()
        link = await rig.link()
        await browser.ask("GET", path_of(link))
        told = await browser.ask("POST", path_of(link), data=data)

    assert told.status == 403


@pytest.mark.parametrize(
    "return_to",
    [
        "https://evil.example/banks",
        "//evil.example",
        "https://app.example@evil.example/banks",
        "https://app.example\\@evil.example/banks",
        f"{APP}/../elsewhere",
        f"{APP}/%2e%2e/elsewhere",
        f"{APP}/done?outcome=connected",
        "javascript:alert(1)",
        "",
        7,
    ],
)
async def test_no_link_is_made_that_leads_elsewhere(return_to: object) -> None:
    """The app is told that the way back is not allowed, and gets no link."""
    async with running_connect() as rig:
        body = {"user": "u-1", "provider": "mikomo", "return_to": return_to}
        got = await rig.control.ask("POST", "/connect-links", body=body)

    assert (got.status, got.document["reason"]) == (400, "request_invalid")
    assert [error["name"] for error in got.document["errors"]] == ["return_to"]
    assert rig.control.rig.store.deposits == {}


@pytest.mark.parametrize("step", ["link", "begin", "callback"])
async def test_a_way_back_is_checked_again_when_it_is_used(step: str) -> None:
    """A link that was made under another allow-list leads nowhere, at each of its steps."""
    allowed = parse_return_target(APP)
    assert allowed is not None
    targets: list[ReturnTarget] = [allowed]
    async with running_connect(targets=targets) as rig:
        browser = rig.browser()
        link = await rig.link()
        if step == "callback":
            state = await browser.begin(link)
            targets.clear()
            told = await browser.come_back(state)
        else:
            shown = await browser.ask("GET", path_of(link))
            targets.clear()
            form = None if step == "link" else {"proof": proof_in(shown)}
            told = await browser.ask("POST" if form else "GET", path_of(link), form=form)
        await assert_nothing_connected(rig)

    assert told.status == 403
    assert back_in(told) == ""
    assert "app.example" not in told.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/connect", 404),
        ("GET", "/connect/", 404),
        ("GET", f"/connect/{'0' * 31}", 404),
        ("GET", f"/connect/{'A' * 32}", 404),
        ("GET", f"/connect/{'0' * 32}/..", 404),
        ("GET", "/callback/", 404),
        ("GET", "/grants", 404),
        ("GET", "/metrics", 404),
        ("PUT", f"/connect/{'0' * 32}", 405),
        ("POST", "/callback", 405),
        ("HEAD", "/callback", 405),
    ],
)
async def test_nothing_else_is_served_here(method: str, path: str, status: int) -> None:
    """The listener that the world reaches has two pages and no call of the grants API."""
    async with running_connect() as rig:
        told = await rig.browser().ask(method, path)

    assert told.status == status
    assert (status == 405) == ("Allow" in told.headers)
    assert rig.visits[-1].outcome == "misdirected"


async def test_a_look_ahead_at_the_way_back_uses_nothing_up() -> None:
    """HEAD is refused, so that nobody who only looks exchanges a code."""
    async with running_connect(pair_answer("refresh-0")) as rig:
        browser = rig.browser()
        state = await browser.begin(await rig.link())
        looked = await browser.ask("HEAD", f"/callback?code={CODE}&state={state}")
        done = await browser.come_back(state)

    assert (looked.status, done.status) == (405, 200)


async def test_the_store_shows_no_user_no_link_and_no_state() -> None:
    """Whoever reads Redis learns neither who connects nor how to do it in their place."""
    async with running_connect() as rig:
        browser = rig.browser()
        unused, link = await rig.link(user="canary-user"), await rig.link(user="canary-user")
        state = await browser.begin(link)
        secrets = [
            "canary-user",
            path_of(unused).rpartition("/")[2],
            path_of(link).rpartition("/")[2],
            state,
            *browser.cookies.values(),
        ]
        deposits = rig.control.rig.store.deposits
        seen = b"".join(name.encode() + envelope for name, (envelope, _) in deposits.items())

    assert len(deposits) == 2
    assert found_in(seen, secrets) == []


async def test_an_envelope_opens_under_its_own_name_only() -> None:
    """Somebody who can write to Redis cannot swap two people's links."""
    async with running_connect() as rig:
        mine, theirs = await rig.link(), await rig.link(user="u-2")
        deposits = rig.control.rig.store.deposits
        first, second = deposits
        deposits[first], deposits[second] = deposits[second], deposits[first]
        told = [await rig.browser().ask("GET", path_of(link)) for link in (mine, theirs)]

    assert all("This did not work" in each.text for each in told)
    assert [(visit.outcome, visit.reason) for visit in rig.visits] == [("failed", "unreadable")] * 2


async def test_no_account_of_a_visit_holds_what_came_by_it() -> None:
    """Events, and so logs, name no user, code, state, link or cookie."""

    def answer(_request: object) -> TokenReply:
        return pair_answer("refresh-0")

    async with running_connect(answer) as rig:
        browser = rig.browser()
        link = await rig.link(user="canary-user", account="canary-account")
        state = await browser.begin(link)
        kept = list(browser.cookies.values())
        await browser.come_back(state, code="canary-code")
        told = repr(rig.control.rig.parts.observer.events).encode()

    secrets = ["canary", state, *kept, path_of(link).rpartition("/")[2]]
    assert found_in(told, [secret for secret in secrets if secret != "canary"]) == []
    assert b"canary" not in told

"""A real browser walks from a link over the sandbox's login to the app, and where it must not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from aiohttp import web

from sidecar.domain.events import ConnectOutcome
from sidecar.http.connect_pages import WORDS
from sidecar.sandbox import Sandbox, SandboxSettings
from sidecar.sandbox.faults import Fault
from tests.support.browser import Chromium, ChromiumProcess, Tab
from tests.support.fleet import App, FleetPlace, SidecarProcess
from tests.support.redis_server import free_port

pytestmark = pytest.mark.system

USER: Final = "u-1"
BUTTON: Final = "button"
BACK: Final = "a.on"


@dataclass(kw_only=True)
class Street:
    """Everything that a person meets: the app, the sidecar, the bank, and a browser.

    Attributes:
        arrived: The parameters with which somebody came back to the app, oldest first.
    """

    app: App
    app_url: str
    sidecar: SidecarProcess
    connect_url: str
    sandbox: Sandbox
    chromium: Chromium
    arrived: list[dict[str, str]] = field(default_factory=list[dict[str, str]])

    async def link(self, **changes: str) -> tuple[int, dict[str, Any]]:
        """Have the app ask for a link; return the status and the answer."""
        order = {"user": USER, "provider": "mikomo", "return_to": f"{self.app_url}/done?s=1"}
        async with self.app.control(
            self.sidecar, "POST", "/connect-links", json=order | changes
        ) as answer:
            document: dict[str, Any] = await answer.json()
            return answer.status, document

    async def opened(self, tab: Tab, **changes: str) -> str:
        """Have a person open a fresh link and go on to the bank; return the link."""
        status, document = await self.link(**changes)
        assert status == 201, document
        link: str = document["url"]
        await tab.open(link)
        await tab.press(BUTTON)
        return link

    async def sign_in(self, tab: Tab, *, until: str = "approve") -> None:
        """Have a person go through the sandbox's login, or leave it by `cancel`."""
        await tab.sees("Sign in to mikomo")
        await tab.fill("input[name=username]", "mikomo_10")
        await tab.fill("input[name=password]", "mikomo_10")
        await tab.press("button[value=next]")
        await tab.sees("Terms")
        if until == "cancel":
            await tab.press("button[value=cancel]")
            return
        await tab.press("button[value=next]")
        await tab.sees("Choose accounts")
        await tab.press("input[name=account]")
        if until == "approve":
            await tab.press("button[value=approve]")

    async def state(self) -> str:
        """Return the state of the grant, or ``none``."""
        path = f"/grants/mikomo/{USER}"
        async with self.app.control(self.sidecar, "GET", path) as answer:
            document: dict[str, Any] = await answer.json()
            return str(document["state"]) if answer.status == 200 else "none"


@pytest.fixture
async def street(
    tmp_path: Path, redis_url: str, redis_prefix: str, chromium_process: ChromiumProcess
) -> AsyncIterator[Street]:
    """Set everything up, each on its own origin; the bank is another site than the sidecar."""
    arrived: list[dict[str, str]] = []
    app_port, connect_port = free_port(), free_port()
    app_url, connect_url = f"http://127.0.0.1:{app_port}", f"http://localhost:{connect_port}"
    async with (
        Sandbox(SandboxSettings(key_bits=1024)) as sandbox,
        aiohttp.ClientSession() as session,
        chromium_process.driven() as chromium,
    ):
        place = FleetPlace(
            directory=tmp_path,
            redis_url=redis_url,
            redis_prefix=redis_prefix[:32],
            sandbox=sandbox,
            environ={
                "SIDECAR_CONNECT_LISTEN": f"localhost:{connect_port}",
                "SIDECAR_CONNECT_URL": connect_url,
                "SIDECAR_CONNECT_RETURN_TO": f"{app_url}/done",
            },
        )
        sidecar = SidecarProcess(place, name="sidecar")
        runner = web.AppRunner(_the_app(arrived), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", app_port).start()
        try:
            yield Street(
                app=App(session, sandbox),
                app_url=app_url,
                sidecar=await sidecar.start(),
                connect_url=connect_url,
                sandbox=sandbox,
                chromium=chromium,
                arrived=arrived,
            )
        finally:
            sidecar.kill()
            await runner.cleanup()


def _the_app(arrived: list[dict[str, str]]) -> web.Application:
    async def done(request: web.Request) -> web.Response:
        arrived.append({**request.query, "referer": request.headers.get("Referer", "")})
        return web.Response(text="<h1>Welcome back</h1>", content_type="text/html")

    async def icon(_request: web.Request) -> web.Response:
        return web.Response(status=204)

    app = web.Application()
    app.router.add_get("/done", done)
    app.router.add_get("/favicon.ico", icon)
    return app


def words(outcome: ConnectOutcome) -> str:
    return WORDS[outcome].title


async def test_a_person_connects_a_bank_and_is_back_in_the_app(street: Street) -> None:
    """Link, button, login, terms, accounts: the grant stands, and no page broke a policy."""
    tab = await street.chromium.person()

    await street.opened(tab, account="Anna at Example")
    await tab.sees("Sign in to mikomo")
    (cookie,) = await tab.cookies(street.connect_url)
    await street.sign_in(tab)
    await tab.sees("Welcome back")

    assert await tab.url() == f"{street.app_url}/done?s=1&outcome=connected"
    assert street.arrived == [{"s": "1", "outcome": "connected", "referer": ""}]
    assert await street.state() == "active"
    assert cookie["name"] == "__Host-connect"
    assert (cookie["secure"], cookie["httpOnly"], cookie["sameSite"]) == (True, True, "Lax")
    assert tab.complaints == []
    assert await street.app.fetch(street.sidecar, USER) == (200, "")


async def test_a_person_who_says_no_is_told_and_goes_back(street: Street) -> None:
    """Denied: nothing is connected, and the app hears it when the person presses the link."""
    tab = await street.chromium.person()

    await street.opened(tab)
    await street.sign_in(tab, until="cancel")
    await tab.sees(words(ConnectOutcome.DENIED))
    await tab.press(BACK)
    await tab.sees("Welcome back")

    assert street.arrived == [{"s": "1", "outcome": "denied", "referer": ""}]
    assert await street.state() == "none"
    assert tab.complaints == []


async def test_a_code_that_is_too_old_is_told(street: Street) -> None:
    """Expired code: Akoya refuses it, and the person is asked to begin again."""
    street.sandbox.tune(code_life_s=0.000001)
    tab = await street.chromium.person()

    await street.opened(tab)
    await street.sign_in(tab)
    await tab.sees(words(ConnectOutcome.EXPIRED))
    await tab.press(BACK)
    await tab.sees("Welcome back")

    assert street.arrived[0]["outcome"] == "expired"
    assert await street.state() == "none"


async def test_a_forged_state_finishes_nothing(street: Street) -> None:
    """Forged state: a real code with a state that was made up connects nothing."""
    tab = await street.chromium.person()
    await street.opened(tab)
    await tab.sees("Sign in to mikomo")
    redirect_uri = f"{street.connect_url}/callback"
    code = street.sandbox.consent("mikomo_10", redirect_uri=redirect_uri)

    await tab.open(f"{redirect_uri}?code={code}&state={'0' * 32}")

    assert words(ConnectOutcome.STATE_UNKNOWN) in await tab.text()
    assert (await street.state(), street.arrived) == ("none", [])


async def test_a_replayed_state_finishes_nothing(street: Street) -> None:
    """Replayed state: the same state with another code stores no second pair."""
    tab = await street.chromium.person()
    await street.opened(tab)
    asked = parse_qs(urlsplit(await tab.arrives(street.sandbox.url)).query)
    await street.sign_in(tab)
    await tab.sees("Welcome back")
    redirect_uri = f"{street.connect_url}/callback"
    code = street.sandbox.consent("mikomo_11", redirect_uri=redirect_uri)

    await tab.open(f"{redirect_uri}?code={code}&state={asked['state'][0]}")
    said = await tab.text()
    grant = await street.app.show(street.sidecar, USER)

    assert words(ConnectOutcome.STATE_UNKNOWN) in said
    assert len(street.arrived) == 1
    assert grant["generation"] == 0


async def test_another_browser_cannot_finish(street: Street) -> None:
    """Another browser: a victim led to the login with an attacker's state connects nothing."""
    attacker, victim = await street.chromium.person(), await street.chromium.person()
    await street.opened(attacker)
    trap = await attacker.arrives(street.sandbox.url)

    await victim.open(trap)
    await street.sign_in(victim)
    said = await victim.sees(words(ConnectOutcome.OTHER_BROWSER))

    assert "close this page" in said
    assert (await street.state(), street.arrived) == ("none", [])
    assert 403 in victim.statuses


async def test_a_used_link_leads_nowhere(street: Street) -> None:
    """Used ticket: whoever opens the link again reads that it is used up, in any browser."""
    tab, other = await street.chromium.person(), await street.chromium.person()
    link = await street.opened(tab)
    await tab.sees("Sign in to mikomo")

    for each in (tab, other):
        await each.open(link)
        assert words(ConnectOutcome.LINK_UNKNOWN) in await each.text()

    assert other.statuses == [410]
    assert await street.state() == "none"


async def test_nobody_is_sent_elsewhere(street: Street) -> None:
    """Open redirect: no such link is made, and nothing that a page is given leads it elsewhere."""
    tricks = ("//evil.example", "https://evil.example/done", f"{street.app_url}@evil.example/done",
              f"{street.app_url}/done/../x", f"{street.app_url}\\@evil.example")  # fmt: skip
    made = [await street.link(return_to=trick) for trick in tricks]
    tab = await street.chromium.person()
    link = str((await street.link())[1]["url"])
    evil = "return_to=https://evil.example/&redirect_uri=https://evil.example/"

    await tab.open(f"{link}?{evil}")
    await tab.press(BUTTON)
    await street.sign_in(tab)
    await tab.sees("Welcome back")

    assert [status for status, _ in made] == [400] * len(tricks)
    assert (await tab.url()).startswith(f"{street.app_url}/done?")


async def test_a_bank_that_is_down_is_told(street: Street) -> None:
    """Provider down: the person reads that it is not their fault and comes back later."""
    street.sandbox.faults.add(Fault(operation="obtain", kind="status_before", times=0))
    tab = await street.chromium.person()

    await street.opened(tab)
    await street.sign_in(tab)
    await tab.sees(words(ConnectOutcome.UNAVAILABLE))
    await tab.press(BACK)
    await tab.sees("Welcome back")

    assert street.arrived[0]["outcome"] == "unavailable"
    assert await street.state() == "none"


async def test_a_redirect_uri_that_akoya_does_not_know_ends_there(street: Street) -> None:
    """Wrong redirect URI: Akoya says so itself and sends nobody back; a new link works later."""
    settings = street.sandbox.settings
    object.__setattr__(settings, "redirect_uris", ("https://elsewhere.example/callback",))
    tab = await street.chromium.person()

    await street.opened(tab)
    said = await tab.sees("Unregistered redirect_uri")
    object.__setattr__(settings, "redirect_uris", (f"{street.connect_url}/callback",))
    await street.opened(tab)
    await street.sign_in(tab)
    await tab.sees("Welcome back")

    assert f"{street.connect_url}/callback" in said
    assert [each["outcome"] for each in street.arrived] == ["connected"]

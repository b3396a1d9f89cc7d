"""A browser of the size of a phone, without script, that logs in where a page asks for it.

It knows pages and what the browser complained about. It must not know what a test asserts.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, final

import aiohttp

from sidecar.http.status_answers import REFRESH_S
from tests.support.browser import ChromiumProcess, DevTools
from tests.support.wait import until

START_WITHIN_S: Final = 60
LOAD_WITHIN_S: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """What is typed in where a page asks for a name and a password."""

    name: str
    password: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """What a page is shown on; `scale` is how many of its dots make a pixel of the page."""

    width: int
    height: int
    scale: int
    is_mobile: bool
    runs_scripts: bool


WIDTH: Final = 390
PHONE: Final = Screen(width=WIDTH, height=844, scale=2, is_mobile=True, runs_scripts=False)


@dataclass(slots=True, kw_only=True)
class _Heard:
    """What the browser told so far."""

    complaints: list[str] = field(default_factory=list[str])
    statuses: list[int] = field(default_factory=list[int])
    requests: list[str] = field(default_factory=list[str])
    loads: int = 0


@final
class Phone:
    """One page of one browser.

    Attributes:
        heard: What the browser logged as an error, was answered, asked for, and loaded.
    """

    def __init__(self, tools: DevTools, session: str, heard: _Heard) -> None:
        self.heard = heard
        self._tools = tools
        self._session = session

    async def open(self, url: str) -> None:
        """Type an address in; return when it is loaded."""
        before = self.heard.loads
        await self.ask("Page.navigate", url=url)
        await until(
            lambda: self.heard.loads > before, within_s=LOAD_WITHIN_S, what="the page to load"
        )

    async def reloaded(self, *, after: int) -> None:
        """Return once the page has loaded itself again, as it says it does."""
        await until(
            lambda: self.heard.loads > after,
            within_s=LOAD_WITHIN_S + REFRESH_S,
            what="the page to ask for itself again",
        )

    async def ask(self, method: str, **params: Any) -> Mapping[str, Any]:
        """Give one command of the DevTools protocol."""
        return await self._tools.ask(method, session=self._session, **params)

    async def value(self, expression: str) -> Any:
        """Return what an expression says of the page; scripts of the page stay off."""
        told = await self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in told, expression
        return told["result"].get("value")

    async def content_width(self) -> int:
        """Return how wide the page is: more than the screen, and one must scroll sideways."""
        told = await self.ask("Page.getLayoutMetrics")
        return int(told["cssContentSize"]["width"])

    async def wear(self, theme: str) -> None:
        """Prefer ``light`` or ``dark``."""
        features = [{"name": "prefers-color-scheme", "value": theme}]
        await self.ask("Emulation.setEmulatedMedia", features=features)

    async def picture(self) -> bytes:
        """Return the whole page as PNG."""
        told = await self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(told["data"])


@asynccontextmanager
async def phone(directory: Path, *, login: Login, screen: Screen = PHONE) -> AsyncGenerator[Phone]:
    """Start a browser with an empty profile in `directory`; it is gone when the block is."""
    process = ChromiumProcess(directory)
    process.start()
    try:
        port = directory / "DevToolsActivePort"
        await until(
            lambda: port.exists() and "\n" in port.read_text(),
            within_s=START_WITHIN_S,
            what="Chromium to start",
        )
        number, path = port.read_text().split()
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(f"ws://127.0.0.1:{number}{path}", max_msg_size=0) as socket,
            asyncio.TaskGroup() as group,
        ):
            tools = DevTools(socket)
            reading = group.create_task(tools.read())
            try:
                yield await _new_page(tools, login=login, screen=screen, group=group)
            finally:
                reading.cancel()
    finally:
        process.stop()


async def _new_page(
    tools: DevTools, *, login: Login, screen: Screen, group: asyncio.TaskGroup
) -> Phone:
    made = await tools.ask("Target.createTarget", url="about:blank")
    attached = await tools.ask("Target.attachToTarget", targetId=made["targetId"], flatten=True)
    session: str = attached["sessionId"]
    heard = _Heard()
    page = Phone(tools, session, heard)

    def note(method: str, params: Mapping[str, Any]) -> None:
        match method:
            case "Log.entryAdded" if params["entry"]["level"] == "error":
                heard.complaints.append(params["entry"]["text"])
            case "Network.responseReceived":
                heard.statuses.append(params["response"]["status"])
            case "Page.loadEventFired":
                heard.loads += 1
            case "Fetch.requestPaused":
                heard.requests.append(params["request"]["url"])
                group.create_task(page.ask("Fetch.continueRequest", requestId=params["requestId"]))
            case "Fetch.authRequired":
                answer = {
                    "response": "ProvideCredentials",
                    "username": login.name,
                    "password": login.password,
                }
                group.create_task(
                    page.ask(
                        "Fetch.continueWithAuth",
                        requestId=params["requestId"],
                        authChallengeResponse=answer,
                    )
                )
            case _:
                pass

    tools.listen(session, note)
    for domain in ("Page", "Log", "Network"):
        await page.ask(f"{domain}.enable")
    await page.ask("Fetch.enable", handleAuthRequests=True)
    await page.ask("Emulation.setScriptExecutionDisabled", value=not screen.runs_scripts)
    await page.ask(
        "Emulation.setDeviceMetricsOverride",
        width=screen.width,
        height=screen.height,
        deviceScaleFactor=screen.scale,
        mobile=screen.is_mobile,
    )
    return page

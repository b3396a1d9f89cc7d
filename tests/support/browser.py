"""A real Chromium without a window, driven over its DevTools protocol as a person would use it.

It knows pages, fields, buttons and what the browser complained about. It must not know what a test
asserts.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, final

import aiohttp

from tests.support.wait import eventually, until

PATIENCE_S: Final = 20
PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome")


def browser_program() -> str:
    """Return the path of a browser.

    Raises:
        AssertionError: There is none; a test that needs one must fail, not vanish.
    """
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    assert found is not None, "install chromium"
    return found


@final
class DevTools:
    """The browser's own connection: commands with answers, and events of every tab."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Mapping[str, Any]]] = {}
        self._listeners: dict[str, Callable[[str, Mapping[str, Any]], None]] = {}

    async def read(self) -> None:
        """Hand out what the browser says, until it says no more."""
        async for message in self._socket:
            told: dict[str, Any] = json.loads(message.data)
            if "id" in told:
                self._answers.pop(told["id"]).set_result(told)
            elif listener := self._listeners.get(told.get("sessionId", "")):
                listener(told["method"], told["params"])

    def listen(self, session: str, listener: Callable[[str, Mapping[str, Any]], None]) -> None:
        """Have the events of one tab told."""
        self._listeners[session] = listener

    async def ask(self, method: str, *, session: str = "", **params: Any) -> Mapping[str, Any]:
        """Give one command and return its result; raise AssertionError if it was refused."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        command = {"id": number, "method": method, "params": params}
        await self._socket.send_json(command | ({"sessionId": session} if session else {}))
        async with asyncio.timeout(PATIENCE_S):
            told = await answer
        assert "error" not in told, f"{method}: {told['error']}"
        result: Mapping[str, Any] = told["result"]
        return result


@final
class Tab:
    """One page of one browser.

    Attributes:
        complaints: What the browser logged as an error: a policy that was broken, and the like.
        statuses: The status of each document that was loaded, oldest first.
    """

    def __init__(self, tools: DevTools, session: str) -> None:
        self.complaints: list[str] = []
        self.statuses: list[int] = []
        self._tools = tools
        self._session = session
        tools.listen(session, self._note)

    def _note(self, method: str, params: Mapping[str, Any]) -> None:
        if method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(params["entry"]["text"])
        if method == "Network.responseReceived" and params["type"] == "Document":
            self.statuses.append(params["response"]["status"])

    async def open(self, url: str) -> None:
        """Type an address in."""
        await self._tools.ask("Page.navigate", session=self._session, url=url)
        await self._loaded()

    async def text(self) -> str:
        """Return the words on the page."""
        return str(await self._evaluate("document.body.innerText"))

    async def url(self) -> str:
        """Return the address of the page."""
        return str(await self._evaluate("location.href"))

    async def fill(self, selector: str, text: str) -> None:
        """Write into a field."""
        field = f"document.querySelector({json.dumps(selector)})"
        await self._evaluate(f"{field}.value = {json.dumps(text)}; true")

    async def press(self, selector: str) -> None:
        """Press a button, a link or a box."""
        await self._evaluate(f"document.querySelector({json.dumps(selector)}).click(); true")

    async def sees(self, words: str) -> str:
        """Return the page's text once it holds these words."""
        return await eventually(
            self._text_or_nothing,
            lambda text: words in text,
            within_s=PATIENCE_S,
            what=f"the page to say: {words}",
        )

    async def arrives(self, beginning: str) -> str:
        """Return the address once it begins like this."""
        return await eventually(
            self._url_or_nothing,
            lambda url: url.startswith(beginning),
            within_s=PATIENCE_S,
            what=f"the browser to go to {beginning}",
        )

    async def cookies(self, url: str) -> list[Mapping[str, Any]]:
        """Return the cookies that would go to an address."""
        told = await self._tools.ask("Network.getCookies", session=self._session, urls=[url])
        return list(told["cookies"])

    async def _loaded(self) -> None:
        await eventually(
            lambda: self._evaluate_or("document.readyState", ""),
            lambda state: state == "complete",
            within_s=PATIENCE_S,
            what="the page to load",
        )

    async def _text_or_nothing(self) -> str:
        return str(await self._evaluate_or("document.body.innerText", ""))

    async def _url_or_nothing(self) -> str:
        return str(await self._evaluate_or("location.href", ""))

    async def _evaluate_or(self, expression: str, otherwise: object) -> object:
        """Return the value, or `otherwise` while one page gives way to the next."""
        try:
            return await self._evaluate(expression)
        except AssertionError:
            return otherwise

    async def _evaluate(self, expression: str) -> object:
        told = await self._tools.ask(
            "Runtime.evaluate",
            session=self._session,
            expression=expression,
            userGesture=True,
            returnByValue=True,
        )
        assert "exceptionDetails" not in told, f"{expression}: {told['exceptionDetails']}"
        return told["result"].get("value")


@final
class Chromium:
    """A browser that runs; people in it share nothing, as on machines of their own."""

    def __init__(self, tools: DevTools) -> None:
        self._tools = tools
        self._people: list[str] = []

    async def leave(self) -> None:
        """Close what everybody opened, and forget them."""
        for context in self._people:
            await self._tools.ask("Target.disposeBrowserContext", browserContextId=context)

    async def person(self) -> Tab:
        """Return an empty page of somebody who was never here."""
        told = await self._tools.ask("Target.createBrowserContext")
        context: str = told["browserContextId"]
        self._people.append(context)
        made = await self._tools.ask(
            "Target.createTarget", url="about:blank", browserContextId=context
        )
        attached = await self._tools.ask(
            "Target.attachToTarget", targetId=made["targetId"], flatten=True
        )
        session: str = attached["sessionId"]
        tab = Tab(self._tools, session)
        for domain in ("Page", "Log", "Network"):
            await self._tools.ask(f"{domain}.enable", session=session)
        return tab


@final
class ChromiumProcess:
    """A browser's process with an empty profile in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process."""
        options = (
            "--headless=new",
            "--no-first-run",
            "--no-proxy-server",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--remote-debugging-port=0",
            f"--user-data-dir={self._directory}",
            # Chromium refuses to run as root with its own sandbox; it opens pages of tests only.
            *(("--no-sandbox",) if os.geteuid() == 0 else ()),
        )
        with (self._directory / "chromium.log").open("wb") as log:
            self._process = subprocess.Popen(
                [browser_program(), *options, "about:blank"], stdout=log, stderr=log
            )

    def stop(self) -> None:
        """End the process if it runs."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=30)
            self._process = None

    @asynccontextmanager
    async def driven(self) -> AsyncGenerator[Chromium]:
        """Connect to the browser; one test after the other may."""
        told = self._directory / "DevToolsActivePort"
        await until(
            lambda: told.exists() and told.read_text().count("\n") > 0,
            within_s=60,
            what="Chromium to start",
        )
        port, path = told.read_text().split()
        url = f"ws://127.0.0.1:{port}{path}"
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(url, max_msg_size=0) as socket,
            asyncio.TaskGroup() as group,
        ):
            tools = DevTools(socket)
            reading = group.create_task(tools.read())
            chromium = Chromium(tools)
            try:
                yield chromium
                await chromium.leave()
            finally:
                reading.cancel()

"""A connect listener and a control listener over a whole sidecar on memory adapters.

A `Browser` keeps cookies as one does and follows nothing by itself. It must not know what a test
asserts.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html import unescape
from typing import Final, final
from urllib.parse import parse_qs, urlsplit

import aiohttp
from yarl import URL

from sidecar.domain.addresses import TcpAddress
from sidecar.domain.events import ConnectCompleted
from sidecar.domain.return_targets import ReturnTarget, parse_return_target
from sidecar.http.connect import ConnectOptions, ConnectPorts, ConnectSite
from sidecar.http.listening import listen
from sidecar.service.connects import ConnectTerms
from tests.support.control_rig import ControlRig, Got, running_control
from tests.support.scripted_idp import Step
from tests.support.sidecar_parts import CLIENT_ID

CONNECT_URL: Final = "https://connect.example"
IDP_URL: Final = "https://idp.example"
APP: Final = "https://app.example/banks"
RETURN_TO: Final = f"{APP}/done?session=s-1"
ORDER: Final = {"user": "u-1", "provider": "mikomo", "return_to": RETURN_TO}
CODE: Final = "canary-authorization-code"


@final
@dataclass(kw_only=True)
class Browser:
    """One person's browser, as far as the connect listener sees it."""

    session: aiohttp.ClientSession
    port: int
    cookies: dict[str, str] = field(default_factory=dict[str, str])
    set_cookies: list[str] = field(default_factory=list[str])

    async def ask(
        self, method: str, path: str, *, form: Mapping[str, str] | None = None, data: bytes = b""
    ) -> Got:
        """Send one request with all cookies; keep those that come back."""
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        url = URL(f"http://127.0.0.1:{self.port}{path}", encoded=True)
        async with self.session.request(
            method, url, data=form or data or None, headers=headers, allow_redirects=False
        ) as answer:
            got = Got(status=answer.status, headers=answer.headers.copy(), text=await answer.text())
            for line in answer.headers.getall("Set-Cookie", []):
                self.set_cookies.append(line)
                name, _, value = line.partition(";")[0].partition("=")
                self.cookies[name] = value
        return got

    async def begin(self, link: str) -> str:
        """Open a link and press its button; return the ``state`` that Akoya would be shown."""
        shown = await self.ask("GET", path_of(link))
        assert shown.status == 200, shown.text
        sent_on = await self.ask("POST", path_of(link), form={"proof": proof_in(shown)})
        assert sent_on.status == 200, sent_on.text
        return query_of(onward_in(sent_on))["state"]

    async def come_back(self, state: str, **answer: str) -> Got:
        """Come back from Akoya with its answer; with a good code if nothing else is said."""
        told = answer or {"code": CODE}
        query = URL.build(query={**told, "state": state}).raw_query_string
        return await self.ask("GET", f"/callback?{query}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectRig:
    """Both listeners, and the sidecar behind them."""

    control: ControlRig
    site: ConnectSite
    port: int

    def browser(self) -> Browser:
        """Return a browser that was never here."""
        return Browser(session=self.control.session, port=self.port)

    async def link(self, **changes: object) -> str:
        """Have the app make a link."""
        got = await self.control.ask("POST", "/connect-links", body=ORDER | changes)
        assert got.status == 201, got.text
        url: str = got.document["url"]
        return url

    @property
    def visits(self) -> list[ConnectCompleted]:
        """The accounts of all visits that have ended."""
        return self.control.rig.parts.observer.of(ConnectCompleted)


def connect_terms(targets: list[ReturnTarget] | None = None) -> ConnectTerms:
    """Return what an operator decided: people come back to the app, or to `targets`."""
    allowed = parse_return_target(APP)
    assert allowed is not None
    return ConnectTerms(
        url=CONNECT_URL,
        targets=[allowed] if targets is None else targets,
        idp_url=IDP_URL,
        client_id=CLIENT_ID,
        scope="openid profile offline_access",
    )


@asynccontextmanager
async def running_connect(
    *script: Step,
    targets: list[ReturnTarget] | None = None,
    exchange_wait_s: float = 5.0,
    max_in_flight: int = 1000,
) -> AsyncGenerator[ConnectRig]:
    """Serve both listeners of a sidecar whose token service follows `script`.

    Args:
        script: What the token service does.
        targets: The allow-list; a test may change the list while it runs.
        exchange_wait_s: How long a visit waits for Akoya.
        max_in_flight: How many visits are served at once.
    """
    async with running_control(
        *script, exchange_wait_s=exchange_wait_s, connect_terms=connect_terms(targets)
    ) as control:
        assert control.connects is not None
        parts = control.rig.parts
        ports = ConnectPorts(
            desk=control.connects,
            observer=parts.observer,
            clock=control.rig.clock,
            entropy=parts.claim_parts.entropy,
        )
        site = ConnectSite(options=ConnectOptions(max_in_flight=max_in_flight), ports=ports)
        listener = await listen(site.runner, address=TcpAddress(host="127.0.0.1", port=0))
        try:
            yield ConnectRig(control=control, site=site, port=listener.port)
        finally:
            await listener.close()


def path_of(link: str) -> str:
    """Return the path of a link, which is at the public URL."""
    assert link.startswith(f"{CONNECT_URL}/connect/"), link
    return link.removeprefix(CONNECT_URL)


def proof_in(page: Got) -> str:
    """Return what the form of a link's page brings back."""
    found = re.search(r'<input type="hidden" name="proof" value="([0-9a-f]+)">', page.text)
    assert found is not None, page.text
    return found[1]


def onward_in(page: Got) -> str:
    """Return where a page sends the browser by itself."""
    found = re.search(r'<meta http-equiv="refresh" content="0; url=([^"]+)">', page.text)
    assert found is not None, page.text
    return unescape(found[1])


def back_in(page: Got) -> str:
    """Return where a page offers to go, or ``""``."""
    found = re.search(r'<a class="on" rel="noreferrer" href="([^"]+)">', page.text)
    return "" if found is None else unescape(found[1])


def query_of(url: str) -> dict[str, str]:
    """Return the parameters of a URL."""
    return {name: value for name, (value,) in parse_qs(urlsplit(url).query).items()}

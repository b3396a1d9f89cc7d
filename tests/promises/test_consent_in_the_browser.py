"""A visit to the connect listener belongs to the fleet, over TLS, and leaves no secret behind."""

from __future__ import annotations

import re
import signal
import ssl
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final

import aiohttp
import pytest
import trustme

from sidecar.sandbox import Sandbox, SandboxSettings
from tests.promises.conftest import StartSidecar
from tests.support.fleet import App, FleetPlace, SidecarProcess
from tests.support.redis_server import RedisServer
from tests.support.secrets_search import found_in, telling_parts

CALLBACK: Final = "https://connect.example/callback"
USER: Final = "canary-user"
ORDER: Final = {
    "user": USER,
    "provider": "mikomo",
    "return_to": "https://app.example/canary-way-back",
    "account": "canary-account",
}
PROOF: Final = re.compile(r'name="proof" value="([0-9a-f]+)"')
STATE: Final = re.compile(r"state=([0-9a-f]{32})")


@pytest.fixture
async def sandbox(issued: list[str]) -> AsyncGenerator[Sandbox]:
    del issued  # gathers from the first token on
    settings = SandboxSettings(key_bits=1024, redirect_uris=(CALLBACK,))
    async with Sandbox(settings) as sandbox:
        yield sandbox


def environ_with_tls(directory: Path, authority: trustme.CA) -> dict[str, str]:
    """Return the variables of a connect listener with a certificate of its own."""
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(directory / "chain.pem")
    certificate.private_key_pem.write_to_path(directory / "key.pem")
    return {
        "SIDECAR_LOG_LEVEL": "debug",
        "SIDECAR_CONNECT_LISTEN": "127.0.0.1:0",
        "SIDECAR_CONNECT_URL": "https://connect.example",
        "SIDECAR_CONNECT_RETURN_TO": "https://app.example",
        "SIDECAR_CONNECT_TLS_CERT": str(directory / "chain.pem"),
        "SIDECAR_CONNECT_TLS_KEY": str(directory / "key.pem"),
    }


async def ask(
    browser: aiohttp.ClientSession, sidecar: SidecarProcess, path: str, *, proof: str = ""
) -> str:
    """Have a load balancer send one request of a browser to this sidecar; return the page."""
    url = f"https://{sidecar.connect_address}{path}"
    form = {"proof": proof} if proof else None
    async with browser.request("POST" if proof else "GET", url, data=form) as answer:
        page = await answer.text()
        assert answer.status == 200, page
        return page


def first(pattern: re.Pattern[str], page: str) -> str:
    """Return what the pattern finds."""
    found = pattern.search(page)
    assert found is not None, page
    return found[1]


async def test_any_sidecar_goes_on_with_a_visit_and_nothing_of_it_is_seen(  # noqa: PLR0913, PLR0917 - fixtures
    issued: list[str],
    sandbox: Sandbox,
    place: FleetPlace,
    start: StartSidecar,
    app: App,
    redis_server: RedisServer,
) -> None:
    """A link of one, its page from the next, the way back at a third; no log or key tells of it."""
    authority = trustme.CA()
    place.environ = environ_with_tls(place.directory, authority)
    fleet = [await start(name) for name in ("one", "two", "three")]
    tls = ssl.create_default_context()
    tls.load_verify_locations(cadata=authority.cert_pem.bytes().decode())
    connector, jar = aiohttp.TCPConnector(ssl=tls), aiohttp.CookieJar(unsafe=True)

    async with aiohttp.ClientSession(connector=connector, cookie_jar=jar) as browser:
        async with app.control(fleet[0], "POST", "/connect-links", json=ORDER) as answer:
            link = str((await answer.json())["url"])
        path = link.removeprefix("https://connect.example")
        proof = first(PROOF, await ask(browser, fleet[1], path))
        state = first(STATE, await ask(browser, fleet[2], path, proof=proof))
        with redis_server.client() as client:
            kept = b"\n".join(name + client.get(name) for name in client.keys("*:connect:*"))
        code = sandbox.consent("mikomo_10", redirect_uri=CALLBACK)
        done = await ask(browser, fleet[0], f"/callback?code={code}&state={state}")
        cookies = [cookie.value for cookie in jar]
    grant = await app.show(fleet[1], USER)
    for sidecar in fleet:
        sidecar.signal(signal.SIGTERM)
        assert await sidecar.ended() == 0

    logs = b"\n".join(sidecar.raw_log for sidecar in fleet)
    secrets = [*telling_parts(issued), *cookies, path.rpartition("/")[2], state, proof]
    assert "https://app.example/canary-way-back?outcome=connected" in done
    assert grant["state"] == "active"
    assert logs.count(b"connect.completed") == 3
    assert b":connect:journey:" in kept
    assert found_in(logs + kept, secrets) == []
    assert b"canary" not in logs + kept
    assert found_in(done.encode(), secrets) == []
    assert len(cookies) == 1

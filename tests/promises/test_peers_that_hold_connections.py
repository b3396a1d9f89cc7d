"""Peers that hold connections, heads, or forms keep nobody else out and take little memory."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import ExitStack
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import pytest
import trustme

from tests.promises.conftest import StartSidecar
from tests.support.crowd import crowd, resident_bytes
from tests.support.fleet import App, FleetPlace, SidecarProcess

MIB: Final = 1024 * 1024
LINK: Final = "/connect/" + "0" * 32
UNFINISHED: Final = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-A: " + b"a" * 62_000
FORM: Final = (
    b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    b"Cookie: __Host-connect=%b\r\nContent-Length: 40\r\n\r\np" % (LINK.encode(), b"0" * 32)
)


@pytest.fixture
async def browser() -> AsyncGenerator[aiohttp.ClientSession]:
    """Somebody who visits, each time on a connection of its own."""
    connector = aiohttp.TCPConnector(ssl=untrusting(), force_close=True)
    timeout = aiohttp.ClientTimeout(total=20)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield session


def untrusting() -> ssl.SSLContext:
    """Return TLS that trusts whatever answers: what is tested is not the certificate."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname = False
    tls.verify_mode = ssl.CERT_NONE
    return tls


def environ_with_connect(directory: Path) -> dict[str, str]:
    certificate = trustme.CA().issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(str(directory / "chain.pem"))
    certificate.private_key_pem.write_to_path(str(directory / "key.pem"))
    return {
        "SIDECAR_CONNECT_LISTEN": "127.0.0.1:0",
        "SIDECAR_CONNECT_URL": "https://connect.example",
        "SIDECAR_CONNECT_RETURN_TO": "https://app.example",
        "SIDECAR_CONNECT_TLS_CERT": str(directory / "chain.pem"),
        "SIDECAR_CONNECT_TLS_KEY": str(directory / "key.pem"),
    }


def addresses(sidecar: SidecarProcess) -> dict[str, tuple[str, int]]:
    urls = {
        "proxy": sidecar.proxy_url,
        "control": sidecar.control_url,
        "metrics": sidecar.metrics_url,
        "connect": f"https://{sidecar.connect_address}",
    }
    return {
        name: (urlsplit(url).hostname or "", urlsplit(url).port or 0) for name, url in urls.items()
    }


async def visited(browser: aiohttp.ClientSession, sidecar: SidecarProcess) -> int:
    """Return the status that a person gets who opens a link that is too old."""
    async with browser.get(f"https://{sidecar.connect_address}{LINK}") as page:
        return page.status


async def lives(browser: aiohttp.ClientSession, sidecar: SidecarProcess) -> int:
    async with browser.get(f"{sidecar.metrics_url}/livez") as answer:
        return answer.status


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_a_thousand_unfinished_heads_on_each_listener_cost_little_memory(
    start: StartSidecar, place: FleetPlace, app: App, browser: aiohttp.ClientSession, loop: str
) -> None:
    """What is sent before a key can be checked is bounded, with TLS and without, on any loop."""
    place.spec = {"loop": loop, "nofile": (1024, 20000)}
    place.environ = environ_with_connect(place.directory)
    sidecar = await start("a")
    await app.onboard(sidecar, "u-1")
    await app.served(sidecar, "u-1")
    (shared,) = (line for line in sidecar.log if line["event"] == "descriptors.shared")
    grown: dict[str, int] = {}

    for listener, address in addresses(sidecar).items():
        before = resident_bytes(sidecar.pid)
        tls = untrusting() if listener == "connect" else None
        with ExitStack() as stack:
            held = crowd(address, size=250 if tls else 1000, sends=UNFINISHED, tls=tls)
            await asyncio.to_thread(stack.enter_context, held)
            assert await app.served(sidecar, "u-1") == (200, "")
            assert await visited(browser, sidecar) == 410
            assert await lives(browser, sidecar) == 200
            grown[listener] = (resident_bytes(sidecar.pid) - before) // MIB

    assert max(grown.values()) < 80, grown
    assert (shared["was"], shared["limit"]) == (1024, 20000)
    assert await app.metric(sidecar, "process_max_fds") == 20000


async def test_idle_connections_of_one_listener_silence_no_other(
    start: StartSidecar, place: FleetPlace, app: App, browser: aiohttp.ClientSession
) -> None:
    """With 1024 descriptors in all, 1,100 idle scrapers or visitors take none that calls need.

    Nor do 1,000 visitors whose forms drip keep the next one out.
    """
    place.spec = {"nofile": (1024, 1024)}
    place.environ = environ_with_connect(place.directory) | {"SIDECAR_MAX_IN_FLIGHT": "100"}
    sidecar = await start("a")
    await app.onboard(sidecar, "u-1")
    where = addresses(sidecar)

    for listener, size, sends in (
        ("metrics", 1100, b""),
        ("connect", 1100, b""),
        ("control", 1100, b""),
        ("proxy", 1100, b""),
        ("connect", 300, FORM),
    ):
        tls = untrusting() if sends else None
        with ExitStack() as stack:
            held = crowd(where[listener], size=size, sends=sends, tls=tls)
            await asyncio.to_thread(stack.enter_context, held)
            assert await app.served(sidecar, "u-1") == (200, ""), listener
            assert await app.refresh(sidecar, "u-1") == 200, listener
            assert await visited(browser, sidecar) == 410, listener
            assert await lives(browser, sidecar) == 200, listener

    assert "resource.exhausted" not in sidecar.events
    assert await app.metric(sidecar, 'sidecar_connections_limit{listener="metrics"}') == 32
    dropped = 'sidecar_connections_dropped_total{cause="made_room",listener="metrics"}'
    assert await app.metric(sidecar, dropped) > 1000

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from sidecar.http.probes import make_probes
from sidecar.service.health import HealthReport, Phase

WELL = HealthReport(
    phase=Phase.SERVING,
    store_up=True,
    spool_writable=True,
    breaker_open=False,
    brake_on=False,
    parked=0,
)

Client = TestClient[web.Request, web.Application]
MakeClient = Callable[[TestServer], Awaitable[Client]]


class SettableHealth:
    """A health that the test sets."""

    def __init__(self) -> None:
        self.now = WELL

    def report(self) -> HealthReport:
        return self.now


class Rig:
    """The application of the metrics listener, what it was asked and in which thread."""

    def __init__(self) -> None:
        self.health = SettableHealth()
        self.accepts: list[str] = []
        self.threads: list[int] = []

    def render(self, accept: str) -> tuple[bytes, str]:
        self.accepts.append(accept)
        self.threads.append(threading.get_ident())
        return b"sidecar_store_up 1\n", "text/plain; version=0.0.4; charset=utf-8"

    def server(self) -> TestServer:
        return TestServer(make_probes(render_metrics=self.render, health=self.health))


@pytest.mark.parametrize(
    ("phase", "live", "ready", "started"),
    [
        (Phase.STARTING, 200, 503, 503),
        (Phase.SERVING, 200, 200, 200),
        (Phase.DRAINING, 200, 503, 200),
        (Phase.STOPPED, 200, 503, 200),
    ],
)
async def test_each_probe_answers_for_its_own_question(
    aiohttp_client: MakeClient, *, phase: Phase, live: int, ready: int, started: int
) -> None:
    """The kubelet restarts nothing that drains and sends nothing to what starts."""
    rig = Rig()
    rig.health.now = replace(WELL, phase=phase)
    client = await aiohttp_client(rig.server())

    answers = [(await client.get(path)).status for path in ("/livez", "/readyz", "/startupz")]

    assert answers == [live, ready, started]


async def test_a_lost_store_is_told_and_takes_no_pod_out(aiohttp_client: MakeClient) -> None:
    """A sidecar that still serves from memory stays ready; the body says what is wrong."""
    rig = Rig()
    rig.health.now = replace(
        WELL, store_up=False, spool_writable=False, breaker_open=True, brake_on=True, parked=3
    )
    client = await aiohttp_client(rig.server())

    answer = await client.get("/readyz")

    assert answer.status == 200
    assert answer.content_type == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert await answer.json() == {
        "phase": "serving",
        "store": "down",
        "spool": "failing",
        "breaker": "open",
        "brake": "on",
        "parked": 3,
    }


async def test_metrics_are_rendered_as_asked_and_beside_the_loop(
    aiohttp_client: MakeClient,
) -> None:
    """A scrape gets what its Accept header prefers and holds up no request."""
    rig = Rig()
    client = await aiohttp_client(rig.server())

    answer = await client.get("/metrics", headers={"Accept": "application/openmetrics-text"})

    assert await answer.read() == b"sidecar_store_up 1\n"
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert rig.accepts == ["application/openmetrics-text"]
    assert rig.threads != [threading.get_ident()]


async def test_nothing_else_is_served(aiohttp_client: MakeClient) -> None:
    """The listener that everybody may reach has four pages, and they cannot be written to."""
    client = await aiohttp_client(Rig().server())

    assert (await client.get("/")).status == 404
    assert (await client.get("/grants")).status == 404
    assert (await client.post("/metrics")).status == 405

from __future__ import annotations

import threading
from dataclasses import replace

import aiohttp
import pytest

from sidecar.domain.store_trouble import StoreTrouble
from sidecar.service.health import Phase
from tests.support.probes_rig import WELL, ProbesRig, running_probes


def asking(rig: ProbesRig) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(f"http://127.0.0.1:{rig.port}")


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
    *, phase: Phase, live: int, ready: int, started: int
) -> None:
    """The kubelet restarts nothing that drains and sends nothing to what starts."""
    async with running_probes() as rig, asking(rig) as client:
        rig.now = replace(WELL, phase=phase)
        answers = [(await client.get(path)).status for path in ("/livez", "/readyz", "/startupz")]

    assert answers == [live, ready, started]


async def test_a_lost_store_is_told_and_takes_no_pod_out() -> None:
    """A sidecar that still serves from memory stays ready; the body says what is wrong."""
    async with running_probes() as rig, asking(rig) as client:
        rig.now = replace(
            WELL, store_up=False, spool_writable=False, breaker_open=True, brake_on=True, parked=3
        )
        answer = await client.get("/readyz")
        shown = await answer.json()

    assert answer.status == 200
    assert answer.content_type == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert shown == {
        "phase": "serving",
        "store": "down",
        "spool": "failing",
        "breaker": "open",
        "brake": "on",
        "parked": 3,
    }


async def test_a_store_that_fails_some_calls_is_not_called_up() -> None:
    """It answers probes, so it is not down; whoever looks sees that something is wrong."""
    async with running_probes() as rig, asking(rig) as client:
        rig.now = replace(WELL, store_trouble=StoreTrouble.MAXCLIENTS)
        answer = await client.get("/readyz")
        body = await answer.json()

    assert (answer.status, body["store"]) == (200, "strained")


async def test_metrics_are_rendered_as_asked_and_beside_the_loop() -> None:
    """A scrape gets what its Accept header prefers and holds up no request."""
    async with running_probes() as rig, asking(rig) as client:
        answer = await client.get("/metrics", headers={"Accept": "application/openmetrics-text"})
        page = await answer.read()

    assert page == b"sidecar_store_up 1\n"
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert rig.accepts == ["application/openmetrics-text"]
    assert rig.threads != [threading.get_ident()]


async def test_nothing_else_is_served() -> None:
    """The listener that everybody may reach has four pages, and they cannot be written to."""
    async with running_probes() as rig, asking(rig) as client:
        statuses = [
            (await client.get("/")).status,
            (await client.get("/grants")).status,
            (await client.post("/metrics")).status,
        ]

    assert statuses == [404, 404, 405]

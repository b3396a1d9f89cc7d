"""With traces on, a request, the claim that it waits for and its upstream calls are one trace."""

from __future__ import annotations

import signal
from typing import Final

import aiohttp
import pytest

from sidecar.sandbox import Sandbox
from tests.promises.conftest import StartSidecar
from tests.support.collector import Collector
from tests.support.fleet import BANK, App, FleetPlace, SidecarProcess
from tests.support.wait import until

TRACE: Final = "4bf92f35" * 4
PARENT: Final = "00f067aa0ba902b7"
SPANS: Final = ("proxy accounts-info", "token lookup", "upstream", "heal", "claim", "upstream")
USER: Final = "mikomo_10"


@pytest.fixture
async def traced(place: FleetPlace, start: StartSidecar, collector: Collector) -> SidecarProcess:
    """A sidecar with traces on."""
    place.environ = collector.environ
    return await start("traced")


async def healed(sandbox: Sandbox, app: App, sidecar: SidecarProcess, *, flags: str) -> None:
    """Have a request that belongs to a trace wait for a newer bearer."""
    await app.onboard(sidecar, USER)
    sandbox.grants.expire_id_tokens(user=USER, provider=None)
    headers = {"Sidecar-User": USER, "traceparent": f"00-{TRACE}-{PARENT}-{flags}"}
    url = f"{sidecar.proxy_url}/accounts-info/v2/{BANK}"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        assert answer.status == 200, await answer.text()


async def test_a_request_and_the_claim_it_waits_for_are_one_trace(
    sandbox: Sandbox, traced: SidecarProcess, app: App, collector: Collector
) -> None:
    """The claim, in a thread of its own, is the child of what the request waits with."""
    await healed(sandbox, app, traced, flags="01")
    await until(
        lambda: len(collector.of(TRACE)) == len(SPANS), within_s=20, what="all spans of the trace"
    )

    spans = {span.name: span for span in collector.of(TRACE)}
    assert sorted(span.name for span in collector.of(TRACE)) == sorted(SPANS)
    proxy, heal, claim = (spans[name] for name in ("proxy accounts-info", "heal", "claim"))
    assert proxy.parent_id == PARENT
    assert {spans[name].parent_id for name in ("heal", "upstream")} == {proxy.span_id}
    assert claim.parent_id == heal.span_id
    assert "token.refreshed" in claim.events
    assert claim.attributes["sidecar.outcome"] == "won"
    assert proxy.attributes["sidecar.outcome"] == "healed"
    assert proxy.attributes["http.response.status_code"] == 200
    assert collector.services == {"akoya-sidecar"}


async def test_what_the_client_does_not_keep_is_not_sent(
    sandbox: Sandbox, traced: SidecarProcess, app: App, collector: Collector
) -> None:
    """A trace that is not sampled is not sent, and its id is logged all the same."""
    await healed(sandbox, app, traced, flags="00")
    traced.signal(signal.SIGTERM)
    assert await traced.ended() == 0

    assert collector.of(TRACE) == []
    requests = [line for line in traced.log if line["event"] == "request.completed"]
    assert [line["trace_id"] for line in requests] == [TRACE]


async def test_a_collector_that_is_away_costs_no_request(
    *,
    place: FleetPlace,
    start: StartSidecar,
    sandbox: Sandbox,
    app: App,
    collector: Collector,
) -> None:
    """Requests are served, and the process ends as it was asked to, although no span is taken."""
    place.environ = collector.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    sidecar = await start("traced")
    await healed(sandbox, app, sidecar, flags="01")

    sidecar.signal(signal.SIGTERM)
    assert await sidecar.ended() == 0

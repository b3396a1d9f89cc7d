"""K6: a pipe that no one reads stops the log, and nothing else."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncGenerator

import aiohttp
import pytest

from sidecar.sandbox import Fault, Sandbox
from tests.promises.conftest import StartSidecar
from tests.support.fleet import App, FleetPlace, SidecarProcess
from tests.support.pipes import Outputs, Pipe, Stream
from tests.support.wait import until

USER = "mikomo_10"
LOG_LINES = 100
ROUNDS, AT_ONCE = 15, 40


@pytest.fixture(params=["uvloop", "asyncio"])
async def outputs(request: pytest.FixtureRequest) -> AsyncGenerator[Outputs]:
    """What the sidecar writes to: a pipe for each stream, and few lines that may wait for it."""
    spec = {"loop": request.param, "log_lines": LOG_LINES, "talks": True}
    with Pipe() as stdout, Pipe() as stderr:
        yield Outputs(stdout=stdout, stderr=stderr, spec=spec)


@pytest.fixture
async def talkative(place: FleetPlace, outputs: Outputs) -> AsyncGenerator[SidecarProcess]:
    """A sidecar on these pipes, with a library that prints, logs and reports at each request."""
    process = SidecarProcess(place, name="talkative", outputs=outputs)
    yield await process.start()
    process.kill()


def outputs_of(sidecar: SidecarProcess) -> Outputs:
    """Return the pipes of a sidecar that has some."""
    assert sidecar.outputs is not None
    return sidecar.outputs


async def alive(sidecar: SidecarProcess) -> int:
    """Return what the liveness probe gets."""
    patience = aiohttp.ClientTimeout(total=20)
    async with (
        aiohttp.ClientSession(timeout=patience) as session,
        session.get(f"{sidecar.metrics_url}/livez") as answer,
    ):
        return answer.status


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
async def test_a_stream_that_no_one_reads_stops_neither_calls_nor_probes_nor_the_drain(
    stream: Stream,
    talkative: SidecarProcess,
    start: StartSidecar,
    app: App,
    sandbox: Sandbox,
) -> None:
    """All calls are served, a refresh in flight is kept, what was dropped is counted."""
    peer = await start("peer")
    await app.onboard(peer, USER)
    assert await app.fetch(talkative, USER) == (200, "")
    pipe = outputs_of(talkative).stop_reading(stream)

    served = [
        answer
        for _ in range(ROUNDS)
        for answer in await app.fetch_many([talkative], USER, calls=AT_ONCE)
    ]
    assert served == [(200, "")] * ROUNDS * AT_ONCE
    assert await alive(talkative) == 200
    dropped = await app.metric(
        talkative, 'sidecar_log_lines_dropped_total{level="info",loss="buffer_full"}'
    )
    sandbox.grants.expire_id_tokens(user=USER, provider=None)
    sandbox.faults.add(Fault(operation="refresh", kind="slow_after", delay_s=1.0))
    caller = asyncio.ensure_future(app.fetch(talkative, USER))
    await until(lambda: len(sandbox.ledger) == 1, within_s=30, what="the claim to reach the IdP")
    talkative.signal(signal.SIGTERM)
    code = await talkative.ended()

    assert (code, await caller) == (0, (200, ""))
    assert (await app.show(peer, USER))["generation"] == 1
    assert await app.fetch(peer, USER) == (200, "")
    assert len(sandbox.ledger) == 1
    if stream == "stdout":
        assert dropped >= ROUNDS * AT_ONCE - LOG_LINES - 50
        lines = [json.loads(line) for line in pipe.read_all().splitlines()]
        assert {line["event"] for line in lines} <= {"request.completed", "library.logged"}
    else:
        assert "library.logged" in talkative.events
        assert [line["drained"] for line in talkative.log if "drained" in line] == [True]
        assert pipe.read_all().startswith(b"the interpreter reports")


async def test_a_reader_that_goes_away_stops_nothing_and_is_counted(
    talkative: SidecarProcess, start: StartSidecar, app: App
) -> None:
    """A collector that dies takes no call along."""
    await app.onboard(await start("peer"), USER)
    outputs_of(talkative).stop_reading("stdout").close_out()
    outputs_of(talkative).stop_reading("stderr").close_out()

    served = await app.fetch_many([talkative], USER, calls=AT_ONCE)

    assert served == [(200, "")] * AT_ONCE
    assert await alive(talkative) == 200
    series = 'sidecar_log_lines_dropped_total{level="info",loss="write_failed"}'
    await eventually_counted(app, talkative, series)
    talkative.signal(signal.SIGTERM)
    assert await talkative.ended() == 0


async def eventually_counted(app: App, sidecar: SidecarProcess, series: str) -> None:
    """Wait until a series is not 0: the writer takes a moment."""
    for _ in range(200):
        if await app.metric(sidecar, series):
            return
    raise AssertionError(series)

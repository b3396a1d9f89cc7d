"""Callers of a grant that cannot be refreshed are told so at once, and keep nobody else out."""

from __future__ import annotations

import asyncio
from collections import Counter
from time import monotonic

import aiohttp

from sidecar.sandbox import Fault, Sandbox
from tests.promises.conftest import StartSidecar
from tests.support.fleet import App, FleetPlace, SidecarProcess
from tests.support.wait import until

DOUBTED, WELL = "mikomo_10", "mikomo_9"
SERVED = (200, "")
COME_AGAIN = (503, "token_unavailable")
CALLERS = 110
SHORT_LIFE_S = 2
FAR_BELOW_A_WAIT_S = 5.0
"""A caller that waits at all waits for ten seconds."""


async def test_110_callers_of_a_doubted_grant_keep_no_call_of_another_user_out(
    sandbox: Sandbox, start: StartSidecar, app: App, place: FleetPlace
) -> None:
    """With 100 slots: 20 of 20 calls of a healthy user succeed; the others hear when to return."""
    place.environ = {"SIDECAR_MAX_IN_FLIGHT": "100"}
    sidecar = await start("only")
    sandbox.tune(id_token_life_s=SHORT_LIFE_S)
    await app.onboard(sidecar, DOUBTED)
    sandbox.tune(id_token_life_s=900)
    await app.onboard(sidecar, WELL)
    await _until_in_doubt(sandbox, sidecar, app)
    told: Counter[tuple[int, str]] = Counter()
    retry_after_s: list[int] = []
    took_s: list[float] = []
    is_over = asyncio.Event()
    url = f"{sidecar.proxy_url}/accounts-info/v2/mikomo"

    async def call_on(http: aiohttp.ClientSession) -> None:
        while not is_over.is_set():
            since_s = monotonic()
            async with http.get(url, headers={"Sidecar-User": DOUBTED}) as answer:
                await answer.read()
                told[answer.status, answer.headers["Sidecar-Error"]] += 1
                if answer.headers["Sidecar-Error"] == "token_unavailable":
                    retry_after_s.append(int(answer.headers["Retry-After"]))
            took_s.append(monotonic() - since_s)

    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(CALLERS):
            group.create_task(call_on(http))
        await until(lambda: len(took_s) > CALLERS, within_s=30, what="all of them to call")
        healthy = [await app.fetch(sidecar, WELL) for _ in range(20)]
        is_over.set()

    assert healthy == [SERVED] * 20
    assert max(took_s) < FAR_BELOW_A_WAIT_S
    assert told[COME_AGAIN] >= CALLERS
    assert set(told) <= {COME_AGAIN, (503, "overloaded")}
    assert 120 <= min(retry_after_s) <= max(retry_after_s) < 144, "ten minutes remain; two are told"
    assert len(set(retry_after_s)) > 5, "they come back one after another"


async def _until_in_doubt(sandbox: Sandbox, sidecar: SidecarProcess, app: App) -> None:
    """Lose the answer to a refresh: the owner repeats it, is denied, and the grant is in doubt."""
    since_s = monotonic()
    await until(lambda: monotonic() - since_s > SHORT_LIFE_S, within_s=30, what="the life to end")
    sandbox.faults.add(Fault(operation="refresh", kind="drop_after", user=DOUBTED))
    assert await app.fetch(sidecar, DOUBTED) == COME_AGAIN
    assert (await app.show(sidecar, DOUBTED))["state"] == "in_doubt"

"""SIGTERM ends a sidecar once what it began has ended, and nothing is left behind."""

from __future__ import annotations

import asyncio
import signal

from sidecar.sandbox import Fault, Sandbox
from tests.promises.conftest import StartSidecar
from tests.support.fleet import App
from tests.support.wait import until

USER = "mikomo_10"


async def test_a_claim_in_flight_ends_before_the_process_does(
    sandbox: Sandbox, start: StartSidecar, app: App
) -> None:
    """The caller is served, the pair is in the store, nothing is parked, and the code is 0."""
    leaving, peer = await start("leaving"), await start("peer")
    await app.onboard(peer, USER)
    sandbox.grants.expire_id_tokens(user=USER, provider=None)
    sandbox.faults.add(Fault(operation="refresh", kind="slow_after", delay_s=2.0))
    caller = asyncio.ensure_future(app.fetch(leaving, USER))
    await until(lambda: len(sandbox.ledger) == 1, within_s=30, what="the claim to reach the IdP")

    leaving.signal(signal.SIGTERM)
    await until(lambda: "lifecycle.draining" in leaving.events, within_s=30, what="the drain")
    refused = await app.fetch(leaving, USER)
    code = await leaving.ended()

    stopped = next(line for line in leaving.log if line["event"] == "lifecycle.stopped")
    assert await caller == (200, "")
    assert refused == (503, "draining")
    assert code == 0
    assert (stopped["parked"], stopped["drained"]) == (0, True)
    assert (await app.show(peer, USER))["generation"] == 1
    assert await app.fetch(peer, USER) == (200, "")
    assert len(sandbox.ledger) == 1


async def test_a_claim_whose_caller_has_left_ends_before_the_process_does(
    sandbox: Sandbox, start: StartSidecar, app: App
) -> None:
    """Nobody waits for the answer but the sidecar itself; its pair reaches the store."""
    leaving, peer = await start("leaving"), await start("peer")
    await app.onboard(peer, USER)
    sandbox.grants.expire_id_tokens(user=USER, provider=None)
    sandbox.faults.add(Fault(operation="refresh", kind="slow_after", delay_s=2.0))
    caller = asyncio.ensure_future(app.fetch(leaving, USER))
    await until(lambda: len(sandbox.ledger) == 1, within_s=20, what="the claim to reach the IdP")
    caller.cancel()

    leaving.signal(signal.SIGTERM)
    code = await leaving.ended()

    stopped = next(line for line in leaving.log if line["event"] == "lifecycle.stopped")
    assert (code, stopped["parked"], stopped["drained"]) == (0, 0, True)
    assert (await app.show(peer, USER))["generation"] == 1
    assert len(sandbox.ledger) == 1

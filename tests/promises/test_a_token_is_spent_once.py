"""However many callers and sidecars, and whatever dies, a refresh token is spent once."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import aiohttp

from sidecar.sandbox import Fault, Sandbox
from tests.promises.conftest import StartSidecar
from tests.support.fleet import App, FleetPlace, SidecarProcess
from tests.support.redis_server import RedisServer
from tests.support.wait import eventually, until

USER = "mikomo_10"
SERVED = (200, "")
COME_AGAIN = (503, "token_unavailable")


def refreshes(sandbox: Sandbox) -> int:
    return sum(1 for entry in sandbox.ledger if entry.presentation == "refresh")


async def stored(app: App, sidecar: SidecarProcess, *, generation: int) -> dict[str, Any]:
    """Return the grant once the store has this generation: callers may be served before that."""
    return await eventually(
        lambda: app.show(sidecar, USER),
        lambda grant: grant["generation"] == generation,
        within_s=20,
        what=f"generation {generation} to be stored",
    )


def presented_twice(sandbox: Sandbox) -> object:
    return sandbox.ledger.summary()["presented_twice"]


async def test_200_callers_on_two_sidecars_cost_one_claim(
    sandbox: Sandbox, start: StartSidecar, app: App
) -> None:
    """Both want the successor while its claim runs; all are served, or told to come again."""
    first, second = await start("first"), await start("second")
    await app.onboard(first, USER)
    assert await app.fetch(first, USER) == SERVED
    assert await app.fetch(second, USER) == SERVED
    sandbox.grants.expire_id_tokens(user=USER, provider=None)
    sandbox.faults.add(Fault(operation="refresh", kind="slow_after", delay_s=1.0))

    answers = await app.fetch_many([first, second], USER, calls=200)
    later = [await app.served(sidecar, USER) for sidecar in (first, second)]

    assert set(answers) <= {SERVED, COME_AGAIN}
    assert later == [SERVED, SERVED]
    assert refreshes(sandbox) == 1
    assert presented_twice(sandbox) == []


async def test_a_sidecar_killed_once_the_answer_is_on_disk_loses_nothing(
    sandbox: Sandbox, start: StartSidecar, app: App
) -> None:
    """After the restart the grant is active with the new generation, and no claim was repeated."""
    healthy = await start("healthy")
    await app.onboard(healthy, USER)
    doomed = await start("doomed", dies_after="spooled")
    sandbox.grants.expire_id_tokens(user=USER, provider=None)
    async with aiohttp.ClientSession() as session:
        try:
            url = f"{doomed.proxy_url}/accounts-info/v2/mikomo"
            async with session.get(url, headers={"Sidecar-User": USER}):
                pass
        except aiohttp.ClientError:
            await doomed.ended()
    assert (await app.show(healthy, USER))["generation"] == 0

    restarted = await start("doomed")

    grant = await app.show(restarted, USER)
    assert grant["state"] == "active"
    assert grant["generation"] == 1
    assert await app.fetch(healthy, USER) == SERVED
    assert refreshes(sandbox) == 1
    assert presented_twice(sandbox) == []


async def test_redis_killed_between_claim_and_commit_costs_no_pair(
    sandbox: Sandbox, start: StartSidecar, app: App, redis_server: RedisServer
) -> None:
    """The pair reaches the store when it is back; callers were served or told to come again."""
    sidecar = await start("only")
    await app.onboard(sidecar, USER)
    sandbox.grants.expire_id_tokens(user=USER, provider=None)
    sandbox.faults.add(Fault(operation="refresh", kind="slow_after", delay_s=1.0))

    callers = asyncio.gather(*(app.fetch(sidecar, USER) for _ in range(20)))
    await until(lambda: refreshes(sandbox) == 1, within_s=30, what="the claim to reach the IdP")
    redis_server.kill()
    away_since_s = asyncio.get_running_loop().time()
    answers = await callers
    await until(
        lambda: asyncio.get_running_loop().time() > away_since_s + 3.0,
        within_s=30,
        what="the store to have been away for three seconds",
    )
    await asyncio.to_thread(redis_server.start)

    await until(
        lambda: "store.reincarnated" in sidecar.events, within_s=30, what="the store to be back"
    )
    grant = await stored(app, sidecar, generation=1)
    assert set(answers) <= {SERVED, COME_AGAIN}
    assert grant["state"] == "active"
    assert refreshes(sandbox) == 1


async def test_a_holder_stopped_past_its_lease_and_hold_keeps_its_pair(
    sandbox: Sandbox, start: StartSidecar, app: App, place: FleetPlace
) -> None:
    """A process that slept through its lease finds its answer in the socket and stores it."""
    place.times = {"lease_s": 1.0, "hold_s": 2.0, "keep_every_s": 0.5, "heal_s": 30.0}
    sleeper, peer = await start("sleeper"), await start("peer")
    await app.onboard(peer, USER)
    sandbox.grants.expire_id_tokens(user=USER, provider=None)
    sandbox.faults.add(Fault(operation="refresh", kind="slow_after", delay_s=1.0))

    caller = asyncio.ensure_future(app.fetch(sleeper, USER))
    await until(lambda: refreshes(sandbox) == 1, within_s=30, what="the claim to reach the IdP")
    sleeper.signal(signal.SIGSTOP)
    while (await app.show(peer, USER))["state"] != "in_doubt":
        await app.fetch(peer, USER)
    sleeper.signal(signal.SIGCONT)
    await caller

    await eventually(
        lambda: app.show(peer, USER),
        lambda grant: bool(grant["state"] == "active"),
        within_s=30,
        what="the pair to be stored",
    )
    grant = await app.show(peer, USER)
    assert grant["generation"] == 1
    assert await app.fetch(peer, USER) == SERVED
    assert refreshes(sandbox) == 2, "the peer's probe past the hold is the one explained repeat"


async def test_a_caller_that_leaves_does_not_end_the_refresh(
    sandbox: Sandbox, start: StartSidecar, app: App
) -> None:
    """The refresh that a disconnected client began ends normally, and once."""
    sidecar = await start("only")
    await app.onboard(sidecar, USER)
    sandbox.grants.expire_id_tokens(user=USER, provider=None)
    sandbox.faults.add(Fault(operation="refresh", kind="slow_after", delay_s=0.5))

    caller = asyncio.ensure_future(app.fetch(sidecar, USER))
    await until(lambda: refreshes(sandbox) == 1, within_s=30, what="the claim to reach the IdP")
    caller.cancel()

    await until(lambda: "token.refreshed" in sidecar.events, within_s=30, what="the refresh to end")
    assert await app.fetch(sidecar, USER) == SERVED
    await stored(app, sidecar, generation=1)
    assert refreshes(sandbox) == 1


async def test_while_redis_is_away_memory_serves_and_nothing_is_claimed(
    sandbox: Sandbox, start: StartSidecar, app: App, place: FleetPlace, redis_server: RedisServer
) -> None:
    """A cached token is served until it ends, then 503; the sidecar stays ready and says so."""
    place.times = {"store_check_every_s": 0.1}  # so that it wants to ask the store, in vain
    sandbox.tune(id_token_life_s=12)
    sidecar = await start("only")
    await app.onboard(sidecar, USER)
    assert await app.fetch(sidecar, USER) == SERVED

    redis_server.kill()
    await until(lambda: "store.lost" in sidecar.events, within_s=30, what="the loss to be noticed")

    assert await app.fetch(sidecar, USER) == SERVED
    assert await app.metric(sidecar, "sidecar_store_up") == 0.0
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{sidecar.metrics_url}/readyz") as ready,
    ):
        assert ready.status == 200
        assert (await ready.json())["store"] == "down"
    await eventually(
        lambda: app.fetch(sidecar, USER),
        lambda answer: answer == COME_AGAIN,
        within_s=30,
        what="the token to end",
    )
    assert refreshes(sandbox) == 0

"""Redis takes no more connections: users are served, and everybody who looks is told why."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from tests.promises.conftest import StartSidecar
from tests.support.fleet import App, FleetPlace
from tests.support.redis_server import RedisServer
from tests.support.wait import eventually, until

USERS = 20
LISTENERS = 4


async def test_a_store_at_its_most_connections_serves_and_is_called_full(
    start: StartSidecar, app: App, redis_server: RedisServer, place: FleetPlace
) -> None:
    """First calls of many users wait for a connection that lives; whoever looks is told why."""
    sidecar = await start("first")
    users = [f"mikomo_{number}" for number in range(USERS)]
    for user in users:
        await app.onboard(sidecar, user)
    second = await start("second")
    async with AsyncExitStack() as held:
        client = held.enter_context(redis_server.client())
        await until(
            lambda: client.pubsub_numsub(f"{place.redis_prefix}:notices")[0][1] == LISTENERS,
            within_s=20,
            what="both loops of both sidecars to listen",
        )
        client.config_set("maxclients", client.info("clients")["connected_clients"])
        answers = await asyncio.gather(*(app.fetch(second, user) for user in users))

        await eventually(
            lambda: app.metric(second, "sidecar_store_strained"),
            lambda level: level == 1,
            within_s=20,
            what="the strain to be told",
        )
        async with app.control(second, "GET", "/status") as answer:
            checks = {check["name"]: check for check in (await answer.json())["checks"]}
        client.config_set("maxclients", 10_000)

    assert answers == [(200, "")] * USERS
    assert checks["store"]["mood"] == "bad"
    assert checks["store"]["said"] == "it answers, but not every call: maxclients"
    (told,) = [line for line in second.log if line["event"] == "store.strained"]
    assert told["cause"] == "maxclients"
    assert await app.metric(second, 'sidecar_store_troubles_total{cause="maxclients"}') > 0

"""A sidecar that has just started serves a crowd over TLS to Redis, and its loops stay free."""

from __future__ import annotations

import asyncio
import signal
import tempfile
import time
from pathlib import Path

import pytest
import trustme

from sidecar.sandbox import Sandbox
from tests.promises.conftest import StartSidecar
from tests.support.fleet import App, FleetPlace
from tests.support.tls import tls_redis

USERS = [f"crowd-{number}" for number in range(50)]
WITH_A_WRONG_TOKEN = 10
LONGEST_TURN_S = 0.05


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_fifty_users_at_once_are_all_served_over_a_cold_pool(
    place: FleetPlace, sandbox: Sandbox, start: StartSidecar, app: App, loop: str
) -> None:
    """First calls and tokens that Akoya rejects alike; no turn of a loop takes 50 ms."""
    with (
        tempfile.TemporaryDirectory(prefix="sidecar-redis-") as directory,
        tls_redis(Path(directory), trustme.CA()) as redis,
    ):
        place.redis_url = redis.server.url
        place.spec = {"loop": loop, "tells_turns": True, "is_patient": True}
        sidecar = await start("cold")
        for user in USERS:
            await app.onboard(sidecar, user)
        sidecar.signal(signal.SIGTERM)
        assert await sidecar.ended() == 0
        place.redis_url = redis.url
        place.environ = {"SIDECAR_CA_FILE": str(redis.ca_file)}
        for user in USERS[:WITH_A_WRONG_TOKEN]:
            sandbox.grants.expire_id_tokens(user=user, provider=None)
        await sidecar.start()

        began_s = time.time()  # noqa: TID251 - compared with another process's
        answers = await asyncio.gather(*(app.fetch(sidecar, user) for user in USERS))

        turns = [line for line in sidecar.log if line["event"] == "test.turn"]
        sidecar.signal(signal.SIGTERM)
        assert await sidecar.ended() == 0

    longest_s = max((line["cpu_s"] for line in turns if line["at_s"] >= began_s), default=0.0)
    assert answers == [(200, "")] * len(USERS)
    assert len(sandbox.ledger) == WITH_A_WRONG_TOKEN
    assert turns
    assert longest_s < LONGEST_TURN_S

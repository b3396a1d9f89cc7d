"""A sidecar whose keys are not the fleet's neither seals nor names anything with them."""

from __future__ import annotations

import base64

import pytest

from tests.promises.conftest import StartSidecar
from tests.support.fleet import ENCRYPTION_KEYS, App, FleetPlace, SidecarProcess
from tests.support.redis_server import RedisServer

USER = "mikomo_10"
ANOTHER = base64.b64encode(b"x" * 32).decode()
WRONG_CONFIGURATION = 78


@pytest.mark.parametrize(
    ("variable", "value"),
    [("SIDECAR_HASH_KEY", ANOTHER), ("SIDECAR_ENCRYPTION_KEYS", f"k1:{ANOTHER}")],
)
async def test_a_sidecar_with_another_key_does_not_start(
    start: StartSidecar, app: App, place: FleetPlace, variable: str, value: str
) -> None:
    """It says which variable is another than the fleet's, shows no key, and exits with 78."""
    first = await start("first")
    await app.onboard(first, USER)
    place.environ = {variable: value}
    stranger = SidecarProcess(place, name="stranger")

    with pytest.raises(AssertionError):
        await stranger.start()

    warned = [line for line in stranger.log if line["event"] == "configuration.warned"]
    assert variable in {line["subject"] for line in warned}
    assert await stranger.ended() == WRONG_CONFIGURATION
    assert ANOTHER.encode() not in stranger.raw_log
    assert await app.fetch(first, USER) == (200, "")


async def test_a_sidecar_that_started_without_the_store_ends_when_it_meets_another_fleet(
    start: StartSidecar, place: FleetPlace, redis_server: RedisServer
) -> None:
    """A store that comes later is asked as well, before anything is sealed for it."""
    await start("first")
    redis_server.kill()
    place.environ = {"SIDECAR_HASH_KEY": ANOTHER, "SIDECAR_DRAIN_TIMEOUT_S": "0"}
    stranger = await start("stranger")

    redis_server.start()

    assert await stranger.ended() == WRONG_CONFIGURATION


async def test_a_key_can_be_added_and_put_first_in_the_whole_fleet(
    start: StartSidecar, app: App, place: FleetPlace
) -> None:
    """Rotating the sealing key needs no other prefix: a new name is agreed on when it is met."""
    first = await start("first")
    await app.onboard(first, USER)
    place.environ = {"SIDECAR_ENCRYPTION_KEYS": f"k2:{ANOTHER},{ENCRYPTION_KEYS}"}

    second = await start("second")

    assert await app.fetch(second, USER) == (200, "")

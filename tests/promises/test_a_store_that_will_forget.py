"""A Redis that will drop what it was told is called so at the start, before it does."""

from __future__ import annotations

import pytest

from tests.promises.conftest import StartSidecar
from tests.support.fleet import FleetPlace
from tests.support.redis_server import RedisServer


@pytest.mark.parametrize("has_right", [True, False], ids=["seen", "not-to-be-seen"])
async def test_a_start_warns_of_a_store_that_reads_its_file_without_rights(
    start: StartSidecar, place: FleetPlace, redis_server: RedisServer, *, has_right: bool
) -> None:
    """It starts nevertheless; the line says what to do, or what could not be looked at."""
    rule = ("on", ">secret", "~*", "&*", "+@all", *(() if has_right else ("-acl|dryrun",)))
    with redis_server.client() as client:
        client.execute_command("ACL", "SETUSER", "app", *rule)
        client.execute_command("ACL", "SETUSER", "default", "-@all")
    place.redis_url = redis_server.url.replace("redis://", "redis://app:secret@")

    sidecar = await start("first")

    (warned,) = [line for line in sidecar.log if line["event"] == "configuration.warned"]
    assert warned["subject"] == "user default"
    expected = "the next restart drops" if has_right else "it cannot be seen"
    assert expected in warned["advice"]

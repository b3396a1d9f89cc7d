from __future__ import annotations

import asyncio

from tests.proofs.engines import private_redis
from tests.proofs.no_fault import Race, race_in_virtual_time, race_on_redis
from tests.support.virtual_time import VirtualLoop

SIDECARS = 8


def test_eight_racing_sidecars_present_each_generation_once() -> None:
    """I2: without a fault attempts are successes, whoever meets whom at the store."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        seen = runner.run(race_in_virtual_time(sidecars=SIDECARS, grants=50, refreshes=300, seed=1))

    assert seen == Race(
        asked_again=0, presentations=300, repeated=0, refused=0, astray=0, failures=0
    )


async def test_eight_racing_sidecars_on_a_real_redis_present_each_generation_once() -> None:
    """I2 with the scripts, the notices and the connections of the real store."""
    with private_redis() as server:
        seen = await race_on_redis(
            redis_url=server.unix_url, sidecars=SIDECARS, grants=20, refreshes=60
        )

    assert (seen.presentations, seen.repeated, seen.refused) == (60, 0, 0)
    assert (seen.astray, seen.failures) == (0, 0)

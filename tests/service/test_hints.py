"""Who waits for a peer's change of a grant."""

from __future__ import annotations

import asyncio

from sidecar.domain.record import GrantId
from sidecar.service.hints import Hints
from tests.support.virtual_time import in_virtual_time

GRANT = GrantId("a grant")


@in_virtual_time
async def test_one_waiter_that_gives_up_leaves_the_others_waiting() -> None:
    """K5: every notice wakes all who wait, whoever of them has left in the meantime."""
    hints = Hints()
    loop = asyncio.get_running_loop()
    patient = asyncio.ensure_future(hints.wait(GRANT, at_most_s=60))
    await hints.wait(GRANT, at_most_s=1)

    hints.fire(GRANT)
    began_s = loop.time()
    await patient

    assert loop.time() == began_s

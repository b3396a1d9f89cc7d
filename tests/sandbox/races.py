"""Two uses of one refresh token at a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.support.wait import until

if TYPE_CHECKING:
    from sidecar.sandbox import Sandbox
    from tests.sandbox.driver import Answered, AppDriver


async def lose_race(app: AppDriver, sandbox: Sandbox) -> Answered:
    """Present a token that another request is spending; return what the second one is told."""
    pair = await app.connect("mikomo_10")
    await app.arm(operation="refresh", kind="slow_after", delay_s=30)
    async with asyncio.TaskGroup() as group:
        winning = group.create_task(app.refresh(pair.refresh_token))
        await until(lambda: len(sandbox.ledger) == 1, within_s=10, what="the race to begin")

        lost = await app.refresh(pair.refresh_token)

        winning.cancel()
    return lost

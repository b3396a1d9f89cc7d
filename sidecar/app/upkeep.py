"""Background work that begins anew after a fault in it, and ends when it must.

Requests are served all the while. It knows nothing of the work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from sidecar.domain.events import WorkFailed
from sidecar.ports import Observer
from sidecar.telemetry.logging import name_error

PAUSE_S: Final = 1.0
INSIST_S: Final = 0.1


async def kept(work: Callable[[], Awaitable[None]], *, observer: Observer) -> None:
    """Run `work`, and begin it anew when it ends or fails, until cancelled."""
    while True:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - reported, and the work begins anew
            observer.observe(WorkFailed(where="upkeep", error=name_error(error)))
        await asyncio.sleep(PAUSE_S)


async def ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel background work until it has ended.

    Once is not enough: in Python 3.11 `asyncio.wait_for`, through which every command goes to
    Redis, loses a cancellation that comes in the step in which its work is done.
    """
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=INSIST_S)

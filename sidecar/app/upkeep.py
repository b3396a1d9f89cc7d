"""Background work that begins anew after a fault in it: requests are served all the while."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from sidecar.domain.events import WorkFailed
from sidecar.ports import Observer
from sidecar.telemetry.logging import name_error

PAUSE_S: Final = 1.0


async def kept(work: Callable[[], Awaitable[None]], *, observer: Observer) -> None:
    """Run `work`, and begin it anew when it ends or fails, until cancelled."""
    while True:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - reported, and the work begins anew
            observer.observe(WorkFailed(where="upkeep", error=name_error(error)))
        await asyncio.sleep(PAUSE_S)

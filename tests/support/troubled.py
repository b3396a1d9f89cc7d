"""A sidecar on real parts with some trouble behind it, for its status page to be looked at."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp

from sidecar.sandbox.faults import Fault
from tests.support.deployment import BANKS, Deployment, deployment
from tests.support.fleet import CONTROL_KEY, SidecarProcess
from tests.support.wait import eventually

USERS: Final = 6
SWEEP_SOON: Final = {"sweep_poll_s": 0.2, "sweep_every_s": 1.0}
TOLD_WITHIN_S: Final = 60
USED_UP: Final = "Refresh token is invalid or has already been claimed by another client."


@asynccontextmanager
async def troubled_sidecar(directory: Path) -> AsyncGenerator[SidecarProcess]:
    """Onboard users; let one's token be used up, and the bank of another fail; count them all."""
    async with deployment(directory) as made:
        made.place.times = SWEEP_SOON
        sidecar = await made.start("status")
        for number in range(USERS):
            await made.app.onboard(sidecar, f"user_{number}", provider=BANKS[number % 2])
        await _fail(made, sidecar)
        await _counted(sidecar)
        yield sidecar


async def _fail(made: Deployment, sidecar: SidecarProcess) -> None:
    used_up = Fault(
        operation="refresh",
        kind="error",
        user="user_0",
        error="invalid_request",
        error_description=USED_UP,
        times=0,
    )
    sick = Fault(operation="refresh", kind="status_before", user="user_1", times=0)
    for fault in (used_up, sick):
        made.sandbox.faults.add(fault)
    for number in (1, 0):
        await made.app.refresh(sidecar, f"user_{number}", provider=BANKS[number])


async def _counted(sidecar: SidecarProcess) -> None:
    """Return once the sweep has counted every grant."""
    headers = {"Authorization": f"Bearer {CONTROL_KEY}"}
    async with aiohttp.ClientSession(headers=headers) as session:

        async def grants() -> dict[str, int]:
            async with session.get(f"{sidecar.control_url}/status") as answer:
                return dict((await answer.json())["grants"] or {})

        await eventually(
            grants,
            lambda found: (
                sum(found.values()) == USERS and found["in_doubt"] + found["reauth_required"] > 0
            ),
            within_s=TOLD_WITHIN_S,
            what="the sweep to count the grants",
        )

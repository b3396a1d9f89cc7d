"""A sandbox on a free port, its clock, and an app that talks to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
import pytest

from sidecar.sandbox import Sandbox, SandboxSettings
from tests.sandbox.driver import AppDriver, FakeClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def sandbox(clock: FakeClock) -> AsyncIterator[Sandbox]:
    async with Sandbox(SandboxSettings(key_bits=1024), clock=clock) as running:
        yield running


@pytest.fixture
async def app(sandbox: Sandbox) -> AsyncIterator[AppDriver]:
    async with aiohttp.ClientSession() as session:
        yield AppDriver(session, sandbox.url)

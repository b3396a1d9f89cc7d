"""A fleet of real sidecars beside a real store and the sandbox, for each promise anew."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest

from sidecar.sandbox import Sandbox, SandboxSettings
from tests.support.collector import Collector, running_collector
from tests.support.fleet import App, FleetPlace, SidecarProcess
from tests.support.redis_server import RedisServer
from tests.support.secrets_search import every_token

StartSidecar = Callable[..., Awaitable[SidecarProcess]]


@pytest.fixture
def issued() -> Iterator[list[str]]:
    """Every token and code that the sandbox gives away, gathered as it does."""
    with every_token() as given:
        yield given


@pytest.fixture
async def sandbox() -> AsyncGenerator[Sandbox]:
    """A local Akoya."""
    async with Sandbox(SandboxSettings(key_bits=1024)) as sandbox:
        yield sandbox


@pytest.fixture
async def collector() -> AsyncGenerator[Collector]:
    """Where spans go, if a test sends any."""
    async with running_collector() as collector:
        yield collector


@pytest.fixture
def place(
    tmp_path: Path, sandbox: Sandbox, redis_server: RedisServer, redis_prefix: str
) -> FleetPlace:
    """Where the sidecars of this test meet; a test may shorten its times."""
    return FleetPlace(
        directory=tmp_path,
        redis_url=redis_server.url,
        redis_prefix=redis_prefix[:20],
        sandbox=sandbox,
    )


@pytest.fixture
async def start(place: FleetPlace) -> AsyncGenerator[StartSidecar]:
    """Start sidecars by name; they are gone when the test is over."""
    started: list[SidecarProcess] = []

    async def start_one(
        name: str, *, dies_after: str | None = None, clock_ahead_s: float = 0.0
    ) -> SidecarProcess:
        process = SidecarProcess(
            place, name=name, dies_after=dies_after, clock_ahead_s=clock_ahead_s
        )
        started.append(process)
        return await process.start()

    yield start_one
    for process in started:
        process.kill()


@pytest.fixture
async def app(sandbox: Sandbox) -> AsyncGenerator[App]:
    """A microservice that uses the sidecars."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield App(session, sandbox)

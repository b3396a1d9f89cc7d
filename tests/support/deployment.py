"""A whole deployment on this machine, for experiments that no fixture sets up: sandbox, Redis, app.

It must not know what is tried with it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from sidecar.sandbox import Sandbox, SandboxSettings
from tests.support.fleet import App, FleetPlace, SidecarProcess
from tests.support.redis_server import RedisServer

BANKS = ("mikomo", "bank-2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Where sidecars may be started.

    Attributes:
        directory: Holds logs and spools of the sidecars, and in ``redis`` all that Redis keeps.
    """

    directory: Path
    sandbox: Sandbox
    redis: RedisServer
    place: FleetPlace
    app: App
    started: list[SidecarProcess] = field(default_factory=list[SidecarProcess])

    async def start(self, name: str) -> SidecarProcess:
        """Start a sidecar; it is gone when the deployment is."""
        sidecar = SidecarProcess(self.place, name=name)
        self.started.append(sidecar)
        return await sidecar.start()


@asynccontextmanager
async def deployment(directory: Path) -> AsyncGenerator[Deployment]:
    """Set up everything but the sidecars in an empty directory."""
    kept = directory / "redis"
    kept.mkdir()
    redis = RedisServer(kept, keeps_writes=True)
    redis.start()
    settings = SandboxSettings(key_bits=1024)
    connector = aiohttp.TCPConnector(limit=0)
    try:
        async with Sandbox(settings) as sandbox, aiohttp.ClientSession(connector=connector) as http:
            place = FleetPlace(
                directory=directory, redis_url=redis.url, redis_prefix="proof", sandbox=sandbox
            )
            made = Deployment(
                directory=directory,
                sandbox=sandbox,
                redis=redis,
                place=place,
                app=App(http, sandbox),
            )
            try:
                yield made
            finally:
                for sidecar in made.started:
                    sidecar.kill()
    finally:
        redis.stop()


def refreshes(sandbox: Sandbox) -> int:
    """Return how many refresh tokens were presented for a successor so far."""
    return sum(entry.presentation == "refresh" for entry in sandbox.ledger)


def presented_again(sandbox: Sandbox) -> int:
    """Return how many presentations came after the first one of their token."""
    tokens = [entry.token for entry in sandbox.ledger if entry.presentation == "refresh"]
    return len(tokens) - len(set(tokens))


def presentations(sandbox: Sandbox, user: str, provider: str) -> int:
    """Return how many refresh tokens of one grant were presented for a successor so far."""
    return sum(
        entry.presentation == "refresh" and (entry.user, entry.provider) == (user, provider)
        for entry in sandbox.ledger
    )


def generations(sandbox: Sandbox) -> dict[tuple[str | None, str | None], int]:
    """Return how often each grant was rotated, by user and provider."""
    rotated: dict[tuple[str | None, str | None], int] = {}
    for entry in sandbox.ledger:
        if entry.presentation == "refresh" and entry.outcome == "rotated":
            key = (entry.user, entry.provider)
            rotated[key] = rotated.get(key, 0) + 1
    return rotated

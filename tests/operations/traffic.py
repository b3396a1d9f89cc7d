"""Normal load: apps that read data through every sidecar, and tokens that are refreshed meanwhile.

It counts what was not served. It must not know why anybody wants load.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from types import TracebackType
from typing import Final, Self, final

import aiohttp

from tests.support.fleet import App, SidecarProcess

CALLERS: Final = 4
PAUSE_S: Final = 0.1
CALL_S: Final = 30.0

Grant = tuple[str, str]
"""A user and a provider."""


@dataclass(kw_only=True)
class Load:
    """How much of it there is.

    Attributes:
        is_refreshing: Whether tokens are refreshed as fast as data is read; else when they are due.
    """

    grants: Sequence[Grant]
    pause_s: float = PAUSE_S
    is_refreshing: bool = True
    served: int = 0
    refreshed: int = 0
    not_served: Counter[str] = field(default_factory=Counter[str])


@final
class Traffic:
    """Callers at work inside `async with`; `sidecars` may change meanwhile."""

    def __init__(self, app: App, sidecars: list[SidecarProcess], load: Load) -> None:
        self._app = app
        self._sidecars = sidecars
        self._load = load
        self._chance = Random(7)  # noqa: S311 - whose turn it is
        self._group = asyncio.TaskGroup()
        self._is_over = asyncio.Event()
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=CALL_S)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        for _ in range(CALLERS):
            self._group.create_task(self._read())
        if self._load.is_refreshing:
            self._group.create_task(self._refresh())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_over.set()
        try:
            await self._group.__aexit__(kind, error, trace)
        finally:
            await self._session.close()

    async def _read(self) -> None:
        while not self._is_over.is_set():
            await self._call(*self._chance.choice(self._load.grants))
            await self._pause()

    async def _call(self, user: str, provider: str) -> None:
        url = f"{self._chance.choice(self._sidecars).proxy_url}/accounts-info/v2/{provider}"
        try:
            async with self._session.get(url, headers={"Sidecar-User": user}) as answer:
                await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            self._load.not_served[type(error).__name__] += 1
            return
        if answer.status == 200:
            self._load.served += 1
        else:
            self._load.not_served[f"{answer.status} {answer.headers.get('Sidecar-Error', '')}"] += 1

    async def _refresh(self) -> None:
        """Refresh the grants in turn, so that a denied one does not come up soon again."""
        while not self._is_over.is_set():
            for user, provider in self._load.grants:
                sidecar = self._chance.choice(self._sidecars)
                with suppress(aiohttp.ClientError, TimeoutError):  # it may be the trouble itself
                    status = await self._app.refresh(sidecar, user, provider=provider)
                    self._load.refreshed += status == 200
                await self._pause()
                if self._is_over.is_set():
                    return

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._is_over.wait(), self._load.pause_s)

"""The stores of which the contract suites ask what every store promises."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sidecar.adapters.memory_store import MemoryTokenStore
from sidecar.adapters.redis_store import RedisTokenStore
from sidecar.adapters.system import SystemClock
from sidecar.domain.events import Event
from sidecar.ports import TokenStore


class Unheard:
    def observe(self, event: Event) -> None:
        pass


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest, redis_prefix: str) -> AsyncIterator[TokenStore]:
    opened: TokenStore
    if request.param == "memory":
        opened = MemoryTokenStore(clock=SystemClock())
    else:
        opened = RedisTokenStore(
            url=request.getfixturevalue("redis_url"),
            prefix=redis_prefix,
            observer=Unheard(),
            clock=SystemClock(),
        )
    yield opened
    await opened.close()

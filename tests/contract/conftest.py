"""The stores of which the contract suites ask what every store promises."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sidecar.adapters.memory_store import MemoryTokenStore
from sidecar.adapters.system import SystemClock
from sidecar.ports import TokenStore
from tests.support.stores import have_patience, store_at


@pytest.fixture(params=["memory", "redis", "sentinel", "cluster"])
async def store(
    request: pytest.FixtureRequest, redis_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[TokenStore]:
    have_patience(monkeypatch)
    opened: TokenStore
    if request.param == "memory":
        opened = MemoryTokenStore(clock=SystemClock())
    else:
        url: str = request.getfixturevalue(f"{request.param}_url")
        opened = store_at(url, redis_prefix)
    yield opened
    await opened.close()

from __future__ import annotations

import asyncio

import pytest

from sidecar.adapters.cancellation import cancellation_heeded
from sidecar.adapters.redis_store import RedisTokenStore
from sidecar.domain.record import GrantId
from tests.support.stores import store_at

GRANT = GrantId("0a" * 16)
TURNS = 60
"""A call of a store takes fewer turns of the loop: some cancellations come in each of them."""


@pytest.fixture
async def store(redis_url: str, redis_prefix: str) -> RedisTokenStore:
    store = store_at(redis_url, redis_prefix)
    await store.read(GRANT)
    return store


async def test_a_task_that_asks_in_a_loop_ends_at_whatever_turn_it_is_cancelled(
    store: RedisTokenStore,
) -> None:
    """Housekeeping is cancelled once, at the end of the process, and must not go on for ever."""

    async def ask() -> None:
        while True:
            await store.read(GRANT)

    endless: list[int] = []
    for turn in range(TURNS):
        asking = asyncio.ensure_future(ask())
        for _ in range(turn):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking], timeout=2)
        if not asking.done():
            endless.append(turn)
        while not asking.done():
            asking.cancel()
            await asyncio.wait([asking], timeout=0.1)
    await store.close()

    assert endless == []


async def test_a_swallowed_cancellation_comes_out_all_the_same() -> None:
    """What a library returns or raises instead is let go."""

    async def swallow(*, error: Exception | None) -> str:
        with cancellation_heeded():
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if error is not None:
                    raise error from None
        return "went on"

    for error in (None, ConnectionError()):
        calling = asyncio.ensure_future(swallow(error=error))
        await asyncio.sleep(0)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling


async def test_a_call_that_nobody_cancelled_ends_as_it_does() -> None:
    """Its result and its error go through, also in a task that outlived a timeout before."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await asyncio.Event().wait()

    with cancellation_heeded():
        await asyncio.sleep(0)
        answer = "answer"
    with pytest.raises(ConnectionError), cancellation_heeded():
        raise ConnectionError

    assert answer == "answer"

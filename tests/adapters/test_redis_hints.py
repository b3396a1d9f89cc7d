"""How one subscription hears hints, and how it notices that it hears nothing any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from sidecar.adapters import redis_hints
from sidecar.adapters.redis_connection import pool_of_url
from sidecar.domain.notices import Distress, Notice
from sidecar.domain.record import GrantId
from tests.support.redis_server import RedisServer

GRANT = GrantId("0a" * 16)
Hints = AsyncGenerator[Notice | Distress | None]


@pytest.fixture
async def client(redis_server: RedisServer) -> AsyncIterator[Any]:
    pool = pool_of_url(redis_server.unix_url)
    yield Redis(connection_pool=pool)
    await pool.disconnect()


@pytest.fixture
async def hints(client: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hints]:
    monkeypatch.setattr(redis_hints, "SILENCE_S", 0.05)
    async with aclosing(
        redis_hints.hints_of(client, notices="notices", distress="distress")
    ) as heard:
        assert await anext(heard) is None
        assert await anext(heard) is None
        yield heard


async def test_a_quiet_server_is_asked_and_believed(hints: Hints, client: Any) -> None:
    """Long silences end no subscription as long as the server answers when it is asked."""
    hint = asyncio.ensure_future(anext(hints))
    done, _ = await asyncio.wait([hint], timeout=0.5)  # ten silences

    await client.publish("distress", GRANT)

    assert not done
    assert await asyncio.wait_for(hint, 5) == Distress(grant=GRANT)


@pytest.mark.parametrize(
    "said",
    [
        b'{"grant": "g", "consent": "c", "generation": 1e999, "state": "active"}',
        b'{"grant": "g", "consent": "c", "generation": -Infinity, "state": "active"}',
        b'{"grant": "g", "consent": "c", "generation": NaN, "state": "active"}',
        b'{"grant": "g", "consent": "c", "generation": ' + b"9" * 5000 + b', "state": "active"}',
        b"[" * 100_000,
    ],
    ids=["infinite", "minus infinity", "no number", "endless", "deep"],
)
async def test_a_notice_with_an_odd_number_is_no_notice(
    hints: Hints, client: Any, said: bytes
) -> None:
    """A client that may publish cannot end the subscriptions of a fleet: the next hint is heard."""
    await client.publish("notices", said)
    await client.publish("distress", GRANT)

    assert await asyncio.wait_for(anext(hints), 5) == Distress(grant=GRANT)


async def test_a_server_that_says_nothing_at_all_is_given_up(
    hints: Hints, redis_server: RedisServer
) -> None:
    """A black hole raises after two silences, so that the listener connects anew."""
    redis_server.pause()

    with pytest.raises(RedisError, match="silent"):
        await asyncio.wait_for(anext(hints), 5)

    redis_server.resume()

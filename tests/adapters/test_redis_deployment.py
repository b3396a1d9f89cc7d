"""The Redis that the project recommends is one that the sidecar can work with."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.adapters.redis_store import RedisTokenStore
from sidecar.domain.commands import Committed, Done, Leased
from sidecar.domain.notices import Distress, Notice
from sidecar.domain.record import GrantId, GrantState
from sidecar.ports import StoreUnavailable
from tests.support.records import acquire, live, mark, pair
from tests.support.redis_server import PROGRAMS, RedisServer, program_of
from tests.support.shipped import LOGIN, filled_in
from tests.support.stores import store_at
from tests.support.wait import eventually

GRANT = GrantId("0a" * 16)


@pytest.fixture(params=PROGRAMS)
def recommended(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A server with redis.conf and users.acl, and the sidecar's login."""
    with tempfile.TemporaryDirectory(prefix="sidecar-redis-") as made:
        directory = Path(made)
        server = RedisServer(
            directory,
            config=filled_in(directory) / "redis.conf",
            program=program_of(request.param),
            login=LOGIN,
        )
        try:
            server.start()
            yield server
        finally:
            server.stop()


async def first_hint(store: RedisTokenStore) -> Notice | Distress:
    """Call the fleet until its listener hears of it."""
    heard = asyncio.ensure_future(anext(store.listen()))
    await eventually(
        lambda: store.call_fleet(GRANT), lambda _: heard.done(), within_s=30, what="a hint"
    )
    return await heard


async def test_the_recommended_configuration_starts_and_needs_no_advice(
    recommended: RedisServer,
) -> None:
    """A server started with config/redis/redis.conf runs, and nothing about it is risky."""
    store = store_at(recommended.url)

    advice = await store.inspect()
    await store.close()

    assert advice == ()


async def test_the_recommended_access_rule_is_enough(recommended: RedisServer) -> None:
    """A user with just these rights can do everything, and nothing beyond the sidecar's keys."""
    store, stranger = store_at(recommended.url), store_at(recommended.url, "another-application")

    await store.apply(GRANT, live(pair(), None))
    met = await store.meet(min((await store.probe()).run_ids))
    leased = await store.apply(GRANT, acquire(pair().position, met=met))
    marked = await store.apply(GRANT, mark(pair().position))
    committed = await store.apply(GRANT, live(pair(1)))
    _, page = await store.scan("", 10)
    await store.tell(GRANT, GrantState.ACTIVE, "")
    fed = await store.feed("", 10)
    await store.take_canary("credentials", 10)
    await store.schedule(0, {GRANT: 1}, only_sooner=True)
    due = await store.take_due(0, 1, retake_ms=10)
    await store.unschedule(0, [GRANT])
    await store.note_uses(0, {GRANT: 1})
    uses = await store.last_uses(0, [GRANT])
    await store.forget_uses(0, before_ms=2)
    await store.deposit("ticket:1", b"envelope", ttl_ms=60_000)
    taken = [await store.peek("ticket:1"), await store.take("ticket:1")]
    advice = await store.inspect()
    missing = await store.missing_rights("scratch")
    hint = await first_hint(store)
    with pytest.raises(StoreUnavailable, match=r"^NoPermissionError$"):
        await stranger.read(GRANT)
    await store.close()
    await stranger.close()

    assert isinstance(leased, Leased)
    assert marked == Done()
    assert isinstance(committed, Committed)
    assert len(page) == len(fed) == len(due) == len(uses) == 1
    assert taken == [b"envelope"] * 2
    assert (advice, missing) == ((), ())
    assert hint == Distress(grant=GRANT)

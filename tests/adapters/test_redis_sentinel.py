"""How a store follows its primary, and what counts as another incarnation of it."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from sidecar.adapters.redis_store import RedisTokenStore
from sidecar.domain.commands import Committed, NewIncarnation
from sidecar.domain.record import GrantId
from sidecar.ports import Distress, Notice, StoreUnavailable
from tests.support.records import acquire, live, pair, replay
from tests.support.redis_fleet import SERVICE, SentinelFleet, are_in_step, command, wait_for
from tests.support.redis_server import RedisServer
from tests.support.stores import have_patience, store_at, tried
from tests.support.wait import eventually

GRANT = GrantId("0a" * 16)


@pytest.fixture
def fleet() -> Iterator[SentinelFleet]:
    with tempfile.TemporaryDirectory(prefix="sidecar-redis-") as directory:
        fleet = SentinelFleet(Path(directory))
        try:
            fleet.start()
            yield fleet
        finally:
            fleet.stop()


@pytest.fixture
async def store(
    fleet: SentinelFleet, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RedisTokenStore]:
    have_patience(monkeypatch)
    opened = store_at(fleet.url)
    yield opened
    await opened.close()


@pytest.fixture
def two_servers() -> Iterator[tuple[RedisServer, RedisServer]]:
    with tempfile.TemporaryDirectory(prefix="sidecar-redis-") as directory:
        folders = [Path(directory, name) for name in ("first", "second")]
        for folder in folders:
            folder.mkdir()
        first, second = (
            RedisServer(folder, options=("--repl-diskless-sync-delay", "0")) for folder in folders
        )
        try:
            first.start()
            second.start()
            yield first, second
        finally:
            first.stop()
            second.stop()


async def test_a_dead_primary_is_replaced_by_the_one_that_the_sentinels_name(
    fleet: SentinelFleet, store: RedisTokenStore
) -> None:
    """Calls fail until there is a new primary, then go there; a listener hears again."""
    await store.apply(GRANT, live(pair(), None))
    before = await store.probe()
    hints: list[Notice | Distress] = []

    async def hear() -> None:
        async for hint in store.listen():
            hints.append(hint)  # noqa: PERF401 - others look at what was heard so far

    async def call() -> None:
        with suppress(StoreUnavailable):  # while nobody is primary
            await store.call_fleet(GRANT)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(hear())
        await eventually(call, lambda _: bool(hints), within_s=10, what="a first hint")
        fleet.primaries()[0].kill()
        with pytest.raises(StoreUnavailable):
            await store.apply(GRANT, replay(pair(1)))
        verdict = await eventually(
            lambda: tried(store, GRANT, replay(pair(1))),
            lambda verdict: verdict is not None,
            within_s=30,
            what="a new primary",
        )
        hints.clear()
        await eventually(call, lambda _: bool(hints), within_s=30, what="a hint from it")
        after = await store.probe()
        await store.close()

    assert isinstance(verdict, Committed)
    assert after.run_ids.isdisjoint(before.run_ids)


async def test_a_primary_that_slept_through_its_replacement_is_not_asked_again(
    fleet: SentinelFleet, store: RedisTokenStore
) -> None:
    """It may not know yet that it is replaced, and would show what the failover has undone."""
    await store.apply(GRANT, live(pair(), None))
    reader = store_at(fleet.url)
    await reader.read(GRANT)
    former = fleet.primaries()[0]
    former.pause()
    await eventually(
        lambda: tried(store, GRANT, replay(pair(1))),
        lambda verdict: verdict is not None,
        within_s=30,
        what="a new primary",
    )

    former.resume()
    records = [await each.read(GRANT) for each in (reader, store) for _ in range(20)]
    await reader.close()

    assert {record and record.pair.generation for record in records} == {1}


async def test_without_sentinels_the_known_primary_is_still_good(
    fleet: SentinelFleet, store: RedisTokenStore
) -> None:
    """Those who know the primary may go without taking it along; a newcomer finds nobody."""
    await store.apply(GRANT, live(pair(), None))
    fleet.stop_sentinels()

    verdicts = [await store.apply(GRANT, replay(pair(number))) for number in (1, 2, 3)]
    newcomer = store_at(fleet.url)
    with pytest.raises(StoreUnavailable, match=r"^ConnectionError$"):
        await newcomer.read(GRANT)
    await newcomer.close()

    assert all(isinstance(verdict, Committed) for verdict in verdicts)


async def test_a_service_that_no_sentinel_knows_is_no_store(sentinel_url: str) -> None:
    """A wrong name in the address is an error of each call, not another service."""
    store = store_at(sentinel_url.replace(f"/{SERVICE}/", "/nothing/"))

    with pytest.raises(StoreUnavailable, match=r"^ConnectionError$"):
        await store.probe()
    await store.close()


async def test_a_primary_that_is_promoted_again_is_another_incarnation(
    two_servers: tuple[RedisServer, RedisServer],
) -> None:
    """It has forgotten what the other one wrote in between, though its process is the same."""
    first, second = two_servers
    store = store_at(first.url)
    await store.apply(GRANT, live(pair(), None))
    command(second, "REPLICAOF", "127.0.0.1", first.port)
    wait_for(lambda: are_in_step(first, replicas=1), what="the second to follow")
    before = await store.probe()

    command(second, "REPLICAOF", "NO", "ONE")
    command(first, "REPLICAOF", "127.0.0.1", second.port)
    wait_for(lambda: are_in_step(second, replicas=1), what="the first to follow")
    command(first, "REPLICAOF", "NO", "ONE")
    after = await store.probe()
    verdict = await store.apply(GRANT, acquire(pair().position))
    await store.close()

    assert after.run_ids.isdisjoint(before.run_ids)
    assert verdict == NewIncarnation(run_id=min(after.run_ids))

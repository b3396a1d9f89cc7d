"""How a store follows its primary, and what counts as another incarnation of it."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest

from sidecar.adapters.redis_store import RedisTokenStore
from sidecar.domain.commands import Committed, NewIncarnation
from sidecar.domain.notices import Distress, Notice
from sidecar.domain.record import GrantId
from sidecar.ports import StoreUnavailable
from tests.support.records import acquire, live, pair, replay
from tests.support.redis_fleet import (
    SERVICE,
    SentinelFleet,
    are_in_step,
    command,
    running,
    wait_for,
)
from tests.support.redis_server import RedisServer
from tests.support.scripted_sentinel import ScriptedSentinel
from tests.support.stores import have_patience, store_at, tried
from tests.support.wait import eventually

GRANT = GrantId("0a" * 16)


@pytest.fixture
def fleet() -> Iterator[SentinelFleet]:
    with running(SentinelFleet) as fleet:
        yield fleet


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


def address_of(sentinels: Sequence[ScriptedSentinel]) -> str:
    hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in sentinels)
    return f"redis+sentinel://{hosts}/{SERVICE}"


def stored_at(server: RedisServer) -> bool:
    return bool(command(server, "EXISTS", f"sidecar:c:{{{GRANT}}}"))


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


async def test_a_primary_that_is_replaced_is_left_though_it_answers(
    two_servers: tuple[RedisServer, RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that slept through its replacement does not know it, and shows what is undone."""
    have_patience(monkeypatch)
    former, primary = two_servers
    async with AsyncExitStack() as stack:
        sentinels = [await stack.enter_async_context(ScriptedSentinel()) for _ in range(3)]
        store = store_at(address_of(sentinels))
        stack.push_async_callback(store.close)
        for sentinel in sentinels:
            sentinel.named = former.port
        await store.apply(GRANT, live(pair(), None))

        for sentinel in sentinels:
            sentinel.named = primary.port
        record = await eventually(
            lambda: store.read(GRANT),
            lambda record: record is None,
            within_s=10,
            what="the store to leave the former primary",
        )

    assert record is None
    assert stored_at(former)


async def test_more_than_half_of_the_sentinels_are_believed(
    two_servers: tuple[RedisServer, RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that lags outvotes nobody, nor does one that is silent or knows of no primary."""
    have_patience(monkeypatch)
    former, primary = two_servers
    async with AsyncExitStack() as stack:
        sentinels = [await stack.enter_async_context(ScriptedSentinel()) for _ in range(5)]
        for sentinel, named in zip(
            sentinels, (former.port, primary.port, primary.port, primary.port, None), strict=True
        ):
            sentinel.named = named
        sentinels[4].is_silent = True
        store = store_at(address_of(sentinels))
        stack.push_async_callback(store.close)

        await store.apply(GRANT, live(pair(), None))

    assert stored_at(primary)
    assert not stored_at(former)


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

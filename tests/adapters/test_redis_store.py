"""What `RedisTokenStore` adds to the contract: connections, errors, and what it never shows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from typing import Any, cast

import pytest
from redis import Redis

from sidecar.adapters.redis_scripts import OF_COMMANDS, WITHOUT_RECORD, load_scripts
from sidecar.adapters.redis_store import RedisTokenStore
from sidecar.adapters.system import SystemClock
from sidecar.domain.commands import Busy, Committed, Leased
from sidecar.domain.events import Event, Outcome, StoreOperation, StoreOperationEnded
from sidecar.domain.notices import Distress, Notice
from sidecar.domain.record import GrantId, GrantState, RunId
from sidecar.domain.scheduling import shard_of
from sidecar.domain.throttle import (
    BrakeCause,
    Look,
    PullBrake,
    ReleaseBrake,
    ReserveSettlement,
)
from sidecar.ports import StoreUnavailable
from tests.support.records import MINE, THEIRS, acquire, live, pair, replay
from tests.support.redis_server import RedisServer
from tests.support.wait import eventually, until

GRANT = GrantId("0a" * 16)
OpenStore = Callable[[str], RedisTokenStore]


class Heard:
    """Keeps the events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def observe(self, event: Event) -> None:
        self.events.append(event)

    def ended(self) -> list[tuple[StoreOperation, Outcome]]:
        ends = [event for event in self.events if isinstance(event, StoreOperationEnded)]
        assert all(0 <= end.duration_s < 60 for end in ends)
        return [(end.operation, end.outcome) for end in ends]


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
async def open_store(redis_prefix: str, heard: Heard) -> AsyncIterator[OpenStore]:
    async with AsyncExitStack() as opened:

        def open_at(url: str) -> RedisTokenStore:
            store = RedisTokenStore(
                url=url, prefix=redis_prefix, observer=heard, clock=SystemClock()
            )
            opened.push_async_callback(store.close)
            return store

        yield open_at


@pytest.fixture
def store(open_store: OpenStore, redis_url: str) -> RedisTokenStore:
    return open_store(redis_url)


def direct(url: str) -> Any:
    return cast("Any", Redis).from_url(url, protocol=2)  # whose types are partly unknown


async def incarnation_of(store: RedisTokenStore) -> RunId:
    (run_id,) = (await store.probe()).run_ids
    return run_id


async def is_refused(store: RedisTokenStore) -> str:
    with pytest.raises(StoreUnavailable) as caught:
        await store.read(GRANT)
    return str(caught.value)


async def test_every_call_tells_how_it_ended(store: RedisTokenStore, heard: Heard) -> None:
    """One event a call, named after what was asked."""
    await store.apply(GRANT, live(pair(), None))
    await store.read(GRANT)
    await store.scan("", 10)
    pulse = await store.probe()
    await store.meet(min(pulse.run_ids))
    await store.take_canary("credentials", 10)
    await store.tell(GRANT, GrantState.ACTIVE, "")
    await store.feed("", 1)
    await store.call_fleet(GRANT)
    await store.take("ticket:1")

    assert heard.ended() == [
        (StoreOperation.COMMIT, Outcome.OK),
        (StoreOperation.READ, Outcome.OK),
        (StoreOperation.SCAN, Outcome.OK),
        (StoreOperation.PROBE, Outcome.OK),
        (StoreOperation.MEET, Outcome.OK),
        (StoreOperation.CANARY, Outcome.OK),
        (StoreOperation.EVENTS, Outcome.OK),
        (StoreOperation.EVENTS, Outcome.OK),
        (StoreOperation.EVENTS, Outcome.OK),
        (StoreOperation.DEPOSITS, Outcome.OK),
    ]


async def test_a_server_that_forgot_the_scripts_is_told_them_again(
    open_store: OpenStore, redis_server: RedisServer
) -> None:
    """After a restart or a failover no script is known, and no call fails for that."""
    store = open_store(redis_server.url)
    with direct(redis_server.url) as client:
        for step in range(2):
            client.script_flush()
            met = await store.meet(await incarnation_of(store))
            client.script_flush()

            verdict = await store.apply(GRANT, live(pair(step), None))
            client.script_flush()
            leased = await store.apply(GRANT, acquire(pair(step).position, met=met))

            assert isinstance(verdict, Committed)
            assert isinstance(leased, Leased)


async def test_a_dead_server_is_unavailable_and_a_new_one_is_found(
    open_store: OpenStore, redis_server: RedisServer, heard: Heard
) -> None:
    """A kill is an error at once, and nothing has to be told that the server is back."""
    store = open_store(redis_server.url)
    await store.apply(GRANT, live(pair(), None))
    before = await store.probe()
    redis_server.kill()

    error = await is_refused(store)
    redis_server.start()
    record = await store.read(GRANT)
    after = await store.probe()

    assert error == "ConnectionError"
    assert (StoreOperation.READ, Outcome.FAILED) in heard.ended()
    assert record is not None
    assert record.pair == pair()
    assert after.run_ids != before.run_ids


async def test_a_silent_server_is_given_up_after_half_a_second(
    open_store: OpenStore, redis_server: RedisServer
) -> None:
    """A black hole costs one short wait, never a retry that outlives a lease."""
    store = open_store(redis_server.url)
    await store.probe()
    loop = asyncio.get_running_loop()
    redis_server.pause()

    began_s = loop.time()
    error = await is_refused(store)
    took_s = loop.time() - began_s
    redis_server.resume()

    assert error == "TimeoutError"
    assert 0.4 < took_s < 4  # with the library's own retries: more than five
    assert (await store.probe()).now_ms > 0


async def test_a_replica_is_refused_and_its_connections_are_dropped(
    open_store: OpenStore, redis_server: RedisServer
) -> None:
    """A former primary answers READONLY; the next call connects anew and may find the new one."""
    store = open_store(redis_server.url)
    await store.apply(GRANT, live(pair(), None))
    with direct(redis_server.unix_url) as client:
        client.replicaof("127.0.0.1", 1)
        connected = client.info("stats")["total_connections_received"]
        with pytest.raises(StoreUnavailable, match=r"^ReadOnlyError$"):
            await store.apply(GRANT, live(pair(1), None))
        client.replicaof("NO", "ONE")

        verdict = await store.apply(GRANT, replay(pair(1)))

        assert verdict == Committed(was=GrantState.ACTIVE, is_gap=False)
        assert client.info("stats")["total_connections_received"] > connected


async def test_a_full_server_still_takes_a_pair(
    open_store: OpenStore, redis_server: RedisServer
) -> None:
    """Memory at its limit stops leases, not the commit of the only live token."""
    store = open_store(redis_server.url)
    await store.apply(GRANT, live(pair(), None))
    with direct(redis_server.unix_url) as client:
        client.config_set("maxmemory", "1")

    with pytest.raises(StoreUnavailable, match=r"^OutOfMemoryError$"):
        await store.apply(GRANT, acquire(pair().position))
    verdict = await store.apply(GRANT, live(pair(1), None))

    assert isinstance(verdict, Committed)


async def test_a_record_of_a_newer_sidecar_is_left_alone(
    store: RedisTokenStore, redis_url: str, redis_prefix: str
) -> None:
    """An old version neither reads nor changes what it may misread, and says why."""
    await store.apply(GRANT, live(pair(), None))
    key = f"{redis_prefix}:c:{{{GRANT}}}"
    with direct(redis_url) as client:
        client.hset(key, "v", 2)
        stands = client.hgetall(key)

        assert "schema version 2" in await is_refused(store)
        with pytest.raises(StoreUnavailable, match="a newer sidecar wrote this record"):
            await store.apply(GRANT, live(pair(1), None))

        assert client.hgetall(key) == stands


async def test_a_key_of_somebody_else_is_an_error_and_not_a_grant(
    store: RedisTokenStore, redis_url: str, redis_prefix: str
) -> None:
    """A foreign value at the place of a record stops this grant alone."""
    with direct(redis_url) as client:
        client.set(f"{redis_prefix}:c:{{{GRANT}}}", "not a hash")

    assert await is_refused(store) == "ResponseError"
    assert await store.read(GrantId("0b" * 16)) is None


@pytest.mark.parametrize(
    "url",
    [
        "redis://someone:CANARY@127.0.0.1:1/0",
        "unix:///nowhere/redis.sock?password=CANARY",
        "rediss://someone:CANARY@127.0.0.1:1/0",
    ],
)
async def test_an_error_shows_neither_the_address_nor_the_password(
    open_store: OpenStore, url: str
) -> None:
    """What cannot be reached is named by the kind of its error alone, and has no visible cause."""
    store = open_store(url)

    with pytest.raises(StoreUnavailable) as caught:
        await store.apply(GRANT, live(pair(), None))

    assert str(caught.value) == "ConnectionError"
    assert caught.value.__suppress_context__
    assert "CANARY" not in repr(store) + repr(caught.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis+sentinel://CANARY:26379", "host:port,host:port/service/number"),
        ("redis+cluster://CANARY:7000/1", "without a database"),
        ("http://CANARY/", "redis://, rediss://"),
        ("CANARY", "redis://, rediss://"),
    ],
)
async def test_an_unknown_form_of_address_is_refused_at_once(
    open_store: OpenStore, url: str, message: str
) -> None:
    """Whoever starts the sidecar learns which forms there are, and the address is not shown."""
    with pytest.raises(ValueError, match=message) as caught:
        open_store(url)

    assert "CANARY" not in str(caught.value)


async def test_two_stores_of_one_fleet_see_one_record(
    open_store: OpenStore, redis_url: str
) -> None:
    """Each event loop has its own instance; the record is the fleet's."""
    ours, theirs = open_store(redis_url), open_store(redis_url)
    met = await theirs.meet(await incarnation_of(theirs))

    await ours.apply(GRANT, live(pair(), None))
    verdict = await theirs.apply(GRANT, acquire(pair().position, THEIRS, met))
    refused = await ours.apply(GRANT, acquire(pair().position, MINE, met))

    assert isinstance(verdict, Leased)
    assert verdict.record.pair == pair()
    assert refused == Busy(until_ms=verdict.record.lease_until_ms)


async def test_a_listener_outlives_its_connection(
    open_store: OpenStore, redis_server: RedisServer
) -> None:
    """After a restart of the server hints come again without anybody asking."""
    store = open_store(redis_server.url)
    hints: list[Notice | Distress] = []

    async def hear() -> None:
        async for hint in store.listen():
            hints.append(hint)  # noqa: PERF401 - others look at what was heard so far

    async def call() -> None:
        with suppress(StoreUnavailable):  # while the server is away
            await store.call_fleet(GRANT)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(hear())
        await eventually(call, lambda _: bool(hints), within_s=30, what="a first hint")
        redis_server.kill()
        redis_server.start()
        hints.clear()
        await eventually(call, lambda _: bool(hints), within_s=30, what="a hint after a restart")
        await store.close()

    assert set(hints) == {Distress(grant=GRANT)}


async def test_what_is_no_hint_is_not_heard(
    store: RedisTokenStore, redis_url: str, redis_prefix: str
) -> None:
    """Nonsense on a channel neither raises nor ends the listener."""
    hints: list[Notice | Distress] = []

    async def hear() -> None:
        async for hint in store.listen():
            hints.append(hint)  # noqa: PERF401 - others look at what was heard so far

    nonsense = [b"", b"\xff", b"[]", b"1", b'{"grant":"a"}', b'{"grant":1,"state":"x"}']
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(hear())
        with direct(redis_url) as client:
            await until(
                lambda: client.publish(f"{redis_prefix}:notices", b"null") > 0,
                within_s=30,
                what="the listener to subscribe",
            )
            for data in nonsense:
                client.publish(f"{redis_prefix}:notices", data)
            client.publish(f"{redis_prefix}:distress", b"\xff")
        await store.call_fleet(GRANT)
        await until(lambda: bool(hints), within_s=30, what="the real hint")
        await store.close()

    assert hints == [Distress(grant=GRANT)]


async def test_an_inspection_names_what_can_lose_records(
    open_store: OpenStore, redis_server: RedisServer
) -> None:
    """A careful server is fine; eviction and forgetting are named, with what to set."""
    store = open_store(redis_server.url)
    fine = await store.inspect()
    with direct(redis_server.unix_url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("appendonly", "no")
        risky = await store.inspect()
        client.replicaof("127.0.0.1", 1)
        fatal = await store.inspect()

    assert fine == ()
    assert [advice.subject for advice in risky] == ["maxmemory-policy", "appendonly"]
    assert not any(advice.is_fatal for advice in risky)
    assert [advice.subject for advice in fatal if advice.is_fatal] == ["role"]


def test_every_script_begins_with_its_flags_and_has_a_header() -> None:
    """A script without them would run on a stale replica.

    Only a commit and a probe run in full memory: such a store is not away, and still takes pairs.
    """
    scripts = load_scripts()

    assert set(scripts) == {*OF_COMMANDS, *WITHOUT_RECORD}
    for operation, script in scripts.items():
        first = script.text.partition("\n")[0]
        runs_if_full = operation in {StoreOperation.COMMIT, StoreOperation.PROBE}
        assert first == ("#!lua flags=allow-oom" if runs_if_full else "#!lua")
        assert "-- Returns " in script.text


@pytest.mark.parametrize("score", ["-inf", "+inf", "1e300", "-1e300"])
async def test_a_score_beyond_all_counting_is_an_instant_like_any_other(
    store: RedisTokenStore, redis_url: str, redis_prefix: str, score: str
) -> None:
    """It breaks neither the schedule nor the uses of a shard."""
    shard = shard_of(GRANT)
    with direct(redis_url) as redis:
        redis.zadd(f"{redis_prefix}:due:{shard:02}", {GRANT: float(score)})
        redis.zadd(f"{redis_prefix}:used:{shard:02}", {GRANT: float(score)})

    due = await store.take_due(shard, 10, retake_ms=1_000)
    used = await store.last_uses(shard, [GRANT])

    assert [each.grant for each in due] == ([GRANT] if score.startswith("-") else [])
    assert abs(used[GRANT]) == 2**53 - 1


async def test_a_cursor_that_no_server_counts_to_starts_the_scan(store: RedisTokenStore) -> None:
    """A client's cursor can be forged; it costs a scan from the start, and is no outage."""
    await store.apply(GRANT, live(pair()))
    following, _ = await store.scan("", 1)
    shape = following.split(".")[0] if following else "0" * 12

    _, page = await store.scan(f"{shape}.0..99999999999999999999", 1_000)

    assert [grant for grant, _ in page] == [GRANT]


async def test_what_a_trial_leaves_is_read_by_earlier_versions(
    store: RedisTokenStore, redis_url: str, redis_prefix: str
) -> None:
    """A brake that a trial pulled has a cause that they know, and a release frees them no hour."""
    await store.throttle(PullBrake())
    await store.throttle(ReleaseBrake(limit=1))
    with direct(redis_url) as redis:
        released = redis.hgetall(f"{redis_prefix}:throttle")
    await store.throttle(ReserveSettlement(grant=GRANT))
    with direct(redis_url) as redis:
        pulled = redis.hgetall(f"{redis_prefix}:throttle")

    assert not {b"ba", b"bc", b"bf"} & set(released)
    assert pulled[b"bc"] == b"denials"
    assert (await store.throttle(Look()))[0].brake_cause is BrakeCause.TRIAL


@pytest.mark.parametrize(
    ("written", "read"),
    [(0, 0), (2**53 - 1, 2**53 - 1), (2**53, 0), (10**30, 0), (-1, 0)],
)
async def test_a_life_beyond_all_counting_costs_no_pair(
    store: RedisTokenStore, written: int, read: int
) -> None:
    """A spool of another version holds it: the pair is stored, and its bearer is not trusted."""
    odd = replace(pair(), expires_at_ms=written, issued_at_s=written)

    await store.apply(GRANT, replay(odd))

    record = await store.read(GRANT)
    assert record is not None
    assert record.pair == replace(odd, expires_at_ms=read, issued_at_s=read)

"""How a store finds its way through a Cluster whose slots and primaries change."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from functools import partial

import pytest
from redis.crc import key_slot

from sidecar.adapters.redis_store import RedisTokenStore
from sidecar.domain.commands import Committed, Duplicate, Leased, Quarantined
from sidecar.domain.record import GrantId
from sidecar.ports import StoreUnavailable
from tests.support.records import acquire, live, pair, replay
from tests.support.redis_fleet import ClusterFleet, running
from tests.support.redis_server import RedisServer
from tests.support.stores import have_patience, scanned, store_at, tried
from tests.support.wait import eventually

GRANT = GrantId("0a" * 16)
GRANTS = [GrantId(f"{number:032x}") for number in range(60)]


@pytest.fixture
def fleet() -> Iterator[ClusterFleet]:
    with running(ClusterFleet) as fleet:
        yield fleet


@pytest.fixture
async def store(
    fleet: ClusterFleet, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RedisTokenStore]:
    have_patience(monkeypatch)
    opened = store_at(fleet.url)
    yield opened
    await opened.close()


def slot_of(grant: GrantId) -> int:
    return key_slot(f"sidecar:c:{{{grant}}}".encode())


def another(fleet: ClusterFleet, server: RedisServer) -> RedisServer:
    return next(each for each in fleet.primaries() if each is not server)


async def test_a_record_is_found_while_and_after_its_slot_moves(
    fleet: ClusterFleet, store: RedisTokenStore
) -> None:
    """Neither a slot on its way (ASK) nor one that has arrived (MOVED) costs a call."""
    await store.apply(GRANT, live(pair(), None))
    slot = slot_of(GRANT)
    target = another(fleet, fleet.owner_of(slot))
    fleet.begin_move(slot, target)

    on_its_way = await store.apply(GRANT, replay(pair(1)))
    fleet.end_move(slot, target)
    arrived = await store.apply(GRANT, replay(pair(2)))
    record = await store.read(GRANT)

    assert isinstance(on_its_way, Committed)
    assert isinstance(arrived, Committed)
    assert record is not None
    assert record.pair == pair(2)


async def test_a_server_that_is_away_is_missing_from_many_records_alone(
    fleet: ClusterFleet, store: RedisTokenStore
) -> None:
    """What the other servers hold is read; what has moved is read where it is now."""
    for grant in GRANTS:
        await store.apply(grant, live(pair(), None))
    target = another(fleet, fleet.owner_of(slot_of(GRANTS[0])))
    fleet.begin_move(slot_of(GRANTS[0]), target)
    moved = await store.read_each(GRANTS)
    lost = next(server for server in fleet.primaries() if server is not target)
    share = {grant for grant in GRANTS if fleet.owner_of(slot_of(grant)) is lost} - {GRANTS[0]}

    lost.kill()
    found = await store.read_each(GRANTS[1:])

    assert {grant for grant, record in moved.items() if record is not None} == set(GRANTS)
    assert share
    assert set(found) == set(GRANTS[1:]) - share


async def test_a_record_in_another_server_is_in_an_incarnation_that_was_met(
    fleet: ClusterFleet, store: RedisTokenStore
) -> None:
    """A slot that moves to a server which the fleet knows long since stops no claim."""
    await store.apply(GRANT, live(pair(), None))
    source = fleet.owner_of(slot_of(GRANT))
    for run_id in (await store.probe()).run_ids:
        await store.meet(run_id)
    target = another(fleet, source)
    fleet.begin_move(slot_of(GRANT), target)
    fleet.end_move(slot_of(GRANT), target)
    other = next(grant for grant in GRANTS if fleet.owner_of(slot_of(grant)) is target)
    await store.apply(other, live(pair(), None))
    neighbour = await store.read(other)
    assert neighbour is not None
    assert neighbour.run_id is not None

    met = await store.meet(neighbour.run_id)

    verdict = await eventually(
        lambda: store.apply(GRANT, replace(acquire(pair().position, met=met), quarantine_ms=1)),
        lambda verdict: not isinstance(verdict, Quarantined),
        within_s=5,
        what="the quarantine to end",
    )

    assert isinstance(verdict, Leased)


async def test_a_scan_misses_no_grant_that_moves_meanwhile(
    fleet: ClusterFleet, store: RedisTokenStore
) -> None:
    """A slot that goes to a server which was read already makes the scan begin anew."""
    for grant in GRANTS:
        await store.apply(grant, live(pair(), None))
    cursor, first = await store.scan("", 1000)
    begun = fleet.owner_of(slot_of(first[0][0]))
    moving = next(grant for grant in GRANTS if fleet.owner_of(slot_of(grant)) is not begun)
    fleet.begin_move(slot_of(moving), begun)
    fleet.end_move(slot_of(moving), begun)

    found = {grant for grant, _ in first}
    while cursor:
        cursor, page = await store.scan(cursor, 1000)
        found.update(grant for grant, _ in page)

    assert found == set(GRANTS)


async def test_a_dead_primary_costs_its_share_a_failover_and_its_incarnation(
    fleet: ClusterFleet, store: RedisTokenStore
) -> None:
    """Its replica takes over without anybody being told, and is met as new; the others are not."""
    for grant in GRANTS:
        await store.apply(grant, live(pair(), None))
    before = await store.probe()
    fleet.owner_of(slot_of(GRANTS[0])).kill()

    with pytest.raises(StoreUnavailable):
        await store.apply(GRANTS[0], replay(pair(1)))
    for grant in GRANTS:
        await eventually(
            partial(tried, store, grant, replay(pair(1))),
            lambda verdict: isinstance(verdict, Committed | Duplicate),
            within_s=30,
            what="every grant to be stored again",
        )
    after = await eventually(
        store.probe, lambda pulse: len(pulse.run_ids) == 3, within_s=30, what="all to answer"
    )

    assert len(before.run_ids) == 3
    assert len(after.run_ids - before.run_ids) == 1
    assert {grant for grant, _ in await scanned(store)} == set(GRANTS)


async def test_a_server_that_is_silent_hides_no_other(
    fleet: ClusterFleet, store: RedisTokenStore
) -> None:
    """A probe tells of the servers that answer, so that two thirds of the users are served."""
    everybody = await store.probe()
    silent = fleet.primaries()[0]
    silent.pause()

    some = await store.probe()
    silent.resume()
    again = await eventually(
        store.probe, lambda pulse: len(pulse.run_ids) == 3, within_s=30, what="all to answer"
    )

    assert len(some.run_ids & everybody.run_ids) == 2
    assert len(again.run_ids) == 3


async def test_a_server_of_a_cluster_is_not_taken_for_a_store(fleet: ClusterFleet) -> None:
    """Whoever gives one server's plain address is told how a Cluster is named."""
    alone = store_at(fleet.servers[0].url)

    advice = await alone.inspect()
    await alone.close()

    fatal = [each for each in advice if each.is_fatal]
    assert [each.subject for each in fatal] == ["cluster_enabled"]
    assert "redis+cluster://" in fatal[0].advice

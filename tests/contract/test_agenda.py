"""What every store promises of the schedule, asked of each of them."""

from __future__ import annotations

import asyncio

from sidecar.domain.record import GrantId
from sidecar.domain.scheduling import DueGrant, shard_of
from sidecar.ports import TokenStore
from tests.support.wait import eventually

FIRST = GrantId("0a" * 16)
SECOND = GrantId("1a" * 16)
THIRD = GrantId("2a" * 16)
SHARD = shard_of(FIRST)
ELSEWHERE = SHARD + 1
LONG_MS = 60_000


async def test_what_is_due_is_taken_oldest_first(store: TokenStore) -> None:
    """Whoever takes gets the grants that wait longest, with their instants, and no later one."""
    now_ms = (await store.probe()).now_ms
    await store.schedule(SHARD, {FIRST: now_ms - 10, SECOND: now_ms - 20, THIRD: now_ms + LONG_MS})

    one = await store.take_due(SHARD, 1, retake_ms=LONG_MS)
    rest = await store.take_due(SHARD, 10, retake_ms=LONG_MS)

    assert list(one) == [DueGrant(grant=SECOND, at_ms=now_ms - 20)]
    assert list(rest) == [DueGrant(grant=FIRST, at_ms=now_ms - 10)]


async def test_one_of_many_takers_gets_a_grant(store: TokenStore) -> None:
    """However many sidecars look at once, each due grant is taken by one of them."""
    now_ms = (await store.probe()).now_ms
    grants = [GrantId(f"{number:031x}0") for number in range(50)]
    await store.schedule(0, dict.fromkeys(grants, now_ms))

    taken = await asyncio.gather(*(store.take_due(0, 5, retake_ms=LONG_MS) for _ in range(20)))

    found = [due.grant for page in taken for due in page]
    assert sorted(found) == sorted(grants)


async def test_what_a_dead_taker_left_is_due_again(store: TokenStore) -> None:
    """A grant that was taken and not scheduled anew comes back when its time is over."""
    now_ms = (await store.probe()).now_ms
    await store.schedule(SHARD, {FIRST: now_ms})
    await store.take_due(SHARD, 10, retake_ms=60)

    again = await eventually(
        lambda: store.take_due(SHARD, 10, retake_ms=LONG_MS),
        bool,
        within_s=30,
        what="the grant to be due again",
    )

    assert [due.grant for due in again] == [FIRST]
    assert again[0].at_ms >= now_ms + 60


async def test_a_later_instant_replaces_an_earlier_one_unless_only_sooner(
    store: TokenStore,
) -> None:
    """A sweep brings grants forward and adds missing ones; a plan sets what it says."""
    now_ms = (await store.probe()).now_ms
    added = await store.schedule(SHARD, {FIRST: now_ms - 10, SECOND: now_ms - 10})

    kept = await store.schedule(SHARD, {FIRST: now_ms + LONG_MS}, only_sooner=True)
    same = await store.schedule(SHARD, {FIRST: now_ms - 10})
    swept = await store.schedule(SHARD, {FIRST: now_ms - 30, THIRD: now_ms - 5}, only_sooner=True)
    put_off = await store.schedule(SHARD, {SECOND: now_ms + LONG_MS})

    taken = await store.take_due(SHARD, 10, retake_ms=LONG_MS)
    assert (added, kept, same, swept, put_off) == (2, 0, 0, 2, 1)
    assert [(due.grant, due.at_ms) for due in taken] == [
        (FIRST, now_ms - 30),
        (THIRD, now_ms - 5),
    ]


async def test_a_struck_grant_is_not_due(store: TokenStore) -> None:
    """What was struck from the schedule is taken by nobody; striking it twice is harmless."""
    now_ms = (await store.probe()).now_ms
    await store.schedule(SHARD, {FIRST: now_ms, SECOND: now_ms})

    await store.unschedule(SHARD, [FIRST, THIRD])
    await store.unschedule(SHARD, [FIRST])

    taken = await store.take_due(SHARD, 10, retake_ms=LONG_MS)
    assert [due.grant for due in taken] == [SECOND]


async def test_shards_do_not_meet(store: TokenStore) -> None:
    """Taking and striking in one shard changes nothing of another."""
    other = GrantId("0a" * 15 + f"0{ELSEWHERE:x}")
    now_ms = (await store.probe()).now_ms
    await store.schedule(SHARD, {FIRST: now_ms})
    await store.schedule(ELSEWHERE, {other: now_ms})
    await store.note_uses(SHARD, {FIRST: now_ms})

    here = await store.take_due(SHARD, 10, retake_ms=LONG_MS)
    await store.unschedule(SHARD, [other])
    there = await store.take_due(ELSEWHERE, 10, retake_ms=LONG_MS)

    assert [due.grant for due in here] == [FIRST]
    assert [due.grant for due in there] == [other]
    assert await store.last_uses(ELSEWHERE, [FIRST]) == {}


async def test_the_latest_use_is_kept(store: TokenStore) -> None:
    """Sidecars tell uses in any order; the latest one counts, and nobody is made up."""
    await store.note_uses(SHARD, {FIRST: 2_000, SECOND: 1_000})
    await store.note_uses(SHARD, {FIRST: 1_500, SECOND: 3_000})

    uses = await store.last_uses(SHARD, [FIRST, SECOND, THIRD])

    assert uses == {FIRST: 2_000, SECOND: 3_000}


async def test_old_uses_are_forgotten(store: TokenStore) -> None:
    """A use before the instant leaves the store; one at it stays."""
    await store.note_uses(SHARD, {FIRST: 1_999, SECOND: 2_000})

    await store.forget_uses(SHARD, before_ms=2_000)

    assert await store.last_uses(SHARD, [FIRST, SECOND]) == {SECOND: 2_000}

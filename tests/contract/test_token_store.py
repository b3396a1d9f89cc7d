"""What every token store promises, asked of each of them."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from sidecar.domain.commands import (
    Acquire,
    BeginRevocation,
    Busy,
    Committed,
    Dead,
    Done,
    Duplicate,
    FinishRevocation,
    Fresh,
    HealingOver,
    Incarnation,
    InDoubt,
    Leased,
    Missing,
    NewIncarnation,
    Purge,
    Purged,
    RevocationBegun,
    Settle,
    Stale,
)
from sidecar.domain.notices import Distress, Notice
from sidecar.domain.record import ClaimId, GrantId, GrantRecord, GrantState, RunId
from sidecar.ports import TokenStore
from tests.support.records import (
    NEWER_CONSENT,
    THEIRS,
    acquire,
    deny,
    live,
    mark,
    pair,
    replay,
)
from tests.support.wait import eventually, until

GRANT = GrantId("0a" * 16)
OTHER = GrantId("0b" * 16)


async def met(store: TokenStore) -> Incarnation:
    """Announce the incarnation of the server that holds the grant."""
    record, pulse = await store.read(GRANT), await store.probe()
    run_id = None if record is None else record.run_id
    return await store.meet(run_id or min(pulse.run_ids))


async def lease(store: TokenStore, ask: Acquire) -> GrantRecord:
    verdict = await store.apply(GRANT, replace(ask, incarnation=await met(store)))
    assert isinstance(verdict, Leased)
    return verdict.record


async def scanned(store: TokenStore) -> list[tuple[GrantId, GrantRecord]]:
    """Return what all pages of a scan hold."""
    found: list[tuple[GrantId, GrantRecord]] = []
    cursor, is_first = "", True
    while cursor or is_first:
        cursor, page = await store.scan(cursor, 10)
        found.extend(page)
        is_first = False
    return found


async def test_many_records_are_read_at_once(store: TokenStore) -> None:
    """Each as if it had been read alone, and what is not there is told as missing."""
    await store.apply(GRANT, live(pair(), None))

    found = await store.read_each([GRANT, OTHER])

    assert found == {GRANT: await store.read(GRANT), OTHER: None}
    assert await store.read_each([]) == {}


async def test_a_grant_that_was_never_committed_is_missing(store: TokenStore) -> None:
    """Nothing is invented: no record, no lease, no page of a scan."""
    verdict = await store.apply(GRANT, acquire(pair().position))

    assert await store.read(GRANT) is None
    assert verdict == Missing()
    assert await scanned(store) == []


async def test_a_committed_pair_is_read_back_to_the_last_byte(store: TokenStore) -> None:
    """What was committed is what is read, envelopes of any bytes included."""
    sealed = replace(pair(), sealed_pair=bytes(range(256)), sealed_key=b"\r\n$-1\r\n")

    verdict = await store.apply(GRANT, live(sealed, None))

    record = await store.read(GRANT)
    pulse = await store.probe()
    assert verdict == Committed(was=None, is_gap=False)
    assert record is not None
    assert record.pair == sealed
    assert record.state is GrantState.ACTIVE
    assert record.committed_run_id in pulse.run_ids
    assert 0 < record.committed_at_ms <= pulse.now_ms


async def test_a_whole_refresh_ends_in_the_next_generation(store: TokenStore) -> None:
    """Acquire, mark and commit lead from one generation to the next, and leave no claim behind."""
    await store.apply(GRANT, live(pair(), None))
    leased = await lease(store, acquire(pair().position))

    marked = await store.apply(GRANT, mark(leased.position))
    committed = await store.apply(GRANT, live(pair(1)))
    again = await store.apply(GRANT, live(pair(1)))
    stale = await store.apply(GRANT, replay(pair()))

    record = await store.read(GRANT)
    assert marked == Done()
    assert committed == Committed(was=GrantState.SENDING, is_gap=False)
    assert again == Duplicate()
    assert stale == Stale()
    assert record is not None
    assert (record.pair, record.claim_id, record.hold_until_ms) == (pair(1), None, 0)


async def test_only_one_of_many_gets_the_lease(store: TokenStore) -> None:
    """However many ask at once, one holds the lease and the rest are told until when."""
    await store.apply(GRANT, live(pair(), None))
    incarnation = await met(store)
    asks = [
        replace(
            acquire(pair().position), claim_id=ClaimId(f"{number:032x}"), incarnation=incarnation
        )
        for number in range(20)
    ]

    verdicts = await asyncio.gather(*(store.apply(GRANT, ask) for ask in asks))

    assert sum(isinstance(verdict, Leased) for verdict in verdicts) == 1
    assert sum(isinstance(verdict, Busy) for verdict in verdicts) == 19


async def test_a_lease_ends_by_the_clock_of_the_store(store: TokenStore) -> None:
    """Whoever waited for the end of an unused lease gets it."""
    await store.apply(GRANT, live(pair(), None))
    await lease(store, replace(acquire(pair().position), lease_ms=60))
    theirs = replace(acquire(pair().position, THEIRS), incarnation=await met(store))

    first = await store.apply(GRANT, theirs)
    taken = await eventually(
        lambda: store.apply(GRANT, theirs),
        lambda verdict: isinstance(verdict, Leased),
        within_s=30,
        what="the lease to end",
    )

    assert isinstance(first, Busy)
    assert isinstance(taken, Leased)
    assert not taken.record.is_probe


async def test_a_caller_that_is_behind_gets_what_stands(store: TokenStore) -> None:
    """A newer generation or consent is handed over instead of a lease."""
    await store.apply(GRANT, live(pair(), None))
    await store.apply(GRANT, live(pair(0, NEWER_CONSENT), None))

    verdict = await store.apply(GRANT, acquire(pair().position))

    assert isinstance(verdict, Fresh)
    assert verdict.record.pair == pair(0, NEWER_CONSENT)


async def test_an_unannounced_incarnation_leases_nothing(store: TokenStore) -> None:
    """After a restart of the store a caller must announce it before it may claim."""
    await store.apply(GRANT, replay(pair()))
    pulse = await store.probe()

    verdict = await store.apply(GRANT, replace(acquire(pair().position), incarnation=None))

    assert isinstance(verdict, NewIncarnation)
    assert verdict.run_id in pulse.run_ids


async def test_an_incarnation_is_met_once(store: TokenStore) -> None:
    """The first to meet an incarnation says when that was, for everybody after it."""
    first = await store.meet(RunId("never seen"))
    before = await store.probe()
    await eventually(
        store.probe,
        lambda moment: moment.now_ms > before.now_ms,
        within_s=30,
        what="the store's clock to go on",
    )

    second = await store.meet(RunId("never seen"))

    assert first == second
    assert 0 < first.met_at_ms <= before.now_ms


async def test_a_denied_token_is_doubted_and_then_may_be_settled(store: TokenStore) -> None:
    """A denial that is not clean waits for the fleet, and is then settled by one caller alone."""
    await store.apply(GRANT, live(pair(), None))
    leased = await lease(store, acquire(pair().position))
    await store.apply(GRANT, mark(leased.position))
    doubtful = replace(deny(leased.position, is_sole=False), heal_ms=60)

    doubted = await store.apply(GRANT, doubtful)
    theirs = replace(acquire(leased.position, THEIRS), incarnation=await met(store))
    over = await eventually(
        lambda: store.apply(GRANT, theirs),
        lambda verdict: isinstance(verdict, HealingOver),
        within_s=30,
        what="the healing time to end",
    )
    settled = [await store.apply(GRANT, Settle(position=pair().position)) for _ in range(2)]

    assert settled == [Done(), Dead(state=GrantState.REAUTH_REQUIRED)]
    assert isinstance(doubted, InDoubt)
    assert isinstance(over, HealingOver)
    assert over.record.last_error is not None
    assert over.record.last_error.at_ms == over.record.changed_at_ms


async def test_a_revoked_grant_leaves_a_tombstone_and_then_nothing(store: TokenStore) -> None:
    """Order, end and erasure of a revocation follow one another."""
    await store.apply(GRANT, live(pair(), None))

    begun = await store.apply(GRANT, BeginRevocation(consent=pair().consent))
    finished = await store.apply(GRANT, FinishRevocation(position=pair().position))
    tombstone = await store.read(GRANT)
    purged = await store.apply(GRANT, Purge(min_age_ms=0))

    assert isinstance(begun, RevocationBegun)
    assert finished == Done()
    assert tombstone is not None
    assert (tombstone.state, tombstone.pair.sealed_pair) == (GrantState.REVOKED, b"")
    assert purged == Purged()
    assert await store.read(GRANT) is None


async def test_a_scan_sees_every_grant(store: TokenStore) -> None:
    """Page by page, each grant comes at least once and no other key ever."""
    grants = {GrantId(f"{number:032x}") for number in range(57)}
    for grant in grants:
        await store.apply(grant, live(pair(), None))
    await store.tell(GRANT, GrantState.ACTIVE, "")
    await store.take_canary("credentials", 60_000)
    await met(store)

    found = await scanned(store)

    assert {grant for grant, _ in found} == grants
    assert all(record.pair == pair() for _, record in found)


async def test_a_canary_is_taken_once_in_its_time(store: TokenStore) -> None:
    """One caller in the fleet may try, and after its time one more; names do not meet."""
    first = await store.take_canary("credentials", 60)
    second = await store.take_canary("credentials", 60)
    other = await store.take_canary("another", 60)
    third = await eventually(
        lambda: store.take_canary("credentials", 60),
        lambda is_taken: is_taken,
        within_s=30,
        what="the canary to be free again",
    )

    assert (first, second, other, third) == (True, False, True, True)


async def test_the_feed_is_read_in_order_from_any_cursor(store: TokenStore) -> None:
    """Each entry comes once after the cursor before it; an unknown cursor starts at the oldest."""
    await store.tell(GRANT, GrantState.IN_DOUBT, "refresh_token_rejected")
    await store.tell(GRANT, GrantState.REAUTH_REQUIRED, "owner_died")
    await store.tell(OTHER, GrantState.REVOKED, "")

    everything = await store.feed("", 10)
    page = await store.feed(everything[0].cursor, 1)
    rest = await store.feed(page[-1].cursor, 10)
    nothing = await store.feed(rest[-1].cursor, 10)
    odd = await store.feed("no cursor", 10)

    assert [(entry.grant, entry.state, entry.reason) for entry in everything] == [
        (GRANT, GrantState.IN_DOUBT, "refresh_token_rejected"),
        (GRANT, GrantState.REAUTH_REQUIRED, "owner_died"),
        (OTHER, GrantState.REVOKED, ""),
    ]
    assert [*everything[:1], *page, *rest] == list(everything)
    assert list(nothing) == []
    assert odd == everything
    assert all(entry.at_ms > 0 for entry in everything)


async def test_a_listener_hears_of_changes_and_of_calls(store: TokenStore) -> None:
    """A peer that listens is told what became of a grant, and when the fleet is called."""
    heard: list[Notice | Distress] = []

    async def hear() -> None:
        async for hint in store.listen():
            heard.append(hint)  # noqa: PERF401 - others look at what was heard so far

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(hear())
        await eventually(
            lambda: store.call_fleet(OTHER),
            lambda _: bool(heard),
            within_s=30,
            what="the listener to hear a first call",
        )
        await store.apply(GRANT, live(pair(), None))
        await until(
            lambda: any(isinstance(hint, Notice) for hint in heard),
            within_s=30,
            what="the notice of the commit",
        )
        await store.close()

    assert heard[0] == Distress(grant=OTHER)
    assert heard[-1] == Notice(
        grant=GRANT, consent_id=pair().consent.id, generation=0, state=GrantState.ACTIVE
    )


async def test_the_fleet_agrees_on_what_was_proposed_first(store: TokenStore) -> None:
    """Whoever comes later learns what stands, however often it proposes something else."""
    unknown = await store.agreement_on("hash")
    first = await store.agree("hash", "ours")
    second = await store.agree("hash", "theirs")
    other = await store.agree("encryption:k1", "theirs")
    looked_up = await store.agreement_on("hash")

    assert (first, second, other) == ("ours", "ours", "theirs")
    assert (unknown, looked_up) == (None, "ours")
    assert await store.agree("hash", "ours") == "ours"

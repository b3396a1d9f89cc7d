"""The grants API below HTTP: who waits for what, and what happens when nobody does."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from sidecar.domain.commands import Commit
from sidecar.domain.events import WorkFailed
from sidecar.domain.failure import Operation
from sidecar.domain.outcomes import ConsentSuperseded, GrantGone, Obstacle, Postponed
from sidecar.domain.record import Consent, ConsentId, GrantState
from sidecar.domain.secret import Secret
from sidecar.domain.spooled import PairForgotten, PairReceived, SpoolEntry
from sidecar.domain.wire import Answered, TokenRequest
from sidecar.ports import SpoolError
from sidecar.service.grant_answers import (
    Revoked,
    Revoking,
    Shown,
    StillRunning,
    Unerased,
)
from sidecar.service.grants import GrantDesk
from sidecar.service.steward import PurgeTooEarly, Steward
from tests.support.scripted_idp import json_answer, pair_answer
from tests.support.sidecar_parts import KEY, REDIRECT_URI, Rig, SidecarParts, make_rig
from tests.support.wait import until

CODE = Secret("code")
DAY_S = 86400


def make_desk(rig: Rig) -> GrantDesk:
    parts = rig.parts
    return GrantDesk(parts=parts.serving_parts, broker=parts.broker, steward=make_steward(rig))


def make_steward(rig: Rig) -> Steward:
    parts = rig.parts
    return Steward(parts=parts.claim_parts, obtainer=parts.obtainer, revoker=parts.revoker)


async def obtained(rig: Rig) -> GrantDesk:
    """Return the desk once the grant of `KEY` stands."""
    desk = make_desk(rig)
    rig.idp.then(pair_answer("refresh-0"))
    assert isinstance(await desk.obtain(KEY, CODE, redirect_uri=REDIRECT_URI), Shown)
    return desk


async def test_an_exchange_is_not_cancelled_by_a_caller_that_leaves() -> None:
    """The code is spent either way, so its pair must reach the store without anybody waiting."""
    released = asyncio.Event()

    async def slowly(request: TokenRequest) -> Answered:
        del request
        await released.wait()
        return pair_answer("refresh-0")

    rig = make_rig()
    rig.idp.then(slowly)
    async with rig.parts.running(), asyncio.TaskGroup() as group:
        desk = make_desk(rig)
        asking = group.create_task(desk.obtain(KEY, CODE, redirect_uri=REDIRECT_URI))
        await until(lambda: bool(rig.idp.sent), within_s=5, what="the exchange to be sent")
        asking.cancel()
        await asyncio.wait([asking])
        released.set()
        await until(lambda: bool(rig.store.records), within_s=5, what="the pair to be stored")
        shown = await desk.show(KEY)

    assert asking.cancelled()
    assert isinstance(shown, Shown)
    assert rig.parts.lane.running == 0


async def test_a_pair_is_on_disk_and_fed_when_the_store_comes_back() -> None:
    """Obtained while the store goes away, a pair waits in the spool, and its caller is told."""
    rig = make_rig()

    def takes_the_store_away(request: TokenRequest) -> Answered:
        del request
        rig.store.is_available = False
        return pair_answer("refresh-0")

    rig.idp.then(takes_the_store_away)
    short = replace(rig.world, policy=replace(rig.world.policy, exchange_wait_s=0.05))
    rig = replace(rig, parts=SidecarParts.build(short, spool=rig.spool))
    async with rig.parts.running():
        desk = make_desk(rig)
        answer = await desk.obtain(KEY, CODE, redirect_uri=REDIRECT_URI)
        parked = set(rig.spool.state.parked)
        rig.store.is_available = True
        await until(lambda: bool(rig.store.records), within_s=5, what="the pair to be stored")
        await rig.parts.lane.drained()
        feed = await rig.store.feed("", 10)

    assert isinstance(answer, StillRunning)
    assert parked == {rig.parts.grant()}
    assert [entry.state for entry in feed] == [GrantState.ACTIVE]


async def test_a_revocation_whose_store_is_away_is_kept_on_disk() -> None:
    """The order is in the spool before anything else, and the caller is told that it is kept."""
    rig = make_rig()
    async with rig.parts.running():
        desk = await obtained(rig)
        grant = rig.parts.grant()
        before = len(rig.spool.written)
        read = rig.store.read

        async def last_read(asked: object) -> object:
            del asked
            record = await read(grant)
            rig.store.is_available = False
            return record

        rig.store.read = last_read  # type: ignore[method-assign, assignment]
        answer = await desk.revoke(KEY)

    assert isinstance(answer, Revoking)
    assert grant in rig.spool.state.orders
    assert len(rig.spool.written) > before
    assert rig.idp.of(Operation.REVOKE) == []


@pytest.mark.parametrize("fails", [False, True])
async def test_a_record_is_erased_only_after_its_copy_on_disk(*, fails: bool) -> None:
    """A replay of the spool must not bring back whom somebody asked to forget."""
    rig = make_rig()
    write = rig.spool.write

    def failing_write(entry: SpoolEntry, *, durable: bool) -> None:
        if durable and isinstance(entry, PairForgotten):
            raise SpoolError("EIO")
        write(entry, durable=durable)

    async with rig.parts.running():
        desk = await obtained(rig)
        rig.idp.then(json_answer(200, {}))
        early = await desk.purge(KEY)
        rig.clock.advance(DAY_S)
        if fails:
            rig.spool.write = failing_write  # type: ignore[method-assign]
        answer = await desk.purge(KEY)

    assert isinstance(early, Unerased)
    if fails:
        assert answer == Postponed(obstacle=Obstacle.SPOOL_AWAY, retry_in_s=1.0)
        assert rig.parts.grant() in rig.store.records
    else:
        assert isinstance(answer, Revoked)
        assert rig.store.records == {}
        again = SidecarParts.build(rig.world, spool=rig.spool, boot=2)
        async with again.running():
            assert rig.store.records == {}


async def test_a_consent_that_comes_while_another_is_erased_stands() -> None:
    """Forgetting the old consent never takes the new one with it."""
    rig = make_rig()
    async with rig.parts.running():
        await obtained(rig)
        grant = rig.parts.grant()
        pair = rig.store.records[grant].pair
        newer = replace(
            pair,
            consent=Consent(
                id=ConsentId("newer"), consented_at_ms=pair.consent.consented_at_ms + 1
            ),
        )

        received = PairReceived(grant=grant, claim_id=None, pair=newer)

        async def revoked_and_consented_again(request: TokenRequest) -> Answered:
            del request
            rig.parts.claim_parts.journal.keep(received)
            await rig.store.apply(grant, Commit(pair=newer, claim_id=None, is_live=True))
            return json_answer(200, {})

        rig.idp.then(revoked_and_consented_again)
        outcome = await make_steward(rig).purge(KEY)

    assert isinstance(outcome, ConsentSuperseded)
    assert rig.store.records[grant].state is GrantState.ACTIVE
    assert rig.store.records[grant].pair.consent.id == "newer"
    assert rig.spool.state.pairs == {grant: received}


async def test_purging_tells_how_long_to_wait() -> None:
    """A young tombstone stands until no copy of its pairs can be on its way any more."""
    rig = make_rig()
    async with rig.parts.running():
        await obtained(rig)
        rig.idp.then(json_answer(200, {}))
        steward = make_steward(rig)
        first = await steward.purge(KEY)
        rig.clock.advance(100)
        second = await steward.purge(KEY)

    assert isinstance(first, PurgeTooEarly)
    assert isinstance(second, PurgeTooEarly)
    assert (first.wait_s, second.wait_s) == (DAY_S, DAY_S - 100)


async def test_an_unknown_grant_is_unknown_to_every_call() -> None:
    """Nothing is written for a grant that was never there."""
    rig = make_rig()
    async with rig.parts.running():
        desk = make_desk(rig)
        answers = [
            await desk.show(KEY),
            await desk.refresh(KEY),
            await desk.invalidate(KEY),
            await desk.revoke(KEY),
            await desk.purge(KEY),
        ]

    assert answers == [GrantGone(state=None)] * 5
    assert rig.spool.written == []
    assert rig.store.records == {}


async def test_a_change_that_cannot_be_fed_is_a_change_nevertheless() -> None:
    """The record is the truth; the feed misses an entry rather than the caller an answer."""
    rig = make_rig()
    async with rig.parts.running():
        desk = await obtained(rig)
        tell = rig.store.tell

        async def away(*given: object) -> None:
            rig.store.is_available = False
            try:
                await tell(*given)  # type: ignore[arg-type]
            finally:
                rig.store.is_available = True

        rig.store.tell = away  # type: ignore[method-assign, assignment]
        answer = await desk.invalidate(KEY)
        feed = await rig.store.feed("", 10)

    assert isinstance(answer, Shown)
    assert answer.view.state is GrantState.REAUTH_REQUIRED
    assert [entry.state for entry in feed] == [GrantState.ACTIVE]
    assert rig.parts.observer.of(WorkFailed) == []

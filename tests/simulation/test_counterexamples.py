"""Stories that once broke an invariant, told again on purpose and without chance."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.domain.outcomes import ConsentSuperseded, Stored, Unchanged
from sidecar.domain.record import GrantState
from sidecar.domain.tokens import ProblemReason, TokenFound, TokenRefused
from sidecar.service.obtainer import Import
from tests.support.sidecar_parts import KEY
from tests.support.virtual_fleet import Fleet
from tests.support.virtual_time import in_virtual_time


@in_virtual_time
async def test_a_store_that_fell_behind_to_a_former_consent_gives_no_rejected_bearer_back() -> None:
    """I14: the former consent comes up and goes again while the bearer of the new one is healed."""
    fleet = Fleet()
    peer, other = await fleet.with_expired_grant("a"), await fleet.peer("b")
    former = dict(fleet.store.records)
    await other.obtain()
    rejected = await peer.ask()
    assert isinstance(rejected, TokenFound)
    fleet.restart_store(former)

    verdict = await peer.parts.broker.heal(KEY, rejected, product="balances")

    assert isinstance(verdict, TokenRefused)
    assert verdict.reason is ProblemReason.TOKEN_UNAVAILABLE
    await fleet.end()


@in_virtual_time
async def test_a_store_that_shows_a_former_consent_for_a_while_serves_no_rejected_bearer() -> None:
    """I14: it falls behind once the heal is on its way, and catches up with what was rejected."""
    fleet = Fleet()
    peer, other = await fleet.with_expired_grant("a"), await fleet.peer("b")
    former = dict(fleet.store.records)
    await other.obtain()
    rejected = await peer.ask()
    assert isinstance(rejected, TokenFound)
    current = dict(fleet.store.records)
    peer.life.actions["before Acquire"] = lambda: fleet.restart_store(former)
    peer.life.actions["back from Acquire"] = lambda: fleet.store.records.update(current)

    verdict = await peer.parts.broker.heal(KEY, rejected, product="balances")

    assert isinstance(verdict, TokenRefused)
    assert verdict.reason is ProblemReason.TOKEN_UNAVAILABLE
    await fleet.end()


@in_virtual_time
async def test_a_store_that_restarts_before_it_could_be_announced_gets_its_pairs_back() -> None:
    """I8: the first incarnation answered and could not be announced; it forgot what came next."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    await peer.crash()
    fleet.prepare = lambda peer: peer.store.loses_replies_of.add("meet")
    await peer.start()
    await peer.ask()
    await peer.rest()

    fleet.restart_store({})
    peer.store.loses_replies_of.clear()
    await asyncio.sleep(5)

    assert fleet.stored_token(peer) == fleet.idp.live_token(KEY)
    await fleet.end()


@in_virtual_time
async def test_an_import_that_was_overtaken_by_a_new_consent_leaves_it_alone() -> None:
    """I8: the import was stored, its reply lost, the grant refreshed and the consent renewed."""
    fleet = Fleet()
    peer, other = await fleet.with_expired_grant("a"), await fleet.peer("b")
    tokens = fleet.idp.pair_for_somebody_else(KEY)
    order = Import(key=KEY, tokens=tokens, consented_at_ms=None, is_replacing=True)
    peer.store.loses_replies_of.add("Commit")
    importing = asyncio.ensure_future(peer.take_over(order))
    await asyncio.sleep(1)
    await other.obtain()
    peer.store.loses_replies_of.clear()

    outcome = await importing

    assert outcome == ConsentSuperseded()
    assert fleet.stored_token(peer) == fleet.idp.live_token(KEY)
    await fleet.end()


@in_virtual_time
async def test_an_import_that_is_repeated_after_a_death_is_the_same_consent() -> None:
    """I8: the copy of the dead sidecar turns up after the grant was refreshed, and is outdated."""
    fleet = Fleet()
    doomed, other = await fleet.peer("b"), await fleet.peer("a")
    tokens = fleet.idp.pair_for_somebody_else(KEY)
    order = Import(key=KEY, tokens=tokens, consented_at_ms=None, is_replacing=False)
    doomed.life.dies_at = "before Commit"
    importing = asyncio.ensure_future(doomed.take_over(order))
    await doomed.died()
    assert isinstance(await other.take_over(order), Stored)
    await asyncio.sleep(fleet.idp.life_s)
    await other.ask()
    await other.rest()

    await doomed.start()
    await asyncio.sleep(5)

    assert fleet.record(other).state is GrantState.ACTIVE
    assert fleet.stored_token(other) == fleet.idp.live_token(KEY)
    await asyncio.gather(importing, return_exceptions=True)
    await fleet.end()


@pytest.mark.parametrize("is_replacing", [False, True])
@in_virtual_time
async def test_an_import_that_is_repeated_after_a_refresh_brings_no_spent_token_back(
    *, is_replacing: bool
) -> None:
    """I8: who never heard that it was taken repeats it; the grant has moved on, and stays."""
    fleet = Fleet()
    peer = await fleet.peer()
    tokens = fleet.idp.pair_for_somebody_else(KEY)
    order = Import(key=KEY, tokens=tokens, consented_at_ms=None, is_replacing=is_replacing)
    assert isinstance(await peer.take_over(order), Stored)
    await asyncio.sleep(fleet.idp.life_s)
    assert isinstance(await peer.ask(), TokenFound)
    await peer.rest()

    assert isinstance(await peer.take_over(order), Unchanged)

    assert fleet.record(peer).pair.generation == 1
    assert fleet.stored_token(peer) == fleet.idp.live_token(KEY)
    await fleet.end()


@in_virtual_time
async def test_an_import_that_is_repeated_after_a_revocation_undoes_nothing() -> None:
    """I11: seed 5114; the order is older than the word that ended its consent."""
    fleet = Fleet()
    peer = await fleet.peer()
    tokens = fleet.idp.pair_for_somebody_else(KEY)
    order = Import(key=KEY, tokens=tokens, consented_at_ms=None, is_replacing=False)
    assert isinstance(await peer.take_over(order), Stored)
    await peer.revoke()

    assert await peer.take_over(order) == ConsentSuperseded()

    assert fleet.is_revoked(peer)
    again = Import(
        key=KEY,
        tokens=fleet.idp.pair_for_somebody_else(KEY),
        consented_at_ms=None,
        is_replacing=False,
    )
    assert isinstance(await peer.take_over(again), Stored), "another token is another consent"
    await fleet.end()


@in_virtual_time
async def test_an_import_that_two_sidecars_carry_out_is_one_consent() -> None:
    """I8: seed 8331; the second saw what the first had not, and its copy turns up late."""
    fleet = Fleet()
    doomed, other = await fleet.peer("b"), await fleet.peer("a")
    await other.obtain()
    order = Import(
        key=KEY,
        tokens=fleet.idp.pair_for_somebody_else(KEY),
        consented_at_ms=fleet.store.now_ms + 60_000,
        is_replacing=False,
    )
    doomed.life.dies_at = "before Commit"
    importing = asyncio.ensure_future(doomed.take_over(order))
    await doomed.died()
    fleet.restart_store({})
    assert isinstance(await other.take_over(order), Stored)
    await asyncio.sleep(fleet.idp.life_s)
    await other.ask()
    await other.rest()

    await doomed.start()
    await asyncio.sleep(5)

    assert fleet.record(other).pair.generation == 1
    assert fleet.stored_token(other) == fleet.idp.live_token(KEY)
    await asyncio.gather(importing, return_exceptions=True)
    await fleet.end()


@in_virtual_time
async def test_an_import_brings_a_grant_back_that_was_invalidated() -> None:
    """The same token once more, after a client's word that its consent was gone, is a new one."""
    fleet = Fleet()
    peer = await fleet.peer()
    order = Import(
        key=KEY,
        tokens=fleet.idp.pair_for_somebody_else(KEY),
        consented_at_ms=None,
        is_replacing=False,
    )
    assert isinstance(await peer.take_over(order), Stored)
    await peer.invalidate()

    assert isinstance(await peer.take_over(order), Stored)

    assert fleet.record(peer).state is GrantState.ACTIVE
    assert isinstance(await peer.ask(), TokenFound)
    await fleet.end()

"""Revocations and new consents at every step of a refresh, whatever dies or is forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Final

import pytest

from sidecar.domain.outcomes import RevocationDone, RevocationKept, Stored
from sidecar.domain.record import GrantState
from sidecar.domain.spooled import PairReceived
from sidecar.domain.tokens import TokenFound, TokenRefused
from sidecar.service.lane import LaneWorkFailed
from sidecar.service.obtainer import Import
from tests.simulation.story import TIMES
from tests.simulation.watch import Watch
from tests.support.glass_sealer import GlassSealer
from tests.support.sidecar_parts import KEY
from tests.support.virtual_fleet import Fleet, Peer
from tests.support.virtual_time import in_virtual_time

STEPS_OF_A_CLAIM: Final = (
    "before Acquire",
    "after Acquire",
    "connected",
    "before MarkSending",
    "after MarkSending",
    "admitted",
    "sent",
    "answered",
    "after AnswerReceived",
    "told",
    "at Commit",
    "after Commit",
)
STEPS_OF_A_REVOCATION: Final = (
    "after RevocationOrdered",
    "after BeginRevocation",
    "sent",
    "at FinishRevocation",
    "after FinishRevocation",
)
SOON_S: Final = 0.02
"""Within a revocation: it takes two calls of the store and one of Akoya."""
ALL_WELL_S: Final = 3 * (TIMES.hold_s + TIMES.heal_s + TIMES.quarantine_s)

Order = Callable[["Stage"], Awaitable[bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A sidecar that refreshes, another one, and a store that is watched."""

    fleet: Fleet
    peer: Peer
    other: Peer
    violations: list[str]

    @classmethod
    async def set(cls) -> Stage:
        """Start both, with a grant whose bearer has expired."""
        fleet = Fleet(times=TIMES)
        fleet.sealer = GlassSealer()
        violations: list[str] = []
        watch = Watch(fleet.store, quarantine_s=TIMES.quarantine_s, report=violations.append)
        fleet.prepare = partial(_put_under_watch, watch)
        peer = await fleet.with_expired_grant("a")
        return cls(fleet=fleet, peer=peer, other=await fleet.peer("b"), violations=violations)

    async def insist(self, order: Order) -> None:
        """Give an order as a client does who repeats it until it is taken."""
        while True:
            with suppress(LaneWorkFailed):  # the sidecar died over it
                if await order(self):
                    return
            await asyncio.sleep(0.5)

    async def end(self, refresh: asyncio.Task[object]) -> None:
        """Let all become well, and have each sidecar asked."""
        await asyncio.sleep(ALL_WELL_S)
        await asyncio.gather(refresh, return_exceptions=True)
        for peer in self.fleet.peers:
            await peer.ask()
            await peer.rest()
        await asyncio.sleep(ALL_WELL_S)

    def is_on_a_disk(self, token: str | None) -> bool:
        """Whether somebody could still have a token."""
        return any(
            isinstance(entry, PairReceived) and entry.pair.fingerprint == token
            for peer in self.fleet.peers
            for entry, _ in peer.disk.entries
        )


def _put_under_watch(watch: Watch, peer: Peer) -> None:
    peer.store.carry_out = watch.apply


async def _revoked_here(stage: Stage) -> bool:
    return isinstance(await stage.peer.revoke(), RevocationDone | RevocationKept)


async def _revoked_elsewhere(stage: Stage) -> bool:
    return isinstance(await stage.other.revoke(), RevocationDone | RevocationKept)


async def _consented(stage: Stage) -> bool:
    return isinstance(await stage.other.obtain(), Stored)


async def _imported(stage: Stage) -> bool:
    tokens = stage.fleet.idp.pair_for_somebody_else(KEY)
    order = Import(key=KEY, tokens=tokens, consented_at_ms=None, is_replacing=True)
    return isinstance(await stage.other.take_over(order), Stored)


async def _with_an_order_at(
    point: str, order: Order, *, has_death: bool, has_rollback: bool
) -> Stage:
    """Refresh, give the order at a point of it, and let the rest happen."""
    stage = await Stage.set()
    before = dict(stage.fleet.store.records)
    ordered: list[asyncio.Task[None]] = []
    loop = asyncio.get_running_loop()

    def begin() -> None:
        ordered.append(asyncio.ensure_future(stage.insist(order)))
        if has_rollback:
            loop.call_later(SOON_S, stage.fleet.restart_store, before)
        if has_death:
            loop.call_soon(stage.peer.life.end)

    stage.peer.life.actions[point] = begin
    refresh: asyncio.Task[object] = asyncio.ensure_future(stage.peer.ask())
    await asyncio.sleep(10 * SOON_S)
    if has_death:
        await stage.peer.crash()
        await stage.peer.start()
    await asyncio.gather(*ordered)
    await stage.end(refresh)
    return stage


@pytest.mark.parametrize("point", STEPS_OF_A_CLAIM)
@pytest.mark.parametrize(
    ("order", "has_death", "has_rollback"),
    [*product((_revoked_here, _revoked_elsewhere), (False, True), (False, True))],
)
@in_virtual_time
async def test_what_was_revoked_stays_dead_whatever_dies_and_is_forgotten(
    *, point: str, order: Order, has_death: bool, has_rollback: bool
) -> None:
    """I11: dead at Akoya, a tombstone here; only a pair that nobody ever read may live on."""
    stage = await _with_an_order_at(point, order, has_death=has_death, has_rollback=has_rollback)

    live = stage.fleet.idp.live_token(KEY)
    assert stage.violations == []
    assert stage.fleet.record(stage.other).state is GrantState.REVOKED
    assert live is None or (has_death and not stage.is_on_a_disk(live))
    assert isinstance(await stage.peer.ask(), TokenRefused)
    assert isinstance(await stage.other.ask(), TokenRefused)
    assert stage.peer.leftovers() == stage.other.leftovers() == []
    await stage.fleet.end()


@pytest.mark.parametrize("point", STEPS_OF_A_CLAIM)
@pytest.mark.parametrize(
    ("order", "has_death", "has_rollback"),
    [*product((_consented, _imported), (False, True), (False, True))],
)
@in_virtual_time
async def test_a_new_consent_wins_whatever_dies_and_is_forgotten(
    *, point: str, order: Order, has_death: bool, has_rollback: bool
) -> None:
    """I12: nothing that the earlier consent still brings changes the record; the new one lives."""
    stage = await _with_an_order_at(point, order, has_death=has_death, has_rollback=has_rollback)

    assert stage.violations == []
    assert stage.fleet.record(stage.other).state is GrantState.ACTIVE
    assert stage.fleet.stored_token(stage.other) == stage.fleet.idp.live_token(KEY)
    assert isinstance(await stage.peer.ask(), TokenFound)
    assert isinstance(await stage.other.ask(), TokenFound)
    assert stage.peer.leftovers() == stage.other.leftovers() == []
    await stage.fleet.end()


@pytest.mark.parametrize("point", STEPS_OF_A_REVOCATION)
@pytest.mark.parametrize(("has_death", "has_rollback"), [*product((False, True), (False, True))])
@in_virtual_time
async def test_a_consent_at_any_step_of_a_revocation_is_not_hit_by_its_order(
    *, point: str, has_death: bool, has_rollback: bool
) -> None:
    """I12: the order names the consent that it ends, also after a restart and a failover."""
    stage = await Stage.set()
    before = dict(stage.fleet.store.records)
    consents: list[asyncio.Task[None]] = []
    loop = asyncio.get_running_loop()

    def begin() -> None:
        consents.append(asyncio.ensure_future(stage.insist(_consented)))
        if has_rollback:
            loop.call_later(SOON_S, stage.fleet.restart_store, before)
        if has_death:
            loop.call_soon(stage.peer.life.end)

    stage.peer.life.actions[point] = begin
    ordering: asyncio.Task[object] = asyncio.ensure_future(stage.peer.revoke())
    await asyncio.sleep(10 * SOON_S)
    if has_death:
        await stage.peer.crash()
        await stage.peer.start()
    await asyncio.gather(*consents)
    await stage.end(ordering)

    assert stage.violations == []
    assert stage.fleet.record(stage.other).state is GrantState.ACTIVE
    assert stage.fleet.stored_token(stage.other) == stage.fleet.idp.live_token(KEY)
    assert isinstance(await stage.peer.ask(), TokenFound)
    await stage.fleet.end()


@in_virtual_time
async def test_a_grant_in_doubt_is_revoked_and_its_late_pair_with_it() -> None:
    """I11: the pair that would have healed the doubt is revoked when its holder comes back."""
    stage = await Stage.set()
    stage.peer.life.dies_at = "told"
    refresh: asyncio.Task[object] = asyncio.ensure_future(stage.peer.ask())
    await stage.peer.died()
    await asyncio.sleep(TIMES.hold_s + 1)
    await stage.other.ask()
    await stage.other.rest()
    assert stage.fleet.record(stage.other).state is GrantState.IN_DOUBT

    assert await _revoked_elsewhere(stage)
    await asyncio.sleep(1)
    await stage.peer.start()
    await stage.end(refresh)

    assert stage.violations == []
    assert stage.fleet.record(stage.other).state is GrantState.REVOKED
    assert stage.fleet.idp.live_token(KEY) is None
    await stage.fleet.end()


@in_virtual_time
async def test_a_grant_whose_pair_is_parked_is_revoked_with_that_pair() -> None:
    """I11: the holder is cut off; what it stores later meets the tombstone and is revoked."""
    stage = await Stage.set()
    stage.peer.life.actions["told"] = lambda: setattr(stage.peer.store, "is_away", True)
    assert isinstance(await stage.peer.ask(), TokenFound)

    assert await _revoked_elsewhere(stage)
    await asyncio.sleep(2 * TIMES.hold_s)
    stage.peer.store.is_away = False
    await stage.end(asyncio.ensure_future(stage.other.ask()))

    assert stage.violations == []
    assert stage.fleet.record(stage.other).state is GrantState.REVOKED
    assert stage.fleet.idp.live_token(KEY) is None
    assert isinstance(await stage.peer.ask(), TokenRefused)
    await stage.fleet.end()


@in_virtual_time
async def test_a_grant_in_quarantine_is_revoked_without_waiting_for_its_end() -> None:
    """A revocation presents no token for a successor, so nothing holds it up."""
    stage = await Stage.set()
    stage.fleet.restart_store(dict(stage.fleet.store.records))
    await stage.peer.ask()

    assert await _revoked_elsewhere(stage)
    await asyncio.sleep(1)

    assert stage.violations == []
    assert stage.fleet.record(stage.other).state is GrantState.REVOKED
    assert stage.fleet.idp.live_token(KEY) is None
    await stage.fleet.end()

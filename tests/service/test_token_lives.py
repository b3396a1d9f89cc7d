"""A bearer's life counts from when it was asked for, however late its answer is read or stored."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import pytest

from sidecar.domain.events import GrantCooled
from sidecar.domain.outcomes import Stored
from sidecar.domain.secret import Secret
from sidecar.domain.spooled import AnswerReceived
from sidecar.domain.tokens import HealDeclined, HealGranted, TokenFound, TokenPair
from sidecar.domain.wire import Answered, Broken, TokenReply
from sidecar.service.obtainer import Import
from tests.support.rotating_idp import Fault
from tests.support.scripted_idp import id_token, json_answer, pair_answer
from tests.support.sidecar_parts import KEY
from tests.support.virtual_fleet import Fleet, Peer, bearer_of
from tests.support.virtual_time import in_virtual_time, story_loop

LIFE_S = 40
PAUSE_S = 45
LONG_S = 86_400


async def _paused(peer: Peer, work: Coroutine[Any, Any, Any], *, after_s: float = 0.2) -> None:
    """Stop a peer's process `after_s` after its work began, for longer than a bearer lives."""
    task = peer.launch(work)
    await asyncio.sleep(after_s)
    story_loop().stop_process(peer.life.process)
    await asyncio.sleep(PAUSE_S)
    story_loop().continue_process(peer.life.process)
    await task
    await peer.rest()


async def _with_an_old_bearer(fleet: Fleet) -> Peer:
    """Start a sidecar whose bearer of a day is old enough to be healed, and of which it knows."""
    fleet.idp.life_s = LONG_S
    peer = await fleet.peer()
    await peer.obtain()
    await asyncio.sleep(60)
    await peer.ask()
    return peer


async def _found(peer: Peer) -> TokenFound:
    lookup = await peer.ask()
    assert isinstance(lookup, TokenFound)
    return lookup


def _ends_in_s(fleet: Fleet, peer: Peer) -> float:
    return (fleet.record(peer).pair.expires_at_ms - fleet.store.now_ms) / 1000


@in_virtual_time
async def test_a_bearer_whose_answer_lay_in_the_socket_of_a_paused_process_is_not_served() -> None:
    """K4: the pause outlasts the life, so both sidecars replace the bearer and serve another."""
    fleet = Fleet()
    fleet.idp.life_s = LIFE_S
    peer, other = await fleet.with_expired_grant("a"), await fleet.peer("b")
    fleet.idp.answer_after_s = 1.0
    sent_ms = fleet.store.now_ms

    await _paused(peer, peer.ask())

    late = fleet.record(peer).pair
    assert late.generation == 1
    assert late.expires_at_ms <= sent_ms + (LIFE_S + 1) * 1000
    ended = peer.parts.vault.open_pair(peer.parts.grant(), late).id_token
    assert ended is not None
    assert ended.reveal() not in [bearer_of(await each.ask()) for each in (other, peer)]
    assert len(fleet.idp.refreshes()) == 2
    await fleet.end()


@pytest.mark.parametrize("bearer", ["jwt", "opaque"])
@in_virtual_time
async def test_a_life_told_only_beside_the_bearer_counts_from_the_request_too(bearer: str) -> None:
    """Without an `exp` it is `expires_in` that counts, from the same moment."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.answer_after_s = 1.0
    told = bearer
    if bearer == "jwt":
        told = id_token(issued_at_s=int(fleet.clock.now_s()), life_s=LIFE_S)
    fleet.idp.plan.append(
        json_answer(200, {"id_token": told, "refresh_token": "next", "expires_in": LIFE_S})
    )

    await _paused(peer, peer.ask())

    assert -PAUSE_S + LIFE_S - 2 <= _ends_in_s(fleet, peer) <= -PAUSE_S + LIFE_S
    await fleet.end()


@pytest.mark.parametrize("shape", ["kept", "torn"])
@in_virtual_time
async def test_every_shape_of_answer_counts_from_the_request(shape: str) -> None:
    """A kept refresh token and a pair saved from a torn answer are no younger than others."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.answer_after_s = 1.0
    bearer = id_token(issued_at_s=int(fleet.clock.now_s()), life_s=LIFE_S)
    kept: TokenReply = json_answer(200, {"id_token": bearer})
    torn = Broken(status=200, body=json.dumps({"id_token": bearer, "refresh_token": "n"}).encode())
    fleet.idp.plan.append(kept if shape == "kept" else torn)

    await _paused(peer, peer.ask())

    assert _ends_in_s(fleet, peer) <= -PAUSE_S + LIFE_S
    await fleet.end()


@in_virtual_time
async def test_a_repeated_request_counts_from_its_own_sending() -> None:
    """What was issued for the second try is not cut short by the first."""
    fleet = Fleet()
    fleet.idp.life_s = LIFE_S
    peer = await fleet.with_expired_grant()
    fleet.idp.answer_after_s = 3.0
    fleet.idp.plan.append(Fault.ERROR_BEFORE)
    asked_ms = fleet.store.now_ms

    await peer.ask()
    await peer.rest()

    counts_from_ms = fleet.record(peer).pair.expires_at_ms - LIFE_S * 1000
    assert 3_000 < counts_from_ms - asked_ms < 3_500
    await fleet.end()


@in_virtual_time
async def test_a_first_bearer_read_late_ends_when_it_ends() -> None:
    """An exchange is no other than a refresh: the life counts from the request."""
    fleet = Fleet()
    fleet.idp.life_s = LIFE_S
    fleet.idp.answer_after_s = 1.0
    peer = await fleet.peer()

    await _paused(peer, peer.obtain())

    assert -PAUSE_S + LIFE_S - 2 <= _ends_in_s(fleet, peer) <= -PAUSE_S + LIFE_S
    await fleet.end()


@in_virtual_time
async def test_an_import_carried_out_late_lives_no_longer() -> None:
    """A process that stops between the order and its work adds nothing to the life."""
    fleet = Fleet()
    peer = await fleet.peer()
    order = Import(
        key=KEY,
        tokens=TokenPair(id_token=Secret("opaque"), refresh_token=Secret("first"), life_s=LIFE_S),
        consented_at_ms=None,
        is_replacing=False,
        ordered_at_ms=fleet.store.now_ms,
    )
    outcomes: list[object] = []

    async def take_over() -> None:
        outcomes.append(await peer.take_over(order))

    await _paused(peer, take_over(), after_s=0.0001)

    assert isinstance(outcomes[0], Stored)
    assert -PAUSE_S + LIFE_S - 1 <= _ends_in_s(fleet, peer) <= -PAUSE_S + LIFE_S
    await fleet.end()


@pytest.mark.parametrize("away_s", [5, 3600])
@in_virtual_time
async def test_an_answer_read_again_by_the_next_start_counts_from_its_request(away_s: int) -> None:
    """It may have lain on the disk for hours; while it lives, it is served without a refresh."""
    fleet = Fleet()
    fleet.idp.life_s = LIFE_S
    peer = await fleet.with_expired_grant()
    peer.life.dies_at = "after AnswerReceived"
    asking = asyncio.ensure_future(peer.ask())
    await peer.died()
    await asyncio.sleep(away_s)

    await peer.start()
    await peer.rest()

    assert fleet.record(peer).pair.generation == 1
    assert LIFE_S - away_s - 1 <= _ends_in_s(fleet, peer) <= LIFE_S - away_s
    await peer.ask()
    assert len(fleet.idp.refreshes()) == (1 if away_s < LIFE_S else 2)
    await asyncio.gather(asking, return_exceptions=True)
    await fleet.end()


@in_virtual_time
async def test_an_answer_of_an_earlier_version_is_kept_and_its_bearer_not_trusted() -> None:
    """An entry without an instant still holds the only live refresh token."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    peer.life.dies_at = "after AnswerReceived"
    asking = asyncio.ensure_future(peer.ask())
    await peer.died()
    peer.disk.entries = [
        (replace(entry, sent_at_ms=0) if isinstance(entry, AnswerReceived) else entry, at_s)
        for entry, at_s in peer.disk.entries
    ]

    await peer.start()
    await peer.rest()

    assert fleet.stored_token(peer) == fleet.idp.live_token(KEY)
    assert fleet.record(peer).pair.expires_at_ms == 0
    assert bearer_of(await peer.ask())
    await asyncio.gather(asking, return_exceptions=True)
    await fleet.end()


@in_virtual_time
async def test_a_bearer_stored_late_and_rejected_is_healed_at_once() -> None:
    """K4: it is no young one, though its record is: no cool-down, and another bearer."""
    fleet = Fleet()
    peer = await _with_an_old_bearer(fleet)
    fleet.idp.answer_after_s = 1.0
    known = fleet.record(peer).position
    await _paused(peer, peer.parts.broker.renew(KEY, known=known, wait_s=5))
    fleet.idp.answer_after_s = 0.05
    late = await _found(peer)
    assert late.position.generation == 1
    assert fleet.store.now_ms - fleet.record(peer).committed_at_ms < 1000

    verdict = await peer.parts.broker.heal(KEY, late, product="balances")
    await peer.rest()

    assert isinstance(verdict, HealGranted), verdict
    assert verdict.found.position.generation == 2
    assert peer.of(GrantCooled) == []
    await fleet.end()


@in_virtual_time
async def test_a_bearer_that_waited_in_a_spool_is_not_young_once_it_is_stored() -> None:
    """The store was away for a minute: what it then gets is as old as its request."""
    fleet = Fleet()
    peer = await _with_an_old_bearer(fleet)
    known = fleet.record(peer).position

    def cut_off() -> None:
        peer.store.is_away = True

    peer.life.actions["told"] = cut_off
    await peer.parts.broker.renew(KEY, known=known, wait_s=5)
    await asyncio.sleep(60)
    peer.store.is_away = False
    await peer.rest()
    late = await _found(peer)

    verdict = await peer.parts.broker.heal(KEY, late, product="balances")
    await peer.rest()

    assert isinstance(verdict, HealGranted), verdict
    await fleet.end()


@in_virtual_time
async def test_a_bearer_stored_in_time_and_rejected_is_still_young() -> None:
    """The cool-down stays what it was where nothing was late."""
    fleet = Fleet()
    peer = await _with_an_old_bearer(fleet)
    await peer.parts.broker.renew(KEY, known=fleet.record(peer).position, wait_s=5)
    await peer.rest()

    verdict = await peer.parts.broker.heal(KEY, await _found(peer), product="balances")
    await peer.rest()

    assert verdict == HealDeclined()
    assert len(peer.of(GrantCooled)) == 1
    await fleet.end()


@in_virtual_time
async def test_a_bearer_that_akoya_had_kept_ends_when_it_ends_and_is_not_young() -> None:
    """By Akoya's own clock it is older than the exchange: what is left of its life counts."""
    fleet = Fleet()
    peer = await _with_an_old_bearer(fleet)
    skew_s = 7200  # whatever the difference between the clocks
    akoya_s = int(fleet.clock.now_s()) + skew_s
    kept = id_token(issued_at_s=akoya_s - 600, life_s=900)
    answer = pair_answer("next", bearer=kept)
    assert isinstance(answer, Answered)
    fleet.idp.plan.append(replace(answer, date_s=akoya_s))
    fleet.idp.plan.append(pair_answer("the-one-after"))

    await peer.parts.broker.renew(KEY, known=fleet.record(peer).position, wait_s=5)
    await peer.rest()

    assert 298 <= _ends_in_s(fleet, peer) <= 300
    verdict = await peer.parts.broker.heal(KEY, await _found(peer), product="balances")
    assert isinstance(verdict, HealGranted), verdict
    await fleet.end()

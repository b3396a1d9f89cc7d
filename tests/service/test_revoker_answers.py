"""What Akoya may say to a revocation, and what is concluded from it."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from sidecar.domain.outcomes import RevocationDone, RevocationKept
from sidecar.domain.record import GrantState
from tests.support.rotating_idp import Fault
from tests.support.scripted_idp import refusal
from tests.support.sidecar_parts import KEY
from tests.support.virtual_fleet import Fleet, bearer_of
from tests.support.virtual_time import in_virtual_time


@in_virtual_time
async def test_a_token_that_akoya_does_not_know_counts_as_revoked() -> None:
    """The consent ended at the bank: 400 from the revocation endpoint is the end, not a retry."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.end_consent(KEY)

    outcome = await peer.revoke()

    assert isinstance(outcome, RevocationDone)
    assert fleet.record(peer).state is GrantState.REVOKED
    await fleet.end()


@in_virtual_time
async def test_revocations_stop_with_the_apps_credentials() -> None:
    """While Akoya refuses the app itself, an order asks no more often than the canary may."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.plan.extend([refusal(401, "invalid_client")] * 50)

    await peer.revoke()
    await asyncio.sleep(120)

    assert len(fleet.idp.revocations()) <= 2 + 5
    fleet.idp.plan.clear()
    await asyncio.sleep(60)
    assert fleet.is_revoked(peer)
    await fleet.end()


@in_virtual_time
async def test_a_lost_answer_to_a_revocation_is_asked_for_again() -> None:
    """Akoya did it and the answer was lost: the second try is refused, and that is the end."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.plan.append(Fault.ANSWER_LOST)

    await peer.revoke()
    await asyncio.sleep(10)

    assert fleet.is_revoked(peer)
    assert len(fleet.idp.revocations()) == 2
    await fleet.end()


@in_virtual_time
async def test_a_silent_token_service_holds_no_revocation_up_for_good() -> None:
    """An order whose answer never comes is tried again, and would not block a drain for ever."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.answer_after_s = 1e6
    ordering = asyncio.ensure_future(peer.revoke())
    await asyncio.sleep(10)
    fleet.idp.answer_after_s = 0.05

    await asyncio.sleep(fleet.times.watchdog_ticks + 60)

    assert isinstance(await ordering, RevocationKept)
    assert fleet.is_revoked(peer)
    await fleet.end()


@in_virtual_time
async def test_a_revocation_that_akoya_did_not_understand_waits_for_the_successor() -> None:
    """After a rollback the token told may be spent: its successor is revoked, whenever it comes."""
    fleet = Fleet()
    peer, other = await fleet.with_expired_grant(), await fleet.peer("b")
    older = dict(fleet.store.records)
    assert bearer_of(await other.ask())
    await other.rest()
    other.store.is_away = True
    fleet.restart_store(older)

    outcome = await peer.revoke()
    fleet.restart_store({})
    await asyncio.sleep(30)
    other.store.is_away = False
    await asyncio.sleep(700)

    assert isinstance(outcome, RevocationKept)
    assert fleet.is_revoked(peer)
    assert peer.leftovers() == other.leftovers() == []
    await fleet.end()


@in_virtual_time
async def test_an_order_that_akoya_does_not_take_is_tried_less_and_less_often() -> None:
    """An hour of 503 costs some sixty tries and not seven hundred; then the grant is revoked."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.choose = lambda _: Fault.ERROR_BEFORE

    await peer.revoke()
    await asyncio.sleep(3600)

    times_s = [entry.at_s for entry in fleet.idp.revocations()]
    pauses_s = [later - sooner for sooner, later in pairwise(times_s)]
    assert [round(pause_s) for pause_s in pauses_s[:4]] == [5, 10, 20, 40]
    assert max(pauses_s) < 61
    assert len(times_s) < 70
    fleet.idp.choose = lambda _: Fault.NONE
    await asyncio.sleep(61)
    assert fleet.is_revoked(peer)
    assert peer.leftovers() == []
    await fleet.end()

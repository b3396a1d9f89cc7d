from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from sidecar.domain.events import (
    BrakePulled,
    BrakeReleased,
    BrakeTrialEnded,
    GrantReauthRequired,
)
from sidecar.domain.policy import ProtocolTimes, RefreshPolicy
from sidecar.domain.record import GrantKey, GrantState
from sidecar.domain.throttle import BrakeCause, CountGrants, PullBrake
from sidecar.domain.tokens import ProblemReason, TokenFound, TokenRefused
from sidecar.ports import StoreUnavailable
from sidecar.service.brake import Brake
from tests.support.virtual_fleet import Fleet, Peer
from tests.support.virtual_time import in_virtual_time

CALM = ProtocolTimes(housekeeping_every_s=1.0, store_probe_every_s=2.0)
"""Housekeeping of a long story, so that it is told quickly."""


def _keys(count: int) -> list[GrantKey]:
    return [GrantKey(user=f"u-{number}", provider="mikomo") for number in range(count)]


async def _fleet_with(keys: Sequence[GrantKey], *, limit: int | None = None) -> Fleet:
    """Return a fleet of two whose grants have all expired."""
    fleet = Fleet(times=CALM, policy=RefreshPolicy(brake_limit=limit))
    first, _ = await fleet.peer("a"), await fleet.peer("b")
    for key in keys:
        await first.obtain(key)
    await asyncio.sleep(fleet.idp.life_s)
    return fleet


async def _restored_a_day_later(fleet: Fleet, keys: Sequence[GrantKey]) -> None:
    """Refresh every grant, then lose every spool and restore the store from before that."""
    older = dict(fleet.store.records)
    for key in keys:
        assert isinstance(await fleet.peers[0].ask(key), TokenFound)
    for peer in fleet.peers:
        await peer.rest()
        await peer.crash()
        peer.disk.entries.clear()
    await asyncio.sleep(900)
    fleet.restart_store(older)
    for peer in fleet.peers:
        await peer.start()
        peer.events.clear()


def _in_state(fleet: Fleet, state: GrantState) -> int:
    return sum(record.state is state for record in fleet.store.records.values())


def _marked(fleet: Fleet) -> int:
    return _in_state(fleet, GrantState.REAUTH_REQUIRED)


def _brake(peer: Peer) -> Brake:
    return peer.parts.claim_parts.restraints.brake


async def _ask_all(peers: Sequence[Peer], keys: Sequence[GrantKey]) -> None:
    """Ask for every grant at once, in turn through each sidecar."""
    await asyncio.gather(
        *(peers[turn % len(peers)].ask(key) for turn, key in enumerate(keys)),
    )


@in_virtual_time
async def test_a_day_old_dump_marks_nobody_when_all_users_come_at_once() -> None:
    """H22: every token is an old generation; a quarter of a hundred denials stop the fleet."""
    keys = _keys(200)
    fleet = await _fleet_with(keys)
    await _restored_a_day_later(fleet, keys)

    for _ in range(40):
        await _ask_all(fleet.peers, keys)
        await asyncio.sleep(30)

    assert _marked(fleet) == 0
    presented = len(fleet.idp.refreshes()) - len(keys)
    assert 25 <= presented <= 25 + 2 * 8, "those of one bank that were under way"
    assert _in_state(fleet, GrantState.IN_DOUBT) == presented
    for peer in fleet.peers:
        assert [event.cause for event in peer.of(BrakePulled)] == [BrakeCause.DENIALS]
    await fleet.end()


@in_virtual_time
async def test_a_day_old_dump_marks_five_users_when_they_come_one_by_one() -> None:
    """Too few for a share of denials: what stops the fleet then is the number of settlements."""
    keys = _keys(200)
    fleet = await _fleet_with(keys)
    await _restored_a_day_later(fleet, keys)
    await asyncio.sleep(120)

    for turn, key in enumerate(keys):
        await fleet.peers[turn % 2].ask(key)
        await asyncio.sleep(20)

    assert _marked(fleet) == 5
    assert fleet.store.held_back.brake_cause is BrakeCause.SETTLEMENTS
    doubted = _in_state(fleet, GrantState.IN_DOUBT)
    await asyncio.sleep(7_200)
    assert (_marked(fleet), _in_state(fleet, GrantState.IN_DOUBT)) == (5, doubted)
    await fleet.end()


@in_virtual_time
async def test_a_person_lets_the_brake_go_and_the_rest_is_settled() -> None:
    """An operator may let all go: for an hour the fleet believes what Akoya says."""
    keys = _keys(60)
    fleet = await _fleet_with(keys)
    await _restored_a_day_later(fleet, keys)
    await asyncio.sleep(120)
    await _ask_all(fleet.peers, keys)
    await asyncio.sleep(1_000)
    assert _marked(fleet) == 0

    await _brake(fleet.peers[0]).release_all()
    await asyncio.sleep(5)
    await _ask_all(fleet.peers, keys)
    await asyncio.sleep(1_000)

    assert _marked(fleet) == len(keys)
    for peer in fleet.peers:
        assert peer.of(BrakeReleased) == [BrakeReleased(limit=0, is_all=True)]
        assert len(peer.of(BrakePulled)) == 1
    await fleet.end()


@in_virtual_time
async def test_a_release_to_see_costs_ten_users_and_the_brake_is_pulled_again() -> None:
    """Nothing was repaired: as many users as were let go are marked, and no more."""
    keys = _keys(60)
    fleet = await _fleet_with(keys)
    await _restored_a_day_later(fleet, keys)
    await asyncio.sleep(120)
    await _ask_all(fleet.peers, keys)
    await asyncio.sleep(1_000)

    await _brake(fleet.peers[0]).release()
    for _ in range(20):
        await _ask_all(fleet.peers, keys)
        await asyncio.sleep(300)

    assert _marked(fleet) == 10
    assert fleet.store.held_back.brake_cause is BrakeCause.TRIAL
    for peer in fleet.peers:
        assert peer.of(BrakeReleased) == [BrakeReleased(limit=10, is_all=False)]
        causes = [event.cause for event in peer.of(BrakePulled)]
        assert causes == [BrakeCause.DENIALS, BrakeCause.TRIAL]
    await fleet.end()


@in_virtual_time
async def test_a_release_before_any_doubt_is_over_marks_no_user() -> None:
    """Fresh denials answer the question too: they wait for their healing time, and are held."""
    keys = _keys(120)
    fleet = await _fleet_with(keys)
    await _restored_a_day_later(fleet, keys)
    await asyncio.sleep(120)
    await _ask_all(fleet.peers, keys)  # the brake is pulled, and no doubt is over for minutes
    assert _brake(fleet.peers[0]).is_on

    await _brake(fleet.peers[0]).release(limit=4)
    await asyncio.sleep(5)
    await _ask_all(fleet.peers, keys)
    await asyncio.sleep(7_200)

    assert _marked(fleet) == 0
    assert fleet.store.held_back.brake_cause is BrakeCause.TRIAL
    await fleet.end()


@pytest.mark.parametrize("limit", [1, 3])
@in_virtual_time
async def test_sidecars_that_race_settle_no_more_than_a_release_lets_go(limit: int) -> None:
    """Each of four sidecars settles every doubt that it heard of, in the same moment."""
    keys = _keys(40)
    fleet = await _fleet_with(keys)
    await fleet.peer("c")
    await fleet.peer("d")
    await _restored_a_day_later(fleet, keys)
    await asyncio.sleep(120)
    await _ask_all(fleet.peers, keys)
    await asyncio.sleep(1_000)

    await _brake(fleet.peers[0]).release(limit=limit)
    await asyncio.sleep(1_000)

    assert _marked(fleet) == limit
    told = sum(len(peer.of(GrantReauthRequired)) for peer in fleet.peers)
    assert told == limit
    assert all(_brake(peer).is_on for peer in fleet.peers)
    await fleet.end()


@in_virtual_time
async def test_a_second_release_lets_as_many_go_again() -> None:
    """A bank that really ended consents is worked off by a person, in steps of any size."""
    keys = _keys(60)
    fleet = await _fleet_with(keys)
    await _restored_a_day_later(fleet, keys)
    await asyncio.sleep(120)
    await _ask_all(fleet.peers, keys)
    await asyncio.sleep(1_000)
    doubted = _in_state(fleet, GrantState.IN_DOUBT)

    marked: list[int] = []
    for limit in (5, 5, 15):
        await _brake(fleet.peers[0]).release(limit=limit)
        await asyncio.sleep(30)
        marked.append(_marked(fleet))

    assert doubted >= 25
    assert marked == [5, 10, 25]
    await fleet.end()


@in_virtual_time
async def test_after_the_cause_is_gone_a_release_ends_the_brake() -> None:
    """Pairs come: the trial ends well, it is told, and the usual limit of five applies again."""
    keys = _keys(30)
    fleet = await _fleet_with(keys)
    await fleet.store.throttle(PullBrake())
    await asyncio.sleep(5)

    await _brake(fleet.peers[0]).release(limit=20)
    await asyncio.sleep(5)
    await _ask_all(fleet.peers, keys)
    await asyncio.sleep(5)

    assert not fleet.store.held_back.is_braked
    assert fleet.store.held_back.trial is None
    for peer in fleet.peers:
        assert peer.of(BrakeTrialEnded) == [BrakeTrialEnded(limit=20)]
    await asyncio.sleep(fleet.idp.life_s)
    for key in keys[:8]:
        fleet.idp.end_consent(key)
        await fleet.peers[0].ask(key)
    assert _marked(fleet) == 5
    await fleet.end()


@in_virtual_time
async def test_a_sidecar_that_starts_during_a_trial_tells_it() -> None:
    """Its metric shows the trial like that of the others."""
    fleet = await _fleet_with(_keys(1))
    await fleet.store.throttle(PullBrake())
    await _brake(fleet.peers[0]).release(limit=7)

    third = await fleet.peer("c")
    await asyncio.sleep(5)

    assert third.of(BrakeReleased) == [BrakeReleased(limit=7, is_all=False)]
    assert third.of(BrakePulled) == []
    await fleet.end()


@in_virtual_time
async def test_a_few_denials_in_a_trial_are_believed_and_those_beyond_its_end_as_usual() -> None:
    """A doubt of the trial whose healing time ends after it is settled by the usual rules."""
    keys = _keys(20)
    fleet = await _fleet_with(keys)
    older = dict(fleet.store.records)
    for key in keys[:4]:  # denied, and doubted, since the store forgot what they were
        await fleet.peers[0].ask(key)
    for peer in fleet.peers:
        await peer.rest()
        await peer.crash()
        peer.disk.entries.clear()
    await asyncio.sleep(900)
    fleet.restart_store(older)
    for peer in fleet.peers:
        await peer.start()
    await asyncio.sleep(120)
    await fleet.store.throttle(PullBrake())
    await asyncio.sleep(5)

    await _brake(fleet.peers[0]).release(limit=12)
    await asyncio.sleep(5)
    await _ask_all(fleet.peers, keys)
    await asyncio.sleep(5)
    during = (_marked(fleet), _in_state(fleet, GrantState.IN_DOUBT))
    await asyncio.sleep(700)

    assert during == (0, 4)
    assert not fleet.store.held_back.is_braked
    assert _marked(fleet) == 4
    await fleet.end()


@in_virtual_time
async def test_a_settlement_whose_reservation_gets_lost_costs_one_place() -> None:
    """The store's answer stays away: asked again, the grant has the place that it had."""
    fleet = await _fleet_with(_keys(1))
    brake = _brake(fleet.peers[0])
    await fleet.store.throttle(PullBrake())
    await brake.release(limit=3)
    grant = fleet.peers[0].parts.grant(_keys(1)[0])

    fleet.store.loses_replies = True
    with pytest.raises(StoreUnavailable):
        await brake.lets_settle(grant)
    fleet.store.loses_replies = False

    assert await brake.lets_settle(grant)
    trial = fleet.store.held_back.trial
    assert trial is not None
    assert trial.decided == 1
    await fleet.end()


@in_virtual_time
async def test_users_who_take_their_consent_back_in_masses_are_doubted_too() -> None:
    """A clean denial settles at once, and is counted like any other settlement."""
    keys = _keys(12)
    fleet = await _fleet_with(keys)
    for key in keys:
        fleet.idp.end_consent(key)

    for key in keys:
        await fleet.peers[0].ask(key)

    assert _marked(fleet) == 5
    assert _in_state(fleet, GrantState.IN_DOUBT) == 1
    assert fleet.peers[0].of(BrakePulled) == [BrakePulled(cause=BrakeCause.SETTLEMENTS, grants=0)]
    assert len(fleet.idp.refreshes()) == 6
    await fleet.end()


@in_virtual_time
async def test_ten_minutes_later_five_more_may_go() -> None:
    """Users who leave now and then pull no brake, however many they are in a day."""
    keys = _keys(30)
    fleet = await _fleet_with(keys)
    for key in keys:
        fleet.idp.end_consent(key)

    for key in keys:
        await fleet.peers[0].ask(key)
        await asyncio.sleep(121)

    assert _marked(fleet) == len(keys)
    assert fleet.peers[0].of(BrakePulled) == []
    await fleet.end()


@in_virtual_time
async def test_the_limit_is_the_operators_or_one_grant_in_a_thousand() -> None:
    """A setting beats the count, and the count of the census beats the five of a small fleet."""
    keys = _keys(10)
    chosen, counted = await _fleet_with(keys, limit=2), await _fleet_with(keys)
    await counted.store.throttle(CountGrants(grants=7_000))
    await asyncio.sleep(2)
    for fleet in (chosen, counted):
        for key in keys:
            fleet.idp.end_consent(key)
            await fleet.peers[0].ask(key)

    assert _marked(chosen) == 2
    assert _marked(counted) == 7
    await chosen.end()
    await counted.end()


@in_virtual_time
async def test_while_the_brake_is_on_memory_serves_and_nothing_is_claimed() -> None:
    """A live bearer goes on to its end; who needs a newer one is told to have patience."""
    keys = _keys(12)
    fleet = await _fleet_with(keys[1:])
    peer, other = fleet.peers
    await peer.obtain(keys[0])
    for key in keys[1:]:
        fleet.idp.end_consent(key)
        await peer.ask(key)
    await asyncio.sleep(2)
    claims = len(fleet.idp.refreshes())

    served = await other.ask(keys[0])
    refused = await other.ask(keys[-1])

    assert isinstance(served, TokenFound)
    assert isinstance(refused, TokenRefused)
    assert refused.reason is ProblemReason.TOKEN_UNAVAILABLE
    assert refused.retry_after_s == 30
    assert len(fleet.idp.refreshes()) == claims
    await fleet.end()


@in_virtual_time
async def test_a_settlement_that_many_sidecars_see_is_counted_once() -> None:
    """Every peer settles the doubts that it heard of: a grant is reserved once, and told once."""
    keys = _keys(5)
    fleet = await _fleet_with(keys)
    third = await fleet.peer("c")
    await _restored_a_day_later(fleet, keys)
    await asyncio.sleep(120)
    await _ask_all(fleet.peers, keys)

    await asyncio.sleep(1_000)

    assert _marked(fleet) == 5
    assert third.of(BrakePulled) == []
    assert sum(len(peer.of(GrantReauthRequired)) for peer in fleet.peers) == 5
    await fleet.end()


@in_virtual_time
async def test_a_newer_pair_heals_what_the_brake_holds() -> None:
    """The spools come back from their nodes: nobody ever needed to consent again."""
    keys = _keys(40)
    fleet = await _fleet_with(keys)
    older = dict(fleet.store.records)
    first, second = fleet.peers
    for key in keys:
        assert isinstance(await first.ask(key), TokenFound)
    await first.rest()
    await first.crash()
    fleet.restart_store(older)
    await asyncio.sleep(120)
    await _ask_all([second], keys)
    await asyncio.sleep(1_000)
    assert second.parts.claim_parts.restraints.brake.is_on

    await first.start()
    await asyncio.sleep(5)
    await _brake(first).release_all()
    await _ask_all([second], keys)

    assert _in_state(fleet, GrantState.ACTIVE) == len(keys)
    assert first.of(GrantReauthRequired) == second.of(GrantReauthRequired) == []
    await fleet.end()

from __future__ import annotations

import asyncio
from dataclasses import replace

from sidecar.domain.failure import FailureReason
from sidecar.domain.outcomes import GrantGone, Obstacle, Postponed, Refreshed, RefreshOutcome
from sidecar.domain.record import GrantState
from sidecar.domain.throttle import CountRefusal
from sidecar.service.claim_parts import RefreshWish
from tests.support.sidecar_parts import KEY
from tests.support.virtual_fleet import Fleet, Peer
from tests.support.virtual_time import in_virtual_time

REFUSED_APP = CountRefusal(reason=FailureReason.CLIENT_CREDENTIALS_INVALID, canary_ms=30_000)


def _cut_off(peer: Peer) -> None:
    peer.store.is_away = True


async def _wish(fleet: Fleet, peer: Peer, *, generation: int) -> RefreshOutcome:
    known = replace(fleet.record(peer).position, generation=generation)
    wish = RefreshWish(grant=peer.parts.grant(), provider=KEY.provider, known=known)
    return await peer.parts.lane.refresh(wish)


@in_virtual_time
async def test_a_parked_pair_answers_only_who_knows_an_older_one() -> None:
    """I14: with the store away the own disk serves, but never what the caller has rejected."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    peer.life.actions["told"] = lambda: _cut_off(peer)
    await peer.ask()

    older, same, newer = [
        await _wish(fleet, peer, generation=generation) for generation in (0, 1, 2)
    ]

    assert isinstance(older, Refreshed)
    assert older.pair.generation == 1
    for outcome in (same, newer):
        assert isinstance(outcome, Postponed)
        assert outcome.obstacle is Obstacle.STORE_AWAY
    peer.store.is_away = False
    await fleet.end()


@in_virtual_time
async def test_an_orphan_waits_for_the_canary_like_everybody() -> None:
    """While Akoya refuses the app itself, a restart does not present its dead claims either."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    peer.life.dies_at = "back from MarkSending"
    asking = asyncio.ensure_future(peer.ask())
    await peer.died()
    await peer.start(is_away=True)
    for _ in range(2):
        await fleet.store.throttle(REFUSED_APP)
    peer.store.is_away = False

    await asyncio.sleep(25)
    early = len(fleet.idp.refreshes())
    await asyncio.sleep(10)

    assert early == 0
    assert len(fleet.idp.refreshes()) == 1
    assert fleet.stored_token(peer) == fleet.idp.live_token(KEY)
    assert peer.leftovers() == []
    await asyncio.gather(asking, return_exceptions=True)
    await fleet.end()


@in_virtual_time
async def test_a_denial_that_could_not_be_settled_ends_no_grant() -> None:
    """Somebody healed the grant between denial and settlement: nobody is told that it is dead."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.end_consent(KEY)
    grant, known = peer.parts.grant(), fleet.record(peer).position

    def heal() -> None:
        fleet.store.records[grant] = replace(fleet.record(peer), state=GrantState.ACTIVE)

    peer.life.actions["before Settle"] = heal
    wish = RefreshWish(grant=grant, provider=KEY.provider, known=known)

    outcome = await peer.parts.lane.refresh(wish)

    assert not isinstance(outcome, GrantGone)
    assert fleet.record(peer).state is GrantState.ACTIVE
    await fleet.end()


@in_virtual_time
async def test_a_doubt_whose_time_is_over_is_settled_by_whoever_asks() -> None:
    """A sidecar that heard no notice settles when a caller comes after the healing time."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    grant = peer.parts.grant()
    over_ms = fleet.store.now_ms - 1
    doubted = replace(fleet.record(peer), state=GrantState.IN_DOUBT, hold_until_ms=over_ms)
    fleet.store.records[grant] = doubted

    outcome = await _wish(fleet, peer, generation=0)

    assert outcome == GrantGone(state=GrantState.REAUTH_REQUIRED)
    await fleet.end()


@in_virtual_time
async def test_a_lane_that_is_not_open_yet_says_so_and_not_that_it_is_ending() -> None:
    """Before the replay nothing is claimed; that is told otherwise than the end of the process."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    grant, known = peer.parts.grant(), fleet.record(peer).position
    await peer.crash()
    await peer.start(is_away=True)
    wish = RefreshWish(grant=grant, provider=KEY.provider, known=known)

    early = await peer.parts.lane.refresh(wish)
    peer.parts.lane.shut()
    late = await peer.parts.lane.refresh(wish)

    assert early == Postponed(obstacle=Obstacle.REPLAYING, retry_in_s=1.0)
    assert late == Postponed(obstacle=Obstacle.DRAINING, retry_in_s=1.0)
    peer.store.is_away = False
    await fleet.end()

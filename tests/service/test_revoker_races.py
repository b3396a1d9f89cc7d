from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from sidecar.domain.events import GrantRevoked
from sidecar.domain.outcomes import GrantGone, RevocationDone, RevocationKept, Stored
from sidecar.domain.policy import ProtocolTimes
from sidecar.domain.record import GrantState
from sidecar.domain.secret import Secret
from sidecar.domain.spooled import ENDED_KEPT_S
from sidecar.domain.tokens import ProblemReason, TokenPair, TokenRefused
from sidecar.service.vault import PairPlace
from tests.support.scripted_idp import refusal
from tests.support.sidecar_parts import KEY
from tests.support.virtual_fleet import Fleet, bearer_of
from tests.support.virtual_time import in_virtual_time

STEPS_OF_A_CLAIM = [
    "before Acquire",
    "after Acquire",
    "connected",
    "before MarkSending",
    "after MarkSending",
    "admitted",
    "sent",
    "answered",
    "told",
    "at Commit",
    "after Commit",
]


@in_virtual_time
async def test_a_revocation_is_told_once_and_leaves_a_tombstone() -> None:
    """Akoya is told with the newest token, the tokens are erased, and nothing is served."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()

    outcome = await peer.revoke()
    await asyncio.sleep(10)

    assert isinstance(outcome, RevocationDone)
    assert fleet.is_revoked(peer)
    assert fleet.record(peer).pair.sealed_pair == b""
    assert len(fleet.idp.revocations()) == 1
    lookup = await peer.ask()
    assert isinstance(lookup, TokenRefused)
    assert lookup.reason is ProblemReason.REAUTH_REQUIRED
    assert peer.leftovers() == []
    await fleet.end()


@in_virtual_time
async def test_a_slow_revocation_is_not_told_twice_by_housekeeping() -> None:
    """The order lies in the spool while its request is under way; nobody sends it again."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.answer_after_s = 3.0

    await peer.revoke()
    await asyncio.sleep(10)

    assert len(fleet.idp.revocations()) == 1
    assert fleet.is_revoked(peer)
    await fleet.end()


@in_virtual_time
async def test_a_kept_order_is_repeated_no_sooner_than_akoya_asked() -> None:
    """429 with Retry-After: the order waits as long as it says, then it is carried out."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.plan.append(refusal(429, "slow_down", retry_after_s=40.0))

    outcome = await peer.revoke()

    assert isinstance(outcome, RevocationKept)
    assert fleet.record(peer).state is GrantState.REVOKING
    await asyncio.sleep(39)
    assert len(fleet.idp.revocations()) == 1
    await asyncio.sleep(5)
    assert fleet.is_revoked(peer)
    assert len(fleet.idp.revocations()) == 2
    await fleet.end()


@pytest.mark.parametrize("is_elsewhere", [False, True])
@pytest.mark.parametrize("point", STEPS_OF_A_CLAIM)
@in_virtual_time
async def test_a_revocation_at_any_step_of_a_refresh_revokes_the_successor(
    *, point: str, is_elsewhere: bool
) -> None:
    """H8, I11: whatever a refresh in flight brings is revoked at Akoya and never served."""
    fleet = Fleet()
    peer, other = await fleet.with_expired_grant("a"), await fleet.peer("b")
    revoker = other if is_elsewhere else peer
    ordered: list[asyncio.Task[object]] = []

    def order() -> None:
        ordered.append(asyncio.ensure_future(revoker.revoke()))

    peer.life.actions[point] = order

    await peer.ask()
    await peer.rest()
    await asyncio.gather(*ordered)
    await asyncio.sleep(20)

    assert fleet.is_revoked(peer)
    told = [notice.state for notice in fleet.store.notices]
    assert GrantState.ACTIVE not in told[told.index(GrantState.REVOKING) :]
    assert isinstance(await peer.ask(), TokenRefused)
    assert isinstance(await other.ask(), TokenRefused)
    assert peer.leftovers() == other.leftovers() == []
    await fleet.end()


@pytest.mark.parametrize("point", ["after RevocationOrdered", "after BeginRevocation", "sent"])
@in_virtual_time
async def test_an_order_survives_the_death_of_its_sidecar(point: str) -> None:
    """The order is on disk first: the restart carries it out."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    peer.life.dies_at = point
    ordering = asyncio.ensure_future(peer.revoke())
    await peer.died()

    await peer.start()
    await asyncio.sleep(10)

    assert fleet.is_revoked(peer)
    assert peer.leftovers() == []
    await asyncio.gather(ordering, return_exceptions=True)
    await fleet.end()


@in_virtual_time
async def test_an_order_survives_the_loss_of_the_store() -> None:
    """H7: a wiped store is refilled with the grant, and the order still ends it."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.plan.append(refusal(429, "slow_down", retry_after_s=10.0))
    await peer.revoke()
    assert fleet.record(peer).state is GrantState.REVOKING

    fleet.restart_store({})
    states: set[GrantState] = set()
    for _ in range(200):
        await asyncio.sleep(0.1)
        states |= {record.state for record in fleet.store.records.values()}

    assert GrantState.ACTIVE not in states
    assert fleet.is_revoked(peer)
    await fleet.end()


@in_virtual_time
async def test_an_order_carried_out_in_an_emptied_store_keeps_the_pair_to_revoke() -> None:
    """H7: the store forgot the token and so Akoya was not told; the replay brings it up again."""
    fleet = Fleet(times=ProtocolTimes(store_probe_every_s=30.0))
    peer = await fleet.with_expired_grant()
    peer.store.is_deaf = True
    fleet.idp.plan.append(refusal(429, "slow_down", retry_after_s=10.0))
    await peer.revoke()
    fleet.restart_store({})
    await asyncio.sleep(11)
    assert fleet.record(peer).state is GrantState.REVOKED
    assert fleet.idp.live_token(KEY) is not None

    await asyncio.sleep(30)

    assert fleet.is_revoked(peer)
    assert peer.leftovers() == []
    await fleet.end()


@in_virtual_time
async def test_a_carried_out_order_is_not_undone_by_the_loss_of_the_store() -> None:
    """I11: no later event makes a revoked consent active, not even a replay into an empty store."""
    fleet = Fleet()
    peer, other = await fleet.with_expired_grant("a"), await fleet.peer("b")
    await other.ask()
    await other.rest()
    await peer.revoke()
    await asyncio.sleep(5)
    assert fleet.is_revoked(peer)

    fleet.restart_store({})
    await asyncio.sleep(5)

    assert {record.state for record in fleet.store.records.values()} == {GrantState.REVOKED}
    assert isinstance(await other.ask(), TokenRefused)
    await fleet.end()


@pytest.mark.parametrize("is_restarted", [False, True])
@in_virtual_time
async def test_h7_a_store_that_brings_a_revoked_grant_back_is_told_again(
    *, is_restarted: bool
) -> None:
    """I11: the order is remembered on disk after it was carried out, for a store that forgets."""
    fleet = Fleet()
    peer, other = await fleet.with_expired_grant("a"), await fleet.peer("b")
    before = dict(fleet.store.records)
    await peer.revoke()
    await asyncio.sleep(5)
    assert fleet.is_revoked(peer)
    if is_restarted:
        await peer.crash()

    fleet.restart_store(before)
    if is_restarted:
        await peer.start()
    # Akoya does not know the token any more: that is believed once no successor can turn up.
    await asyncio.sleep(fleet.times.heal_s + 60)

    assert fleet.is_revoked(peer)
    assert isinstance(await other.ask(), TokenRefused)
    assert peer.leftovers() == []
    await fleet.end()


@in_virtual_time
async def test_h7_no_memory_of_a_revocation_outlives_an_erasure() -> None:
    """Half a day later nothing is told again; a tombstone is erased after a whole one."""
    rarely = ProtocolTimes(housekeeping_every_s=600.0, store_probe_every_s=600.0)
    fleet = Fleet(times=rarely)
    peer = await fleet.with_expired_grant()
    await peer.revoke()
    assert rarely.purge_after_s > ENDED_KEPT_S
    await asyncio.sleep(ENDED_KEPT_S)

    fleet.restart_store({})
    await asyncio.sleep(1300)

    assert fleet.store.records == {}
    await fleet.end()


@in_virtual_time
async def test_a_revocation_waits_for_the_hold_of_a_dead_claim_and_then_goes_on() -> None:
    """The claim's owner is gone for good: after its hold the newest known token is revoked."""
    fleet = Fleet()
    peer, other = await fleet.with_expired_grant("a"), await fleet.peer("b")
    peer.life.dies_at = "admitted"
    asking = asyncio.ensure_future(peer.ask())
    await peer.died()

    outcome = await other.revoke()
    assert isinstance(outcome, RevocationKept)
    assert fleet.idp.revocations() == []
    await asyncio.sleep(310)

    assert fleet.is_revoked(other)
    await asyncio.gather(asking, return_exceptions=True)
    await fleet.end()


@pytest.mark.parametrize("point", STEPS_OF_A_CLAIM)
@in_virtual_time
async def test_a_new_consent_at_any_step_of_a_refresh_wins(point: str) -> None:
    """H9, I12: what the old consent's claim brings changes nothing; the new one is served."""
    fleet = Fleet()
    peer, other = await fleet.with_expired_grant("a"), await fleet.peer("b")
    obtained: list[asyncio.Task[object]] = []

    def consent() -> None:
        obtained.append(asyncio.ensure_future(other.obtain()))

    peer.life.actions[point] = consent

    await peer.ask()
    await peer.rest()
    await asyncio.gather(*obtained)
    await asyncio.sleep(6)

    record = fleet.record(peer)
    assert record.state is GrantState.ACTIVE
    assert fleet.stored_token(peer) == fleet.idp.live_token(KEY)
    assert bearer_of(await peer.ask()) == bearer_of(await other.ask())
    assert peer.leftovers() == other.leftovers() == []
    await fleet.end()


@in_virtual_time
async def test_an_old_order_never_hits_a_newer_consent() -> None:
    """The order names its consent: superseded, it is dropped and nothing is revoked at Akoya."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.plan.append(refusal(429, "slow_down", retry_after_s=30.0))
    await peer.revoke()

    outcome = await peer.obtain()
    await asyncio.sleep(60)

    assert isinstance(outcome, Stored)
    assert fleet.record(peer).state is GrantState.ACTIVE
    assert fleet.stored_token(peer) == fleet.idp.live_token(KEY)
    assert len(fleet.idp.revocations()) == 1
    assert peer.of(GrantRevoked) == []
    assert peer.leftovers() == []
    await fleet.end()


@in_virtual_time
async def test_a_consent_after_a_revocation_is_served_again() -> None:
    """A tombstone stands against its own consent only."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    await peer.revoke()

    outcome = await peer.obtain()

    assert isinstance(outcome, Stored)
    assert not outcome.is_new
    assert bearer_of(await peer.ask())
    await fleet.end()


@in_virtual_time
async def test_an_unknown_grant_cannot_be_revoked() -> None:
    """There is nothing to order."""
    fleet = Fleet()
    peer = await fleet.peer()

    outcome = await peer.revoke()

    assert outcome == GrantGone(state=None)
    assert peer.leftovers() == []
    await fleet.end()


@in_virtual_time
async def test_a_fork_that_takes_the_place_of_a_revoked_token_is_revoked_too() -> None:
    """Akoya was told of one token, and a peer's replay then brought another of its position."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    grant, vault = peer.parts.grant(KEY), peer.parts.vault
    fleet.idp.answer_after_s = 3.0
    revoking = asyncio.ensure_future(peer.revoke())
    await asyncio.sleep(1)
    fleet.store.unreachable.add(grant)
    assert isinstance(await revoking, RevocationKept)

    stands = fleet.record(peer)
    fork = vault.seal_pair(
        TokenPair(id_token=None, refresh_token=Secret("fork"), life_s=0),
        place=PairPlace(
            grant=grant,
            sealed_key=stands.pair.sealed_key,
            consent=stands.pair.consent,
            generation=stands.pair.generation,
        ),
        asked_at_ms=None,
    )
    fleet.store.records[grant] = replace(stands, pair=fork)
    fleet.store.unreachable.clear()
    await asyncio.sleep(20)

    told = [entry.token for entry in fleet.idp.revocations()]
    assert len(told) == 2
    assert told[1] != told[0]
    assert fleet.record(peer).state is GrantState.REVOKED
    await fleet.end()

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from sidecar.domain.events import (
    BreakerClosed,
    BreakerOpened,
    GrantDoubted,
    GrantReauthRequired,
    LossCause,
    TokenLost,
    TokenRequestFailed,
    TokenSent,
)
from sidecar.domain.failure import FailureReason
from sidecar.domain.outcomes import GrantGone, Obstacle, Postponed, RefreshOutcome
from sidecar.domain.record import GrantState
from sidecar.domain.wire import Answered, TokenReply
from tests.support.rotating_idp import CLAIMED, Fault
from tests.support.scripted_idp import refusal
from tests.support.sidecar_parts import KEY
from tests.support.virtual_fleet import Fleet, Peer, bearer_of
from tests.support.virtual_time import in_virtual_time

INVALID_CLIENT = refusal(401, "invalid_client", "Invalid client credentials.")


async def _renew(fleet: Fleet, peer: Peer) -> RefreshOutcome:
    known = fleet.record(peer).position
    outcome = await peer.parts.broker.renew(KEY, known=known, wait_s=60)
    await peer.rest()
    return outcome


def _kinds(peer: Peer) -> list[str]:
    return [sent.kind.value for sent in peer.of(TokenSent)]


@in_virtual_time
async def test_no_connection_means_no_mark_and_a_short_backoff() -> None:
    """DNS, TCP or TLS failed: nothing was sent, the grant stays active and is asked for again."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.plan.append(Fault.UNREACHABLE)

    outcome = await _renew(fleet, peer)

    assert isinstance(outcome, Postponed)
    assert outcome.obstacle is Obstacle.FAILED
    record = fleet.record(peer)
    assert (record.state, record.marks, record.failures) == (GrantState.ACTIVE, 0, 1)
    assert fleet.idp.refreshes() == []
    assert 0 < record.not_before_ms - fleet.store.now_ms <= 200
    await asyncio.sleep(1)
    assert bearer_of(await peer.ask())
    await fleet.end()


@pytest.mark.parametrize("fault", [Fault.REQUEST_LOST, Fault.ERROR_BEFORE])
@in_virtual_time
async def test_the_owner_repeats_an_ambiguous_try_three_times_with_growing_pauses(
    fault: Fault,
) -> None:
    """Only who closed the socket may repeat: after 0.1, 0.5 and 2 s, each after a KEEP."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    busy = Answered(status=503, body=b"")
    fleet.idp.plan.extend([Fault.REQUEST_LOST, busy, fault, Fault.NONE])

    outcome = await _renew(fleet, peer)

    assert not isinstance(outcome, Postponed)
    at_s = [entry.at_s for entry in fleet.idp.refreshes()]
    pauses = [later - earlier for earlier, later in pairwise(at_s)]
    assert pauses == pytest.approx([0.1, 0.5, 2.0], abs=0.1)
    assert _kinds(peer) == ["first", "retry", "retry", "retry"]
    assert peer.life.trace.count("at KeepHold") == 3
    assert fleet.stored_token(peer) == fleet.idp.live_token(KEY)
    await fleet.end()


@in_virtual_time
async def test_after_three_repeats_the_claim_is_given_back_and_stays_marked() -> None:
    """A fifth try is a new claim's; the mark stays, since the token may be spent."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.plan.extend([Fault.ERROR_BEFORE] * 4)

    outcome = await _renew(fleet, peer)

    assert isinstance(outcome, Postponed)
    assert outcome.failure is not None
    assert outcome.failure.reason is FailureReason.SERVER_ERROR
    record = fleet.record(peer)
    assert (record.state, record.marks, record.failures) == (GrantState.ACTIVE, 1, 1)
    assert record.last_error is not None
    assert record.last_error.reason == "server_error"
    assert len(fleet.idp.refreshes()) == 4
    await asyncio.sleep(1)
    assert bearer_of(await peer.ask())
    await fleet.end()


@in_virtual_time
async def test_a_refused_keep_ends_the_owners_repeats() -> None:
    """Who lost the hold may present no more: the grant is somebody else's."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.plan.append(Fault.REQUEST_LOST)
    peer.life.actions["before KeepHold"] = fleet.restart_store

    asking = asyncio.ensure_future(_renew(fleet, peer))
    await asyncio.sleep(5)

    assert _kinds(peer) == ["first"]
    await asking
    await fleet.end()


@in_virtual_time
async def test_a_clean_denial_is_settled_at_once_as_the_end_of_the_consent() -> None:
    """The only presentation of a pair committed live was refused: nobody holds a successor."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.end_consent(KEY)

    outcome = await _renew(fleet, peer)

    assert isinstance(outcome, GrantGone)
    assert outcome.state is GrantState.REAUTH_REQUIRED
    assert fleet.record(peer).state is GrantState.REAUTH_REQUIRED
    assert [event.cause for event in peer.of(GrantReauthRequired)] == [LossCause.CONSENT_OR_EXPIRY]
    assert peer.of(TokenLost) == []
    assert _kinds(peer) == ["first"]
    await fleet.end()


@pytest.mark.parametrize("first", [Fault.ANSWER_LOST, Fault.ERROR_AFTER, Fault.CUT_BEFORE_TOKEN])
@in_virtual_time
async def test_a_denial_after_an_ambiguous_try_is_a_lost_rotation(first: Fault) -> None:
    """The token was spent and its answer lost here: doubted, healed for 600 s, then our loss."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.plan.append(first)

    outcome = await _renew(fleet, peer)

    assert isinstance(outcome, Postponed)
    assert outcome.failure is not None
    assert outcome.failure.reason is FailureReason.ROTATION_LOST
    assert fleet.record(peer).state is GrantState.IN_DOUBT
    assert [event.heal_in_s for event in peer.of(GrantDoubted)] == [pytest.approx(600, abs=1)]
    assert len(fleet.store.distress) == 1
    await asyncio.sleep(580)
    assert fleet.record(peer).state is GrantState.IN_DOUBT
    await asyncio.sleep(20)
    assert fleet.record(peer).state is GrantState.REAUTH_REQUIRED
    assert [event.cause for event in peer.of(TokenLost)] == [LossCause.RESPONSE_LOST]
    assert _kinds(peer) == ["first", "retry"]
    await fleet.end()


@pytest.mark.parametrize(
    "reply",
    [
        refusal(400, "something_new", "never heard of"),
        Answered(status=400, body=b"\xff\xfe"),
        refusal(403, "", ""),
        Answered(status=404, body=b""),
        Answered(status=307, body=b""),
    ],
)
@in_virtual_time
async def test_an_unknown_answer_never_ends_a_grant(reply: TokenReply) -> None:
    """I9: what is in no documentation proves nothing; the grant stays active, backing off."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.plan.extend([reply] * 12)

    for _ in range(10):
        await _renew(fleet, peer)
        await asyncio.sleep(60)

    record = fleet.record(peer)
    assert record.state is GrantState.ACTIVE
    assert peer.of(GrantDoubted) == []
    pauses_s = [event.retry_in_s or 0.0 for event in peer.of(TokenRequestFailed)]
    assert len(pauses_s) == record.failures == 10
    assert all(2 * pause_s <= later_s for pause_s, later_s in pairwise(pauses_s[:9]))
    assert 60 <= pauses_s[9] <= 600
    fleet.idp.plan.clear()
    await asyncio.sleep(600)
    assert bearer_of(await peer.ask())
    await fleet.end()


@in_virtual_time
async def test_an_unknown_answer_leaves_the_mark_so_that_a_later_denial_is_doubted() -> None:
    """Nobody knows whether it spent the token, so the denial after it is not a clean one."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.plan.append(refusal(400, "something_new"))
    await _renew(fleet, peer)
    assert fleet.record(peer).marks == 1
    await asyncio.sleep(1)
    fleet.idp.plan.append(CLAIMED)

    await _renew(fleet, peer)

    assert fleet.record(peer).state is GrantState.IN_DOUBT
    await fleet.end()


@in_virtual_time
async def test_a_rate_limit_is_honoured_and_spends_nothing() -> None:
    """429 with Retry-After: no try before it is over, and the next denial would be a clean one."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.plan.append(refusal(429, "slow_down", retry_after_s=42.0))

    outcome = await _renew(fleet, peer)
    await asyncio.sleep(40)
    await _renew(fleet, peer)

    assert isinstance(outcome, Postponed)
    assert outcome.retry_in_s >= 42
    record = fleet.record(peer)
    assert (record.state, record.marks) == (GrantState.ACTIVE, 0)
    assert len(fleet.idp.refreshes()) == 1
    await asyncio.sleep(5)
    assert bearer_of(await peer.ask())
    await fleet.end()


@in_virtual_time
async def test_a_rate_limit_without_a_time_waits_a_second_at_least() -> None:
    """A service that is overrun is not asked five times a second."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.plan.append(refusal(429, "slow_down"))

    await _renew(fleet, peer)

    assert fleet.record(peer).not_before_ms - fleet.store.now_ms >= 990
    await fleet.end()


@in_virtual_time
async def test_an_owner_waits_no_longer_than_a_caller_would() -> None:
    """A 503 with a long Retry-After is given back, not waited for with the hold in hand."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.plan.append(Answered(status=503, body=b"", retry_after_s=120.0))

    outcome = await _renew(fleet, peer)

    assert isinstance(outcome, Postponed)
    assert outcome.retry_in_s >= 120
    assert fleet.record(peer).state is GrantState.ACTIVE
    assert len(fleet.idp.refreshes()) == 1
    await fleet.end()


@in_virtual_time
async def test_refused_app_credentials_stop_the_fleet_and_blame_no_grant() -> None:
    """Two refusals open the gate; then a canary each 30 s leaves, and its success closes it."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.plan.extend([INVALID_CLIENT] * 20)
    started_s = fleet.clock.elapsed_s()

    while fleet.clock.elapsed_s() < started_s + 100:
        await _renew(fleet, peer)
        await asyncio.sleep(1)

    at_s = [entry.at_s for entry in fleet.idp.refreshes()]
    gaps = [later - earlier for earlier, later in pairwise(at_s[1:])]
    assert len(gaps) == 3
    assert all(gap >= 30 for gap in gaps)
    record = fleet.record(peer)
    assert (record.state, record.marks) == (GrantState.ACTIVE, 0)
    assert len(peer.of(BreakerOpened)) == 1
    assert peer.of(GrantDoubted) == []
    fleet.idp.plan.clear()
    await asyncio.sleep(60)
    assert bearer_of(await peer.ask())
    await peer.rest()
    assert len(peer.of(BreakerClosed)) == 1
    await fleet.end()


@in_virtual_time
async def test_a_denial_that_speaks_of_no_token_is_never_clean() -> None:
    """Akoya missed a token that was sent: too strange to end a grant at once."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.plan.append(refusal(400, "invalid_request", "No refresh token in request."))

    await _renew(fleet, peer)

    assert fleet.record(peer).state is GrantState.IN_DOUBT
    await fleet.end()


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (refusal(400, "invalid_request", "No refresh token in request."), "refresh_token_missing"),
        (refusal(400, "invalid_grant", "whatever"), "refresh_token_expired"),
        (CLAIMED, "refresh_token_claimed"),
    ],
)
@in_virtual_time
async def test_a_denial_of_a_replayed_pair_is_doubted_first(reply: TokenReply, reason: str) -> None:
    """A pair that came from a spool proves nothing about who else holds a successor."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    await peer.crash()
    fleet.store.records.clear()
    await peer.start()
    peer.events.clear()
    fleet.idp.plan.append(reply)

    await _renew(fleet, peer)

    assert fleet.record(peer).state is GrantState.IN_DOUBT
    assert [event.failure.reason.value for event in peer.of(TokenRequestFailed)] == [reason]
    await fleet.end()


@in_virtual_time
async def test_our_own_malformed_request_blames_no_grant() -> None:
    """A missing grant_type is the sidecar's fault: the grant stays as it is, unspent."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    description = "Missing or incorrect grant_type field. Must be refresh_token"
    fleet.idp.plan.append(refusal(400, "invalid_grant", description))

    await _renew(fleet, peer)

    record = fleet.record(peer)
    assert (record.state, record.marks) == (GrantState.ACTIVE, 0)
    await fleet.end()

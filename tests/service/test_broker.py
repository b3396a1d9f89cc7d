from __future__ import annotations

import asyncio

import pytest

from sidecar.domain.events import TokenSent
from sidecar.domain.policy import ProtocolTimes, RefreshAhead, RefreshPolicy
from sidecar.domain.record import GrantKey, GrantState
from sidecar.domain.tokens import ProblemReason, TokenFound, TokenLookup, TokenRefused, TokenSource
from tests.support.rotating_idp import Fault
from tests.support.sidecar_parts import KEY
from tests.support.virtual_fleet import Fleet, Peer, bearer_of
from tests.support.virtual_time import in_virtual_time

LIFE_S = 900


async def _served(fleet: Fleet) -> Peer:
    """Start a sidecar with a fresh bearer of fifteen minutes in its memory."""
    fleet.idp.life_s = LIFE_S
    peer = await fleet.peer()
    await peer.obtain()
    await peer.ask()
    peer.life.trace.clear()
    return peer


def _source(lookup: TokenLookup) -> TokenSource:
    assert isinstance(lookup, TokenFound), lookup
    return lookup.source


def _reason(lookup: TokenLookup) -> ProblemReason:
    assert isinstance(lookup, TokenRefused), lookup
    return lookup.reason


@in_virtual_time
async def test_a_fresh_bearer_is_served_from_memory_without_the_store() -> None:
    """The hot path asks nobody for five seconds."""
    fleet = Fleet()
    peer = await _served(fleet)

    found = peer.parts.broker.peek(KEY)

    assert found is not None
    assert found.source is TokenSource.MEMORY
    assert "at read" not in peer.life.trace
    await fleet.end()


@in_virtual_time
async def test_memory_is_checked_against_the_store_every_five_seconds() -> None:
    """In use all the while, the store is read once in five seconds and the bearer stays."""
    fleet = Fleet()
    peer = await _served(fleet)

    sources: list[TokenSource] = []
    for _ in range(250):
        await asyncio.sleep(0.1)
        sources.append(_source(await peer.ask()))

    assert 4 <= peer.life.trace.count("at read") <= 6
    assert set(sources) == {TokenSource.MEMORY}
    await fleet.end()


@in_virtual_time
async def test_a_hundred_callers_share_one_read() -> None:
    """A bearer that is not in memory is read once for all who want it now."""
    fleet = Fleet()
    peer, other = await _served(fleet), await fleet.peer("b")

    found = await asyncio.gather(*(other.ask() for _ in range(100)))

    assert other.life.trace.count("at read") == 1
    assert _source(found[0]) is TokenSource.STORE
    assert bearer_of(found[0]) == bearer_of(await peer.ask())
    await fleet.end()


@in_virtual_time
async def test_a_bearer_that_is_due_is_refreshed_behind_its_callers() -> None:
    """In the last fifth of its life the old bearer is served while the new one is fetched."""
    fleet = Fleet()
    peer = await _served(fleet)
    old = bearer_of(await peer.ask())
    await asyncio.sleep(LIFE_S * 0.85)
    fleet.idp.answer_after_s = 5.0

    at_once = [bearer_of(await peer.ask()) for _ in range(20)]
    await asyncio.sleep(6)

    assert set(at_once) == {old}
    assert bearer_of(await peer.ask()) != old
    assert len(peer.of(TokenSent)) == 1
    await fleet.end()


@in_virtual_time
async def test_a_failing_refresh_ahead_is_not_started_by_each_request() -> None:
    """While the old bearer is good, failures behind its back cost a try in ten seconds at most."""
    fleet = Fleet()
    peer = await _served(fleet)
    await asyncio.sleep(LIFE_S * 0.85)
    fleet.idp.choose = lambda _: Fault.UNREACHABLE

    for _ in range(600):
        await asyncio.sleep(0.1)
        assert bearer_of(await peer.ask())

    assert peer.life.trace.count("connected") <= 7
    await fleet.end()


@in_virtual_time
async def test_refreshing_ahead_can_be_turned_off() -> None:
    """With `off` a bearer is replaced when it ends and not before."""
    fleet = Fleet(policy=RefreshPolicy(ahead=RefreshAhead.OFF))
    peer = await _served(fleet)
    await asyncio.sleep(LIFE_S * 0.9)

    await peer.ask()
    await asyncio.sleep(1)

    assert peer.of(TokenSent) == []
    await asyncio.sleep(LIFE_S * 0.1)
    assert _source(await peer.ask()) is TokenSource.REFRESH
    await fleet.end()


@in_virtual_time
async def test_an_ended_bearer_is_never_handed_out() -> None:
    """Past its end there is a new bearer or none, even five seconds before the end."""
    fleet = Fleet()
    peer = await _served(fleet)
    await asyncio.sleep(LIFE_S - 3)
    fleet.idp.choose = lambda _: Fault.UNREACHABLE

    lookup = await peer.ask()

    assert _reason(lookup) is ProblemReason.TOKEN_UNAVAILABLE
    await fleet.end()


@in_virtual_time
async def test_memory_serves_without_a_store_until_the_bearer_ends() -> None:
    """Scenario 10: the store is away, what memory holds is good to its end and then refused."""
    fleet = Fleet()
    peer = await _served(fleet)
    peer.store.is_away = True
    await asyncio.sleep(10)

    during = await peer.ask()
    await asyncio.sleep(LIFE_S)
    after = await peer.ask()

    assert _source(during) is TokenSource.STALE
    assert _reason(after) is ProblemReason.TOKEN_UNAVAILABLE
    assert fleet.idp.refreshes() == []
    await fleet.end()


@in_virtual_time
async def test_a_notice_makes_the_bearer_be_checked_before_its_next_use() -> None:
    """A peer's refresh reaches this sidecar's callers at once, not after five seconds."""
    fleet = Fleet()
    peer, other = await _served(fleet), await fleet.peer("b")
    known = fleet.record(peer).position

    await other.parts.broker.renew(KEY, known=known, wait_s=5)
    await other.rest()
    await asyncio.sleep(0.1)

    assert bearer_of(await peer.ask()) == bearer_of(await other.ask())
    await fleet.end()


@in_virtual_time
async def test_an_echo_of_the_own_commit_costs_no_read() -> None:
    """The notice of what memory already has changes nothing."""
    fleet = Fleet()
    peer = await _served(fleet)
    await peer.parts.broker.renew(KEY, known=fleet.record(peer).position, wait_s=5)
    await peer.rest()
    await asyncio.sleep(0.1)
    peer.life.trace.clear()

    assert _source(await peer.ask()) is TokenSource.MEMORY

    assert "at read" not in peer.life.trace
    await fleet.end()


@pytest.mark.parametrize("ends", ["revoked", "reauth_required", "erased"])
@in_virtual_time
async def test_a_grant_that_ended_elsewhere_is_refused_here(ends: str) -> None:
    """A notice of the end reaches every memory; without one the check does within 5 s."""
    fleet = Fleet()
    peer, other = await _served(fleet), await fleet.peer("b")
    match ends:
        case "revoked":
            await other.revoke()
        case "reauth_required":
            fleet.idp.end_consent(KEY)
            known = fleet.record(peer).position
            await other.parts.broker.renew(KEY, known=known, wait_s=5)
            await other.rest()
        case _:
            fleet.store.records.clear()
            await asyncio.sleep(5)
    await asyncio.sleep(0.1)

    lookup = await peer.ask()

    is_erased = ends == "erased"
    wanted = ProblemReason.GRANT_UNKNOWN if is_erased else ProblemReason.REAUTH_REQUIRED
    assert _reason(lookup) is wanted
    await fleet.end()


@in_virtual_time
async def test_a_doubted_grant_is_served_to_the_end_of_its_bearer() -> None:
    """`in_doubt` says nothing about the bearer: only its successor is missing."""
    fleet = Fleet()
    peer = await _served(fleet)
    await asyncio.sleep(LIFE_S * 0.85)
    fleet.idp.plan.append(Fault.ANSWER_LOST)
    await peer.ask()
    await peer.rest()
    assert fleet.record(peer).state is GrantState.IN_DOUBT

    assert _source(await peer.ask()) in (TokenSource.MEMORY, TokenSource.STORE)

    await asyncio.sleep(LIFE_S * 0.15)
    assert _reason(await peer.ask()) is ProblemReason.TOKEN_UNAVAILABLE
    await fleet.end()


@in_virtual_time
async def test_an_unknown_user_is_told_so() -> None:
    """There is no grant, and nobody is asked but the store."""
    fleet = Fleet()
    peer = await fleet.peer()

    lookup = await peer.ask(GrantKey(user="nobody", provider="mikomo"))

    assert _reason(lookup) is ProblemReason.GRANT_UNKNOWN
    await fleet.end()


@in_virtual_time
async def test_ended_bearers_leave_memory() -> None:
    """Memory is kept small: what has ended is swept."""
    fleet = Fleet()
    peer = await _served(fleet)
    sweeping = asyncio.ensure_future(peer.parts.broker.sweep())

    await asyncio.sleep(LIFE_S + 31)

    assert len(peer.parts.serving_parts.cache) == 0
    sweeping.cancel()
    await fleet.end()


@in_virtual_time
async def test_a_claim_that_lands_late_does_not_displace_a_newer_bearer() -> None:
    """A new consent came while an old one's refresh was in flight: the new bearer stays."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    fleet.idp.answer_after_s = 2.0
    asking = asyncio.ensure_future(peer.ask())
    await asyncio.sleep(1.5)
    fleet.idp.answer_after_s = 0.05
    await peer.obtain()
    newest = bearer_of(await peer.ask())

    await asking
    found = peer.parts.broker.peek(KEY)

    assert found is not None
    assert found.bearer.reveal() == newest
    await fleet.end()


@in_virtual_time
async def test_a_store_that_fell_behind_displaces_no_newer_bearer() -> None:
    """Rolled back to the generation before, the store is told better and memory stays."""
    fleet = Fleet(times=ProtocolTimes(store_probe_every_s=1e4))  # nobody notices the rollback
    peer = await _served(fleet)
    before = dict(fleet.store.records)
    known = fleet.record(peer).position
    await peer.parts.broker.renew(KEY, known=known, wait_s=60)
    await peer.rest()
    newest = bearer_of(await peer.ask())

    fleet.restart_store(before)
    await asyncio.sleep(10)
    lookup = await peer.ask()

    assert fleet.record(peer).pair.generation == 0
    assert bearer_of(lookup) == newest
    await fleet.end()

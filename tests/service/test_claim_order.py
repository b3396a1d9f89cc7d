from __future__ import annotations

import asyncio
from itertools import pairwise

from sidecar.domain.events import TokenRefreshed, TokenSent
from sidecar.domain.policy import ProtocolTimes
from sidecar.domain.record import GrantState
from tests.support.sidecar_parts import KEY
from tests.support.virtual_fleet import Fleet, Peer, bearer_of
from tests.support.virtual_time import in_virtual_time


def _steps(peer: Peer, *names: str) -> list[str]:
    return [name for name in peer.life.trace if name in names]


def _take_away(peer: Peer) -> None:
    peer.store.is_away = True


@in_virtual_time
async def test_a_claim_is_noted_and_marked_before_its_first_byte_leaves() -> None:
    """I3: the spool holds the intent and the store the mark before the request is let go."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()

    await peer.ask()

    order = ("after ClaimIntended", "after MarkSending", "back from MarkSending", "admitted")
    assert _steps(peer, "connected", *order, "sent") == ["connected", *order, "sent"]
    await fleet.end()


@in_virtual_time
async def test_the_pair_is_on_disk_before_the_waiter_and_the_store_hear_of_it() -> None:
    """I5: whoever waits, and the store, learn of a pair only when a crash cannot lose it."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    waiter = asyncio.ensure_future(peer.ask())
    waiter.add_done_callback(lambda _: peer.life.point("woken"))

    await waiter

    await fleet.end()
    seen = _steps(peer, "answered", "after PairReceived", "woken", "before Commit")
    assert seen[:2] == ["answered", "after PairReceived"]
    assert sorted(seen[2:]) == ["before Commit", "woken"]


@in_virtual_time
async def test_nothing_is_awaited_between_an_answer_and_its_copy_on_disk() -> None:
    """I5: the durable copy is made in the very step in which the last byte was read."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()

    await peer.ask()

    await fleet.end()
    steps = list(pairwise(peer.life.trace[peer.life.trace.index("admitted") :]))
    assert ("answered", "before AnswerReceived") in steps
    assert ("after AnswerReceived", "before PairReceived") in steps
    assert peer.of(TokenRefreshed)[0].answer_to_spool_s == 0.0
    durable = [sync for entry, sync in peer.disk.entries if type(entry).__name__ == "PairReceived"]
    assert durable == [True, True]  # the first pair, and its successor


@in_virtual_time
async def test_waiters_are_served_while_the_commit_is_still_on_its_way() -> None:
    """A waiter does not pay for a slow store: the pair is durable here already."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    peer.life.actions["told"] = lambda: _take_away(peer)

    found = bearer_of(await peer.ask())

    assert fleet.record(peer).pair.generation == 0
    peer.store.is_away = False
    await asyncio.sleep(5)
    assert fleet.record(peer).pair.generation == 1
    assert bearer_of(await peer.ask()) == found
    await fleet.end()


@in_virtual_time
async def test_a_slow_answer_is_waited_for_and_strangers_are_held_off() -> None:
    """H11: five minutes without an answer cost no token; the hold is renewed all the while."""
    fleet = Fleet()
    peer = await fleet.with_expired_grant()
    stranger = await fleet.peer("b")
    fleet.idp.answer_after_s = 500.0
    asking = asyncio.ensure_future(peer.ask())
    await asyncio.sleep(400)
    assert fleet.record(peer).state is GrantState.SENDING
    fleet.idp.answer_after_s = 0.05

    await stranger.ask()
    await asyncio.sleep(120)

    assert len(fleet.idp.refreshes()) == 1
    assert fleet.record(peer).pair.generation == 1
    assert fleet.stored_token(peer) == fleet.idp.live_token(KEY)
    await asking
    await fleet.end()


@in_virtual_time
async def test_an_endless_answer_is_given_up_after_the_watchdogs_ticks() -> None:
    """A claim that never ends is ended by ticks of the loop, and repeated by its owner."""
    fleet = Fleet(times=ProtocolTimes(watchdog_ticks=20))
    peer = await fleet.with_expired_grant()
    fleet.idp.answer_after_s = 10_000.0
    asking = asyncio.ensure_future(peer.ask())
    await asyncio.sleep(15)
    fleet.idp.answer_after_s = 0.05

    await asyncio.sleep(20)

    kinds = [sent.kind.value for sent in peer.of(TokenSent)]
    assert kinds == ["first", "retry"]
    assert fleet.record(peer).pair.generation == 1
    await asking
    await fleet.end()

"""Anything may fail at any call and any await of a claim, an exchange or a revocation.

Each story is told once to learn its places, then once for each place, with a fault there.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import pytest

from sidecar.domain.failure import Operation
from sidecar.domain.outcomes import ExchangeFailed, Stored
from sidecar.domain.record import GrantState
from sidecar.service.lane import ClaimLane, LaneWorkFailed
from sidecar.service.transmission import Transmission
from tests.simulation.story import TIMES
from tests.support.glass_sealer import GlassSealer
from tests.support.rotating_idp import Fault, Presentation
from tests.support.sidecar_parts import KEY
from tests.support.strike import Place, Watch
from tests.support.virtual_fleet import Fleet, Peer
from tests.support.virtual_time import VirtualLoop

ROOTS: Final = (
    vars(ClaimLane)["_guarded"],
    vars(Transmission)["_watch"],
    vars(Transmission)["_send"],
)
CLAIMED: Final = (GrantState.LEASED, GrantState.SENDING)
WITHIN_S: Final = 1.0
OF_THE_LANE: Final = ("lane.", "berths.")
"""Hand a result on, or a berth, when the work itself has ended."""
OFTEN: Final = 4


class Unexpected(Exception):
    """What nobody expects."""


@dataclass(slots=True, kw_only=True)
class Story:
    """One telling.

    Attributes:
        outcome: What the caller got.
        hit_at_s: When the blow came.
        claimed_at_s: When the grant was last seen to be claimed.
        ending: The end of the lane, where the blow was that.
        wrong: What stood against the promise.
    """

    watch: Watch
    fleet: Fleet
    peer: Peer
    outcome: object = None
    hit_at_s: float = 0.0
    claimed_at_s: float = 0.0
    wrong: list[str] = field(default_factory=list[str])
    ending: asyncio.Future[None] | None = None

    def begin(self) -> None:
        """Let places count from here on."""
        self.watch.is_on = True


Telling = Callable[[Story], Awaitable[object]]
Blow = Callable[[Story], None]


def _fail(_: Story) -> None:
    raise Unexpected


def _cancel(_: Story) -> None:
    raise asyncio.CancelledError  # some library's: nobody asked this task to end


def _abandon(story: Story) -> None:
    """The time of the drain is over: all work of the lane is told to end."""
    story.ending = asyncio.ensure_future(story.peer.parts.lane.abandon())


async def _refresh(story: Story) -> object:
    story.peer.life.actions["after MarkSending"] = story.begin
    return await story.peer.ask()


async def _denied(story: Story) -> object:
    story.fleet.idp.end_consent(KEY)
    return await _refresh(story)


async def _lost(story: Story) -> object:
    story.fleet.idp.plan.append(Fault.REQUEST_LOST)
    return await _refresh(story)


async def _refused(story: Story) -> object:
    story.fleet.idp.plan.extend([Fault.ERROR_BEFORE] * 9)
    return await _refresh(story)


async def _cut_off(story: Story) -> object:
    story.fleet.idp.plan.append(Fault.CUT_BEFORE_TOKEN)
    return await _refresh(story)


async def _obtain(story: Story) -> object:
    story.peer.life.actions["admitted"] = story.begin
    return await story.peer.obtain()


async def _revoke(story: Story) -> object:
    story.peer.life.actions["admitted"] = story.begin
    return await story.peer.revoke()


async def _restart(story: Story) -> object:
    peer = story.peer
    peer.life.dies_at = "back from MarkSending"
    asking = asyncio.ensure_future(peer.ask())
    await peer.died()
    await asyncio.gather(asking, return_exceptions=True)

    def prepare(again: Peer) -> None:
        again.life.actions["after MarkSending"] = story.begin

    story.fleet.prepare = prepare
    await peer.start()
    await asyncio.sleep(0.1)
    return None


STORIES: Final[dict[str, Telling]] = {
    "a refresh": _refresh,
    "a denied refresh": _denied,
    "a refresh whose request is lost": _lost,
    "a refused refresh": _refused,
    "a refresh whose answer is cut off": _cut_off,
    "the repetition of a dead claim": _restart,
    "an exchange": _obtain,
    "a revocation": _revoke,
}


async def _tell(telling: Telling, *, at: int | None, blow: Blow) -> Story:
    """Tell a story on a fleet of its own, with a blow at one place, until all is well again."""
    fleet = Fleet(times=TIMES)
    fleet.sealer = GlassSealer()
    fleet.idp.close_after_s = 0.01  # something may fail after an answer was told, too

    def strike() -> None:
        story.hit_at_s = fleet.clock.elapsed_s()
        blow(story)

    peer = await fleet.with_expired_grant()
    watch = Watch(roots=ROOTS, at=at, blow=strike)
    story = Story(watch=watch, fleet=fleet, peer=peer)
    looking = asyncio.ensure_future(_look(story))
    with watch.watching():
        try:
            story.outcome = await telling(story)
        except LaneWorkFailed as error:
            story.outcome = error
        await peer.rest()
    peer.parts.observer.fails = False
    if story.ending is not None:
        await story.ending
    looking.cancel()
    _judge_the_end(story)
    if story.ending is not None:
        await peer.crash()
        await peer.start()
    await asyncio.sleep(fleet.times.hold_s + fleet.times.heal_s)
    await peer.ask()
    await peer.rest()
    _judge_the_grant(story)
    await fleet.end()
    return story


async def _look(story: Story) -> None:
    """Take note of when the grant was last seen to be claimed."""
    while True:
        if story.fleet.record(story.peer).state in CLAIMED:
            story.claimed_at_s = story.fleet.clock.elapsed_s()
        await asyncio.sleep(0.02)


def _judge_the_end(story: Story) -> None:
    """No claim is left to its hold, and none ends later than a second after its answer."""
    fleet, peer = story.fleet, story.peer
    record = fleet.record(peer)
    kept = peer.parts.claim_parts.journal.state.pairs.get(peer.parts.grant())
    is_kept = kept is not None and kept.pair.order > record.pair.order
    if record.state in CLAIMED and not is_kept:
        story.wrong.append(f"it is left {record.state.value}")
    last_s = max([story.hit_at_s, *(entry.at_s for entry in fleet.idp.ledger)])
    took_s = story.claimed_at_s - last_s
    if took_s > WITHIN_S:
        story.wrong.append(f"it ended {took_s:.2f} s after its answer")


def _judge_the_grant(story: Story) -> None:
    """What was read is kept, and what was read the successor of is never presented again."""
    fleet, peer = story.fleet, story.peer
    seen: dict[str, Presentation] = {}
    for entry in fleet.idp.refreshes():
        before = seen.get(entry.token)
        if before is not None and before.is_told:
            story.wrong.append(f"{entry.token} was presented again")
        seen[entry.token] = entry
    live, record = fleet.idp.live_token(KEY), fleet.record(peer)
    is_lost = any(entry.brought and not entry.is_told for entry in fleet.idp.ledger)
    if live is not None and not is_lost and fleet.stored_token(peer) != live:
        story.wrong.append("the live token is not stored")
    if record.state in CLAIMED:
        story.wrong.append(f"it is {record.state.value} for good")


def _run(telling: Telling, *, at: int | None = None, blow: Blow = _fail) -> Story:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(_tell(telling, at=at, blow=blow))


def _hits(name: str) -> list[tuple[int, Place]]:
    """Return where to hit a story: at each await and each port, and at each function once.

    A function that an earlier story calls as well is hit there; of what a story does over and over,
    the first few.
    """
    hits: list[tuple[int, Place]] = []
    known: set[str] = set()
    for other, telling in STORIES.items():
        seen: Counter[str] = Counter()
        for number, place in enumerate(_run(telling).watch.places):
            if not place.is_inner or place.name.startswith(OF_THE_LANE):
                continue
            is_new = place.name not in known
            known.add(place.name)
            seen[place.name] += 1
            is_outside = (place.is_await or place.is_port) and seen[place.name] <= OFTEN
            if other == name and (is_new or is_outside):
                hits.append((number, place))
        if other == name:
            break
    return hits


@pytest.mark.parametrize("name", STORIES)
def test_a_fault_at_any_call_or_await_leaves_no_grant_claimed(name: str) -> None:
    """It ends with a release, a kept pair or a doubt, within a second of its answer."""
    telling, wrong, hits = STORIES[name], list[str](), _hits(name)
    for number, place in hits:
        for blow in (_fail, _cancel) if place.is_await else (_fail,):
            story = _run(telling, at=number, blow=blow)
            assert story.watch.hit is not None
            if name == "an exchange":
                _judge_the_exchange(story)
            wrong += [f"{blow.__name__} at {number}, {place.name}: {it}" for it in story.wrong]

    assert wrong == []
    assert len(hits) > 10


@pytest.mark.parametrize("name", [*STORIES][:5])
def test_a_claim_that_is_told_to_end_at_any_await_leaves_no_grant_claimed(name: str) -> None:
    """At the end of a drain too; what it had read is on the disk, and the next start finds it."""
    wrong: list[str] = []
    hits = [(number, place) for number, place in _hits(name) if place.is_await]
    for number, place in hits:
        story = _run(STORIES[name], at=number, blow=_abandon)
        assert story.ending is not None
        wrong += [f"at {number}, {place.name}: {it}" for it in story.wrong]

    assert wrong == []
    assert hits


@pytest.mark.parametrize("name", STORIES)
def test_an_observer_that_always_fails_ends_no_work(name: str) -> None:
    """It promised not to raise; a grant must not pay for it if it does."""

    def deafen(story: Story) -> None:
        story.peer.parts.observer.fails = True

    story = _run(STORIES[name], at=0, blow=deafen)

    assert story.wrong == []
    if name == "an exchange":
        assert isinstance(story.outcome, Stored)


def _judge_the_exchange(story: Story) -> None:
    """Whoever waits hears of the pair that was read, and of no failure but Akoya's."""
    entries = [entry for entry in story.fleet.idp.ledger if entry.operation is Operation.OBTAIN]
    expected = (Stored,) if entries[-1].is_told else (Stored, ExchangeFailed)
    if not isinstance(story.outcome, expected):
        story.wrong.append(f"the caller got {story.outcome!r}")

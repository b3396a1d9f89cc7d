"""What the lane makes of a store whose servers come and go one by one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import pytest

from sidecar.domain.commands import Incarnation, Pulse
from sidecar.domain.events import SpoolReplayed, StoreReincarnated
from sidecar.domain.record import GrantId, RunId
from sidecar.domain.spooled import PairReceived
from sidecar.ports import StoreUnavailable, TokenStore
from sidecar.service.offers import OFFERED_AT_ONCE
from sidecar.service.store_clock import StoreClock
from sidecar.service.store_troubles import StoreTroubles
from sidecar.service.store_watch import StoreWatch
from tests.support.fake_clock import FakeClock
from tests.support.records import pair
from tests.support.sidecar_parts import RecordingObserver, Rig, make_rig

GRANTS = [GrantId(f"{number:032x}") for number in range(3 * OFFERED_AT_ONCE)]


@dataclass
class Shards:
    """What a watch asks of a store with several servers."""

    answering: set[RunId] = field(default_factory=set[RunId])
    met: list[RunId] = field(default_factory=list[RunId])
    is_refusing_meetings: bool = False

    async def probe(self) -> Pulse:
        return Pulse(now_ms=1, run_ids=frozenset(self.answering))

    async def meet(self, run_id: RunId) -> Incarnation:
        if self.is_refusing_meetings:
            raise StoreUnavailable
        self.met.append(run_id)
        return Incarnation(run_id=run_id, met_at_ms=1)


def watch_of(shards: Shards, observer: RecordingObserver) -> StoreWatch:
    clock = FakeClock()
    return StoreWatch(
        store=cast("TokenStore", shards),
        store_clock=StoreClock(clock=clock),
        clock=clock,
        observer=observer,
        troubles=StoreTroubles(behind=observer, clock=clock),
    )


async def test_a_new_incarnation_of_one_server_is_an_incarnation_of_the_store() -> None:
    """Each is announced once; a server that was silent for a while is no news."""
    shards, observer = Shards({RunId("a"), RunId("b"), RunId("c")}), RecordingObserver()
    watch = watch_of(shards, observer)

    first = await watch.probe()
    shards.answering = {RunId("a"), RunId("b")}
    fewer = await watch.probe()
    shards.answering = {RunId("a"), RunId("b"), RunId("c")}
    back = await watch.probe()
    shards.answering = {RunId("a"), RunId("b"), RunId("d")}
    failed_over = await watch.probe()

    assert [first, fewer, back, failed_over] == [False, False, False, True]
    assert sorted(shards.met) == ["a", "b", "c", "d"]
    assert len(observer.of(StoreReincarnated)) == 1


@pytest.mark.parametrize("is_known", [True, False])
async def test_an_incarnation_that_could_not_be_announced_is_forgotten_by_nobody(
    *, is_known: bool
) -> None:
    """Whatever follows an incarnation that answered is news, announced or not, also the first."""
    shards, observer = Shards({RunId("a")}), RecordingObserver()
    watch = watch_of(shards, observer)
    shards.is_refusing_meetings = not is_known
    await watch.probe()
    shards.answering = {RunId("b")}
    shards.is_refusing_meetings = True

    unannounced = await watch.probe()
    shards.is_refusing_meetings = False
    announced = await watch.probe()

    assert [unannounced, announced] == [True, False]
    assert shards.met[-1] == "b"
    assert len(observer.of(StoreReincarnated)) == 1


def parked(rig: Rig) -> None:
    for grant in GRANTS:
        rig.spool.write(PairReceived(grant=grant, claim_id=None, pair=pair()), durable=True)


async def test_a_server_that_is_away_keeps_no_pair_of_the_others_parked() -> None:
    """What can be stored is stored, whichever grant comes first; claims wait for the rest."""
    rig = make_rig()
    parked(rig)
    rig.store.unreachable = set(GRANTS[::2])

    await rig.parts.reconciler.tick()
    stored = set(rig.store.records)
    has_replayed = rig.parts.reconciler.has_replayed
    rig.store.unreachable = set()
    await rig.parts.reconciler.tick()

    assert stored == set(GRANTS[1::2])
    assert not has_replayed
    assert rig.parts.reconciler.has_replayed
    assert set(rig.store.records) == set(GRANTS)
    assert [replayed.pairs for replayed in rig.parts.observer.of(SpoolReplayed)] == [len(GRANTS)]


async def test_a_store_that_is_away_wholly_is_not_asked_for_every_pair() -> None:
    """A long spool costs a few calls, not one for each pair of it."""
    rig = make_rig()
    parked(rig)
    rig.store.unreachable = set(GRANTS[1:])  # the oldest is offered last

    await rig.parts.reconciler.tick()

    assert rig.store.records == {}

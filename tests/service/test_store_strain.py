"""What the watch tells of a store that answers probes while other calls of it fail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from sidecar.domain.commands import Incarnation, Pulse
from sidecar.domain.events import (
    Event,
    StoreEased,
    StoreLost,
    StoreRestored,
    StoreStrained,
    StoreTroubled,
)
from sidecar.domain.record import RunId
from sidecar.domain.store_trouble import STRAIN_S, TROUBLE_HINTS, StoreTrouble
from sidecar.ports import StoreUnavailable, TokenStore
from sidecar.service.store_clock import StoreClock
from sidecar.service.store_troubles import StoreTroubles
from sidecar.service.store_watch import StoreWatch
from tests.support.fake_clock import FakeClock
from tests.support.sidecar_parts import RecordingObserver

RUN = RunId("a")
TOLD = (StoreLost, StoreRestored, StoreStrained, StoreEased)


@dataclass
class Probed:
    """A store that answers probes, or does not."""

    away: StoreTrouble | None = None

    async def probe(self) -> Pulse:
        if self.away is not None:
            raise StoreUnavailable("ConnectionError", cause=self.away)
        return Pulse(now_ms=1, run_ids=frozenset({RUN}))

    async def meet(self, run_id: RunId) -> Incarnation:
        return Incarnation(run_id=run_id, met_at_ms=1)


class Scene:
    """A watch, and time that passes between its probes."""

    def __init__(self) -> None:
        self.store = Probed()
        self.clock = FakeClock()
        self.heard = RecordingObserver()
        self.troubles = StoreTroubles(behind=self.heard, clock=self.clock)
        self.watch = StoreWatch(
            store=cast("TokenStore", self.store),
            store_clock=StoreClock(clock=self.clock),
            clock=self.clock,
            observer=self.heard,
            troubles=self.troubles,
        )

    async def probe(self, *, after_s: float = 1.0) -> StoreTrouble | None:
        self.clock.advance(after_s)
        await self.watch.probe()
        return self.watch.trouble

    def fail(self, cause: StoreTrouble) -> None:
        self.troubles.observe(StoreTroubled(cause=cause))

    def told(self) -> list[Event]:
        return [event for event in self.heard.events if isinstance(event, TOLD)]


async def test_a_full_server_is_told_once_and_again_when_it_has_room() -> None:
    """One line at each edge, however many calls fail in between."""
    scene = Scene()
    await scene.probe()

    seen: list[StoreTrouble | None] = []
    for _ in range(3):
        for _ in range(26):
            scene.fail(StoreTrouble.MAXCLIENTS)
        seen.append(await scene.probe())
    seen.append(await scene.probe(after_s=STRAIN_S + 1))

    assert seen == [StoreTrouble.MAXCLIENTS] * 3 + [None]
    hint = TROUBLE_HINTS[StoreTrouble.MAXCLIENTS]
    assert scene.told()[1:] == [
        StoreStrained(cause=StoreTrouble.MAXCLIENTS, hint=hint),
        StoreEased(strained_s=2.0 + STRAIN_S + 1),
    ]


async def test_a_failover_is_no_strain_and_connections_that_go_on_ending_are() -> None:
    """A burst in one second says nothing; the same in three does."""
    scene = Scene()
    await scene.probe()
    for _ in range(50):
        scene.fail(StoreTrouble.RESET)
    burst = await scene.probe()
    scene.fail(StoreTrouble.RESET)
    again = await scene.probe()
    scene.fail(StoreTrouble.RESET)
    lasting = await scene.probe()

    assert (burst, again, lasting) == (None, None, StoreTrouble.RESET)


async def test_what_failed_while_the_store_was_away_is_not_held_against_it() -> None:
    """The loss has its own lines, and a cause; once it is back, all is well at once."""
    scene = Scene()
    await scene.probe()
    scene.fail(StoreTrouble.OOM)
    strained = await scene.probe()
    scene.store.away = StoreTrouble.REFUSED
    lost = await scene.probe()
    scene.fail(StoreTrouble.OOM)
    scene.store.away = None
    back = await scene.probe()

    assert (strained, lost, back) == (StoreTrouble.OOM, StoreTrouble.REFUSED, None)
    kinds = [type(event) for event in scene.told()]
    assert kinds == [StoreRestored, StoreStrained, StoreLost, StoreRestored]
    (told,) = scene.heard.of(StoreLost)
    assert (told.cause, told.error) == (StoreTrouble.REFUSED, "ConnectionError")
    assert told.hint == TROUBLE_HINTS[StoreTrouble.REFUSED]


async def test_every_event_goes_on_to_whoever_counts_it() -> None:
    """What is remembered here is counted there as well."""
    scene = Scene()

    scene.fail(StoreTrouble.POOL)

    assert scene.heard.events == [StoreTroubled(cause=StoreTrouble.POOL)]

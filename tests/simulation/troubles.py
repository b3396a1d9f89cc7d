"""Everything that goes wrong in a story, at points that a seed chooses, and how each trouble ends.

A trouble strikes in the step in which some sidecar passes a point: before, during and after each
call of the store, each stage of a token request, each write of the spool. So no place between two
awaits is spared. Each trouble is noted with its span, for the judge. It must not judge.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from functools import partial
from random import Random
from typing import Any, Final, final

from sidecar.domain.outcomes import ConsentSuperseded, GrantExists, Stored, Unchanged
from sidecar.domain.record import GrantKey, RunId
from sidecar.service.lane import LaneWorkFailed
from sidecar.service.lifecycle import Lifecycle, Vitals
from sidecar.service.obtainer import Import
from tests.simulation.watch import Watch
from tests.simulation.witness import EVERYBODY, Witness
from tests.support.virtual_fleet import Fleet, Peer
from tests.support.virtual_time import NOWHERE, story_loop

KINDS: Final = (
    *("die",) * 6,
    *("stop",) * 5,
    *("cut",) * 3,
    *("deafen",) * 2,
    *("lose replies",) * 2,
    *("outage",) * 2,
    *("consent",) * 2,
    *("roll back",) * 2,
    "restart",
    "revoke",
    "import",
    "invalidate",
    "leave",
)
A_PERSON_S: Final = 12.0
"""Nobody consents twice within so short a time."""
IMPORT_TRIES: Final = 20
"""Who imports repeats it until it is taken; after so many times, others have taken over."""
DRAIN_S: Final = 15.0


@final
class Troubles:
    """Makes trouble for a fleet.

    Attributes:
        told: What went wrong, for whoever looks at a failing seed.
        struck: How often each kind of trouble came.
        work: Everything that runs because of it.
        every: How many points pass between two troubles, on average; 0 for none any more.
        foreign: Tokens that the end user's app holds itself, and whether a sidecar took them.
    """

    def __init__(
        self,
        fleet: Fleet,
        watch: Watch,
        witness: Witness,
        *,
        keys: list[GrantKey],
        random: Random,
    ) -> None:
        self.told: list[str] = []
        self.struck: Counter[str] = Counter()
        self.work: list[asyncio.Task[None]] = []
        self.every = 0.0
        self.foreign: dict[str, bool] = {}
        self.report: Callable[[str], None] = self.told.append
        self._fleet = fleet
        self._watch = watch
        self._witness = witness
        self._keys = keys
        self._random = random
        self._busy: set[str] = set()
        self._consented_s: dict[GrantKey, float] = {}
        self._countdown = 0.0
        self._outages = 0
        self._kinds = self._kinds_of_this_story()

    def _kinds_of_this_story(self) -> tuple[str, ...]:
        """Some stories know a few kinds of trouble only, so that rare pairs of them meet.

        None knows both imports and words of clients that a consent is gone: an import that was
        delayed until its own grant was declared dead brings a used token back, as it is told to.
        """
        other = self._random.choice(("import", "invalidate"))
        kinds = tuple(kind for kind in KINDS if kind != other)
        if self._random.random() < 0.5:
            return kinds
        return tuple(self._random.sample(sorted(set(kinds)), 3))

    def strike(self, peer: Peer, point: str) -> None:
        """Let something go wrong at this point if its turn has come."""
        if not self.every:
            return
        self._countdown -= 1
        if self._countdown > 0:
            return
        self._countdown = self._random.expovariate(1 / self.every)
        kind = self._random.choice(self._kinds)
        key = self._random.choice(self._keys)
        self.struck[kind] += 1
        self.told.append(f"{self._now_s:.6f} {kind} {peer.name} {key.user} {point}")
        self._begin(kind, peer, key)

    def _begin(self, kind: str, peer: Peer, key: GrantKey) -> None:
        match kind:
            case "die":
                self._die(peer)
            case "stop":
                self._stop(peer)
            case "cut":
                self._spawn(self._cut(peer))
            case "deafen":
                self._spawn(self._deafen(peer))
            case "lose replies":
                self._spawn(self._lose_replies(peer))
            case "outage":
                self._spawn(self._outage())
            case "restart":
                self._restart(back_s=None)
            case "roll back":
                self._restart(back_s=self._random.choice((0.5, 5.0, 30.0, 1e6)))
            case "leave":
                self._leave(peer)
            case _:
                self._change(kind, self._random.choice(self._fleet.peers), key)

    def _change(self, kind: str, peer: Peer, key: GrantKey) -> None:
        """Somebody changes a grant through the grants API."""
        if peer.life.is_over:
            return
        match kind:
            case "revoke":
                self._call(peer, partial(peer.revoke, key))
            case "invalidate":
                self._call(peer, partial(peer.invalidate, key))
            case "consent" if self._may_consent(key):
                self._call(peer, partial(peer.obtain, key))
            case "import" if self._may_consent(key):
                self._spawn(self._import(key))
            case _:
                pass

    @property
    def _now_s(self) -> float:
        return self._fleet.clock.elapsed_s()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        loop = asyncio.get_running_loop()
        self.work.append(loop.create_task(work, context=NOWHERE.copy()))

    def _call(self, peer: Peer, work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        life = peer.life

        async def call() -> None:
            try:
                await work()
            except LaneWorkFailed:
                if not (life.is_over or life.process in self._witness.drained):
                    self.report(f"work of {peer.name} failed")
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
                if not life.is_over:
                    self.report(f"a call of {peer.name} raised {type(error).__name__}: {error}")

        self.work.append(peer.launch(call()))

    # --- a sidecar's own --------------------------------------------------------------------------

    def _die(self, peer: Peer) -> None:
        if peer.name in self._busy:
            return
        self._busy.add(peer.name)
        span = self._witness.impaired(peer.name, "dead")
        peer.life.end()

        async def rise() -> None:
            await peer.crash()
            await asyncio.sleep(self._random.choice((0.01, 1.0, 5.0, 30.0)))
            self._busy.discard(peer.name)
            await peer.start()
            span.to_s = self._now_s

        self._spawn(rise())

    def _stop(self, peer: Peer) -> None:
        """Stop the process as SIGSTOP does, sometimes for longer than lease, hold and doubt."""
        if peer.name in self._busy:
            return
        self._busy.add(peer.name)
        span = self._witness.impaired(peer.name, "stopped")
        times, process = self._fleet.times, peer.life.process
        story_loop().stop_process(process)

        async def go_on() -> None:
            for_s = (0.3, times.send_window_s + 0.5, times.lease_s + 1, times.hold_s + 2)
            await asyncio.sleep(self._random.choice((*for_s, times.hold_s + times.heal_s)))
            story_loop().continue_process(process)
            self._busy.discard(peer.name)
            await asyncio.sleep(0)
            span.to_s = self._now_s

        self._spawn(go_on())

    def _leave(self, peer: Peer) -> None:
        """End the process as SIGTERM does, and start it again."""
        if peer.name in self._busy:
            return
        self._busy.add(peer.name)

        async def leave() -> None:
            parts = peer.parts
            vitals = Vitals(
                watch=parts.watch,
                journal=parts.claim_parts.journal,
                restraints=parts.claim_parts.restraints,
                lane=parts.lane,
                observer=parts.observer,
                clock=self._fleet.clock,
            )
            await Lifecycle(vitals=vitals).drain(
                (), claims_ended=parts.lane.drained, timeout_s=DRAIN_S
            )
            self._witness.drained.add(peer.life.process)
            await parts.lane.abandon()

        async def come_back() -> None:
            span = self._witness.impaired(peer.name, "left")
            await peer.launch(leave())
            is_cut_off = peer.store.is_away or not self._fleet.store.is_available
            was_cut_off = any(
                span.kind in ("cut", "outage") and span.to_s > self._now_s - DRAIN_S
                for span in self._witness.impairments
            )
            if peer.parts.spool.state.parked and not (is_cut_off or was_cut_off):
                self.report(f"I17: {peer.name} left with a parked pair")
            await peer.crash()
            await asyncio.sleep(self._random.choice((0.01, 5.0, 30.0)))
            self._busy.discard(peer.name)
            await peer.start()
            span.to_s = self._now_s

        self._spawn(come_back())

    async def _cut(self, peer: Peer) -> None:
        store, span = peer.store, self._witness.impaired(peer.name, "cut")
        store.is_away = True
        await asyncio.sleep(self._random.uniform(0.1, 15))
        store.is_away = False
        span.to_s = self._now_s

    async def _deafen(self, peer: Peer) -> None:
        store = peer.store
        store.is_deaf = True
        await asyncio.sleep(self._random.uniform(1, 30))
        store.is_deaf = False

    async def _lose_replies(self, peer: Peer) -> None:
        store, span = peer.store, self._witness.impaired(peer.name, "cut")
        lost = {"Acquire", "MarkSending", "KeepHold", "Commit", "Deny", "Release", "AdoptOrphan"}
        store.loses_replies_of |= lost
        await asyncio.sleep(self._random.uniform(0.01, 4))
        store.loses_replies_of.clear()
        span.to_s = self._now_s

    # --- everybody's ------------------------------------------------------------------------------

    async def _outage(self) -> None:
        span = self._witness.impaired(EVERYBODY, "outage")
        self._outages += 1
        self._fleet.store.is_available = False
        await asyncio.sleep(self._random.uniform(0.1, 10))
        self._outages -= 1
        self._fleet.store.is_available = not self._outages
        span.to_s = self._now_s

    def _restart(self, *, back_s: float | None) -> None:
        store = self._fleet.store
        span = self._witness.impaired(EVERYBODY, "restart" if back_s is None else "rollback")
        span.to_s = self._now_s
        back_to_ms = None if back_s is None else store.now_ms - int(back_s * 1000)
        self._watch.restart(run_id=RunId(f"{store.run_id}+"), back_to_ms=back_to_ms)

    def _may_consent(self, key: GrantKey) -> bool:
        if self._now_s - self._consented_s.get(key, 0.0) < A_PERSON_S:
            return False
        self._consented_s[key] = self._now_s
        return True

    async def _import(self, key: GrantKey) -> None:
        """Bring tokens that the app obtained itself, again and again until they are taken."""
        tokens = self._fleet.idp.pair_for_somebody_else(key)
        self.foreign[tokens.refresh_token.reveal()] = False
        consented_at_ms = int(self._fleet.clock.now_s() * 1000)
        order = Import(key=key, tokens=tokens, consented_at_ms=consented_at_ms, is_replacing=False)
        for _ in range(IMPORT_TRIES):
            peer = self._random.choice(self._fleet.peers)
            if not (peer.life.is_over or peer.parts.lane.is_shut):
                try:
                    outcome = await peer.launch(peer.take_over(order))
                except (LaneWorkFailed, asyncio.CancelledError):
                    continue  # it died over it
                if isinstance(outcome, Stored | Unchanged):
                    self.foreign[tokens.refresh_token.reveal()] = True
                    return
                if isinstance(outcome, ConsentSuperseded | GrantExists):
                    return
            await asyncio.sleep(1.0)

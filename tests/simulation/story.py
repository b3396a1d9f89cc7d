"""A random story of a fleet: one seed is one story, the same one step by step each time.

Sidecars look bearers up, heal, obtain, import, revoke, crash, stand still, leave and start again;
the store is cut off, restarted, taken back and wiped; the token service loses requests and answers.
The order in which whatever is ready at the same time runs is the seed's as well. Then everything is
well for a while, and the judge says which of the protocol's invariants do not hold.

Where each invariant is looked at: `watch` (I6, I7, I9, I11, I12, I16, I18 and the take-overs of
I10, at each step on a record), `witness` (I3, I4, I5, I13, I14, I17, at each step of a sidecar),
`judge` (I1, I2, I8, I10, I11, at the end). I15 cannot be seen here: nothing is really sealed.

It must not know how a sidecar does its work.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from random import Random
from typing import Any, Final, final

from sidecar.domain.events import ClaimEndedAs, GrantLookedAt, StoreSwept, WorkFailed
from sidecar.domain.policy import ProtocolTimes, RefreshAhead, RefreshPolicy
from sidecar.domain.record import GrantKey
from sidecar.domain.tokens import HealGranted, TokenFound
from sidecar.domain.wire import TokenRequest
from sidecar.service.lane import LaneWorkFailed
from tests.simulation.judge import Judge
from tests.simulation.troubles import Troubles
from tests.simulation.watch import Watch
from tests.simulation.witness import Witness
from tests.support.glass_sealer import GlassSealer
from tests.support.rotating_idp import Fault, Temper
from tests.support.virtual_fleet import Fleet, Peer
from tests.support.virtual_time import VirtualLoop

TIMES: Final = ProtocolTimes(
    lease_s=2.0,
    send_window_s=0.8,
    hold_s=8.0,
    keep_every_s=2.0,
    quarantine_s=4.0,
    heal_s=10.0,
    housekeeping_every_s=1.5,
    store_probe_every_s=1.5,
    store_check_every_s=3.0,
    commit_retry_limit_s=2.0,
    backoff_limit_s=4.0,
    unknown_backoff_limit_s=8.0,
    revoke_retry_s=2.0,
    canary_every_s=4.0,
    peer_poll_first_s=0.2,
    young_token_s=3.0,
    cool_first_s=3.0,
    due_poll_s=0.8,
    ahead_least_s=1.0,
    use_flush_s=1.0,
    sweep_every_s=12.0,
    sweep_poll_s=3.0,
)
"""Shorter than in earnest, in about the same proportions."""
PATIENCE: Final = RefreshPolicy(wait_s=5.0)
AHEAD: Final = (
    RefreshPolicy(wait_s=5.0, ahead=RefreshAhead.ALL),
    RefreshPolicy(wait_s=5.0, active_window_s=6.0),
    RefreshPolicy(wait_s=5.0, active_window_s=6.0, keepalive_s=12.0),
)
"""What a third of the stories choose of: their sidecars refresh without being asked, and sweep."""

STORY_S: Final = 40.0
LIFE_S: Final = 8
CALLS_A_SECOND: Final = 2.0
IDP_DELAYS_S: Final = (0.01, 0.05, 0.3, 2.0)
SETTLING_ROUNDS: Final = 4


@final
class Story:
    """One story.

    Attributes:
        violations: What broke an invariant.
        reached: How often what a story is about has happened.
    """

    def __init__(self, seed: int, *, has_faults: bool = True) -> None:
        self.violations: list[str] = []
        self.reached: Counter[str] = Counter()
        # A generator of its own: the rest of a story is the same whether or not it schedules.
        chosen = Random(f"schedule {seed}").randrange(3 * len(AHEAD))  # noqa: S311 - a story
        self.fleet = Fleet(times=TIMES, policy=AHEAD[chosen] if chosen < len(AHEAD) else PATIENCE)
        self.fleet.schedules = chosen < len(AHEAD)
        self.fleet.sealer = GlassSealer()
        self.random = Random(seed)  # noqa: S311 - a story, no secret
        users = range(self.random.choice((1, 2, 3)))
        self.keys = [GrantKey(user=f"u{number}", provider="mikomo") for number in users]
        self.watch = Watch(self.fleet.store, quarantine_s=TIMES.quarantine_s, report=self._report)
        self.witness = Witness(self.fleet, self.watch, report=self._report)
        self.troubles = Troubles(
            self.fleet, self.watch, self.witness, keys=self.keys, random=self.random
        )
        self._has_faults = has_faults
        self._callers: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Live through the story, let everything become well, and judge it."""
        fleet = self.fleet
        fleet.idp.life_s = LIFE_S
        fleet.latency_s = self._latency
        self.troubles.report = self._report
        self.watch.is_dead = self._is_dead
        for name in "abc"[: self.random.choice((2, 2, 3))]:
            await fleet.peer(name)
        for key in self.keys:
            await fleet.peers[0].obtain(key)
        if self._has_faults:
            self._let_things_go_wrong()
        await self._live()
        await self._become_well()
        Judge(self, is_faultless=not self._has_faults, report=self._report).judge()
        self._count()
        for peer in fleet.peers:
            await peer.stop()

    @property
    def whole(self) -> list[str]:
        """Everything that happened, line by line: the same for the same seed, anywhere."""
        passed = (f"{at_s!r} {process} {point}" for at_s, process, point in self.witness.trace)
        ledger = (f"{entry.at_s!r} {entry}" for entry in self.fleet.idp.ledger)
        return [*passed, *self.troubles.told, *ledger]

    @property
    def digest(self) -> str:
        """A name for everything that happened."""
        return hashlib.sha256("\n".join(self.whole).encode()).hexdigest()

    def _report(self, violation: str) -> None:
        self.violations.append(f"{self.fleet.clock.elapsed_s():.6f} {violation}")

    def _let_things_go_wrong(self) -> None:
        self.fleet.idp.temper = self.random.choice(list(Temper))
        self.fleet.idp.choose = self._fault
        self.troubles.every = self.random.choice((15.0, 40.0, 100.0))
        self.witness.strikes = self.troubles.strike
        doubled = self.random.choice((0.0, 0.05))
        self.watch.doubles = lambda: self.random.random() < doubled
        self._wire_faults = self.random.choice((0.0, 0.05, 0.2))

    def _is_dead(self, boot: str) -> bool:
        return not any(
            peer.parts.claim_parts.identity.boot_id == boot and not peer.life.is_over
            for peer in self.fleet.peers
        )

    def _latency(self) -> float:
        is_slow = self.troubles.every and self.random.random() < 0.01
        return self.random.uniform(0.3, 6.0) if is_slow else self.random.uniform(0.0002, 0.02)

    def _fault(self, _request: TokenRequest) -> Fault:
        if not self.troubles.every:
            return Fault.NONE
        self.fleet.idp.answer_after_s = self.random.choice(IDP_DELAYS_S)
        if self.random.random() >= self._wire_faults:
            return Fault.NONE
        return self.random.choice(list(Fault))

    # --- clients ----------------------------------------------------------------------------------

    async def _live(self) -> None:
        ends_s = self.fleet.clock.elapsed_s() + STORY_S
        while self.fleet.clock.elapsed_s() < ends_s:
            await asyncio.sleep(self.random.expovariate(CALLS_A_SECOND))
            peer, key = self.random.choice(self.fleet.peers), self.random.choice(self.keys)
            for _ in range(self.random.choice((1, 1, 1, 3))):
                self._call(peer, key)

    def _call(self, peer: Peer, key: GrantKey) -> None:
        """Let a client ask, which may leave at any time."""
        life = peer.life

        async def call() -> None:
            try:
                await self._ask(peer, key)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
                if not (life.is_over or life.process in self.witness.drained):
                    self._report(f"a call of {peer.name} raised {type(error).__name__}: {error}")

        if life.is_over:
            return
        caller = peer.launch(call())
        self._callers.append(caller)
        if self._has_faults and self.random.random() < 0.1:
            leave_in_s = self.random.expovariate(10)
            asyncio.get_running_loop().call_later(leave_in_s, caller.cancel)

    async def _ask(self, peer: Peer, key: GrantKey) -> None:
        chance = self.random.random()
        if chance < 0.1:
            record = self.fleet.store.records.get(peer.parts.grant(key))
            if record is not None:
                await peer.parts.broker.renew(key, known=record.position, wait_s=10)
            return
        found = await peer.ask(key)
        if not isinstance(found, TokenFound):
            return
        self.witness.served(peer, found)
        if chance < 0.2:
            healed = await peer.parts.broker.heal(key, found, product="accounts")
            if isinstance(healed, HealGranted):
                self.witness.served(peer, healed.found, rejected=found)

    # --- the end ----------------------------------------------------------------------------------

    async def _become_well(self) -> None:
        """End every trouble, then ask for each grant everywhere until nothing changes any more."""
        self.troubles.every = 0.0
        self.watch.doubles = lambda: False
        while not all(work.done() for work in self.troubles.work):
            await asyncio.wait(self.troubles.work)
        for turn in range(SETTLING_ROUNDS):
            for key in self.keys:
                self._call(self.fleet.peers[turn % len(self.fleet.peers)], key)
            await asyncio.sleep(TIMES.hold_s)
        for peer in self.fleet.peers:
            for key in self.keys:
                self._call(peer, key)
        await asyncio.gather(*self._callers, return_exceptions=True)
        for peer in self.fleet.peers:
            peer.parts.lane.serve_callers_only()
        await asyncio.sleep(2 * TIMES.housekeeping_every_s)

    def _count(self) -> None:
        self.reached.update(self.watch.reached)
        self.reached["points"] += len(self.witness.trace)
        self.reached["presentations"] += len(self.witness.sendings)
        self.reached.update(self.troubles.struck)
        for peer in self.fleet.peers:
            self.reached.update(f"due {look.outcome.value}" for look in peer.of(GrantLookedAt))
            self.reached["swept"] += len(peer.of(StoreSwept))
            self.reached.update(f"claim {end.outcome.value}" for end in peer.of(ClaimEndedAs))
            for failed in peer.of(WorkFailed):
                self._report(f"{peer.name} failed in {failed.where}: {failed.error}")


def tell(seed: int, *, has_faults: bool = True) -> Story:
    """Return the story of a seed, lived through."""
    # Every fourth story keeps asyncio's own order.
    order = None if seed % 4 == 0 else seed
    loops: list[VirtualLoop] = []

    def loop() -> VirtualLoop:
        loops.append(VirtualLoop(seed=order))
        return loops[0]

    async def live() -> Story:
        asyncio.get_running_loop().set_exception_handler(_ignore_the_dead)
        story = Story(seed, has_faults=has_faults)
        await story.run()
        return story

    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(live())


def _ignore_the_dead(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Let pass what a dead process owed to a client that had left already."""
    if not isinstance(context.get("exception"), LaneWorkFailed):
        loop.default_exception_handler(context)

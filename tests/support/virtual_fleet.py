"""Sidecars that crash and start again, in virtual time, on one store and one rotating IdP.

It must not know what a test asserts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast, final

from sidecar.adapters.memory_store import MemoryTokenStore
from sidecar.domain.events import Event
from sidecar.domain.outcomes import ImportOutcome, ObtainOutcome, RevokeOutcome
from sidecar.domain.policy import ProtocolTimes, RefreshPolicy
from sidecar.domain.record import GrantId, GrantKey, GrantRecord, GrantState, RunId
from sidecar.domain.secret import Secret
from sidecar.domain.tokens import TokenFound, TokenLookup
from sidecar.ports import Sealer
from sidecar.service.obtainer import Import
from sidecar.service.steward import InvalidateOutcome, Steward
from tests.support.idp_front import IdpFront
from tests.support.one_life import Disk, DistantStore, Life, LivingSpool
from tests.support.rotating_idp import RotatingIdp
from tests.support.sidecar_parts import KEY, REDIRECT_URI, SidecarParts, World, sealer
from tests.support.virtual_time import NOWHERE, story_clock, story_loop
from tests.support.wait import until

EventT = TypeVar("EventT")
ResultT = TypeVar("ResultT")


@final
class Peer:
    """One sidecar, over all its lives.

    Attributes:
        disk: Outlives it.
        store: The store as the running life sees it.
        life: The running life.
        parts: Those of the running life.
        events: Those of all lives.
    """

    def __init__(self, *, fleet: Fleet, name: str) -> None:
        self.disk = Disk()
        self.name = name
        self.events: list[Event] = []
        self._fleet = fleet
        self._boot = 0
        self._main: asyncio.Task[None] | None = None
        self._launched: dict[asyncio.Task[Any], None] = {}
        self._stopping, self._started = asyncio.Event(), asyncio.Event()

    async def start(self, *, dies_at: str | None = None, is_away: bool = False) -> None:
        """Start a new life and wait until its lane is open (or the store seen to be away)."""
        assert self._main is None, f"{self.name} lives"
        self._boot += 1
        self._stopping, self._started = asyncio.Event(), asyncio.Event()
        process = f"{self.name}{self._boot}"
        self.life = Life(dies_at=dies_at, mourn=self._mourn, process=process)
        self.store = DistantStore(store=self._fleet.store, life=self.life)
        self._fleet.prepare(self)
        self.store.is_away = is_away
        if self._fleet.latency_s is not None:
            self.store.latency_s = self._fleet.latency_s
        self.spool = LivingSpool(disk=self.disk, life=self.life, clock=self._fleet.clock)
        world = World(
            clock=self._fleet.clock,
            store=self.store,
            idp=IdpFront(service=self._fleet.idp, wire=self.life, peer=self.name),
            times=self._fleet.times,
            policy=self._fleet.policy,
            sealer=self._fleet.sealer,
        )
        self.parts = SidecarParts.build(world, spool=self.spool, name=self.name, boot=self._boot)
        self.parts.observer.events = self.events
        # Owned by this peer: ended by `stop`, or by its death.
        self._main = self.launch(self._live())
        await self._started.wait()

    def launch(self, work: Coroutine[Any, Any, ResultT]) -> asyncio.Task[ResultT]:
        """Start work in this sidecar's process, which ends with it."""
        context = self.life.context.copy()
        task = asyncio.get_running_loop().create_task(work, context=context)
        self._launched[task] = None
        task.add_done_callback(self._launched.pop)
        return task

    async def stop(self) -> None:
        """Let all work end, and then the sidecar."""
        main = self._main
        if main is not None:
            self._stopping.set()
            await asyncio.wait([main])
            await self._torn_down()

    async def crash(self) -> None:
        """Kill the sidecar where it stands."""
        self.life.end()
        await self._torn_down()

    async def died(self, *, within_s: float = 60.0) -> None:
        """Wait until the sidecar has died at its point."""
        await until(
            lambda: self.life.is_over,
            within_s=within_s,
            what=f"{self.name} to die at {self.life.dies_at}",
        )
        await self._torn_down()

    async def rest(self) -> None:
        """Wait until all work of the lane has ended; its callers may have left before."""
        await asyncio.sleep(0.01)  # what was launched just now has not begun yet
        await until(lambda: not self.parts.lane.running, within_s=1000, what="the lane to rest")

    async def ask(self, key: GrantKey = KEY) -> TokenLookup:
        """Look a bearer up as a request does."""
        return self.parts.broker.peek(key) or await self.parts.broker.token_for(key)

    async def obtain(self, key: GrantKey = KEY) -> ObtainOutcome:
        """Let the end user consent, and exchange the code."""
        code = Secret(self._fleet.idp.new_code(key))

        async def exchange() -> ObtainOutcome:
            return await self.parts.obtainer.obtain(key, code, redirect_uri=REDIRECT_URI)

        return await self.parts.lane.run(exchange, where="obtain")

    async def revoke(self, key: GrantKey = KEY) -> RevokeOutcome:
        """Order the revocation of a grant."""

        async def revocation() -> RevokeOutcome:
            return await self.parts.revoker.revoke(key)

        return await self.parts.lane.run(revocation, where="revocation")

    async def take_over(self, order: Import) -> ImportOutcome:
        """Import tokens that were obtained elsewhere."""

        async def take_over() -> ImportOutcome:
            return await self.parts.obtainer.take_over(order)

        return await self.parts.lane.run(take_over, where="import")

    async def invalidate(self, key: GrantKey = KEY) -> InvalidateOutcome:
        """Say that the consent is gone."""
        parts = self.parts
        steward = Steward(parts=parts.claim_parts, obtainer=parts.obtainer, revoker=parts.revoker)

        async def invalidate() -> InvalidateOutcome:
            return await steward.invalidate(key)

        return await parts.lane.run(invalidate, where="invalidation")

    def leftovers(self) -> list[str]:
        """Return the names of internal collections that should be empty at rest but are not."""
        parts = self.parts
        collections = {
            "flights": vars(parts.broker.flights)["_flights"],
            "hints": vars(parts.serving_parts.hints)["_waiting"],
            "reads": vars(parts.serving_parts.reader)["_reads"],
            "lane": vars(parts.lane)["_tasks"],
            "berths waited for": range(parts.berths.waiting),
            "berths running": range(parts.berths.running),
            "commits": vars(parts.claim_parts.committer)["_in_hand"],
            "intents": parts.claim_parts.journal.state.intents,
            "answers": parts.claim_parts.journal.state.answers,
            "orders": parts.claim_parts.journal.state.orders,
            "parked": parts.claim_parts.journal.state.parked,
        }
        return [name for name, held in collections.items() if len(held)]

    def of(self, kind: type[EventT]) -> list[EventT]:
        """Return the events of one kind, of all lives, oldest first."""
        return [event for event in self.events if isinstance(event, kind)]

    async def _live(self) -> None:
        async with self.parts.running(keeps_house=True, schedules=self._fleet.schedules):
            self._started.set()
            await self._stopping.wait()

    def _mourn(self) -> None:
        self._started.set()
        asyncio.get_running_loop().call_soon(self._tear_down, context=NOWHERE)

    def _tear_down(self) -> None:
        # What a dead process does not do any more must at least end here, stopped or not.
        story_loop().continue_process(self.life.process)
        for task in self._tasks():
            task.cancel()

    async def _torn_down(self) -> None:
        await asyncio.gather(*self._tasks(), return_exceptions=True)
        self._main = None

    def _tasks(self) -> list[asyncio.Task[Any]]:
        running = cast("set[asyncio.Task[None]]", vars(self.parts.lane)["_tasks"])
        return [*running, *self._launched]


@final
class Fleet:
    """Sidecars, the store and the token service of one story.

    Attributes:
        prepare: Told of each peer that is about to start a life.
        latency_s: Of each way to the store; ``None``: half a millisecond.
        sealer: The fleet's; a test may take one that costs less.
        schedules: Whether sidecars do what nobody asks for: due grants, sweeps.
    """

    def __init__(
        self, *, times: ProtocolTimes | None = None, policy: RefreshPolicy | None = None
    ) -> None:
        self.clock = story_clock()
        self.store = MemoryTokenStore(clock=self.clock)
        self.idp = RotatingIdp(clock=self.clock)
        self.times = times or ProtocolTimes()
        self.policy = policy or RefreshPolicy()
        self.prepare: Callable[[Peer], None] = _nothing_special
        self.latency_s: Callable[[], float] | None = None
        self.sealer: Sealer = sealer()
        self.schedules = False
        self.peers: list[Peer] = []

    async def peer(self, name: str = "a", *, dies_at: str | None = None) -> Peer:
        """Start one more sidecar."""
        peer = Peer(fleet=self, name=name)
        self.peers.append(peer)
        await peer.start(dies_at=dies_at)
        return peer

    async def with_expired_grant(self, name: str = "a") -> Peer:
        """Start a sidecar, obtain a grant with it and let the bearer expire."""
        peer = await self.peer(name)
        await peer.obtain()
        await until_expiry(self)
        peer.life.trace.clear()
        peer.events.clear()
        return peer

    async def forgets_what_it_confirmed(self, peer: Peer) -> None:
        """Have a peer refresh its grant, and the store forget that; its quarantine is long over.

        Nobody notices where the times leave no look at the store in between.
        """
        before = dict(self.store.records)
        await peer.ask()
        await peer.rest()
        self.restart_store(before, met_s_ago=61)

    async def end(self) -> None:
        """Stop every sidecar that lives."""
        for peer in self.peers:
            await peer.stop()

    def record(self, peer: Peer, key: GrantKey = KEY) -> GrantRecord:
        """Return a record as it stands in the store."""
        return self.store.records[peer.parts.grant(key)]

    def is_revoked(self, peer: Peer, key: GrantKey = KEY) -> bool:
        """Whether a grant is revoked here and at Akoya."""
        record = self.record(peer, key)
        return record.state is GrantState.REVOKED and self.idp.live_token(key) is None

    def stored_token(self, peer: Peer, key: GrantKey = KEY) -> str:
        """Return the refresh token that the store holds for a grant."""
        pair = self.record(peer, key).pair
        return peer.parts.vault.open_pair(peer.parts.grant(key), pair).refresh_token.reveal()

    def restart_store(
        self, records: dict[GrantId, GrantRecord] | None = None, *, met_s_ago: int | None = None
    ) -> None:
        """Restart the store, perhaps with an older copy of its records and met long ago."""
        self.store.run_id = RunId(f"{self.store.run_id}+")
        if met_s_ago is not None:
            self.store.incarnations[self.store.run_id] = self.store.now_ms - met_s_ago * 1000
        if records is not None:
            self.store.records = dict(records)


def _nothing_special(peer: Peer) -> None:
    """Most tests leave a peer as it is."""
    del peer


def bearer_of(lookup: TokenLookup) -> str:
    """Return the bearer of a look-up that found one."""
    assert isinstance(lookup, TokenFound), lookup
    return lookup.bearer.reveal()


async def until_expiry(fleet: Fleet) -> None:
    """Let every bearer expire."""
    await asyncio.sleep(fleet.idp.life_s)

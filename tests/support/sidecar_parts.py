"""A sidecar without processes, listeners or a Redis: every service on memory adapters, one loop.

Two of them on one store are two peers. It wires and keeps house only as far as a test asks; it must
not know what a test asserts.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Self, TypeVar, final

from sidecar.adapters.memory_spool import MemorySpool
from sidecar.adapters.memory_store import MemoryTokenStore
from sidecar.adapters.sealing import AesGcmSealer
from sidecar.domain.events import Event
from sidecar.domain.policy import ProtocolTimes, RefreshPolicy
from sidecar.domain.record import BootId, GrantId, GrantKey, ReplicaId
from sidecar.domain.scheduling import Schedule
from sidecar.domain.secret import Secret
from sidecar.domain.token_requests import ClientCredentials, RefreshAuth
from sidecar.ports import Clock, IdentityProvider, Sealer, Spool, TokenStore
from sidecar.service.app_requests import TokenRequests
from sidecar.service.bank_breakers import BankBreakers
from sidecar.service.berths import BerthLimits, Berths
from sidecar.service.brake import Brake
from sidecar.service.broker import Broker
from sidecar.service.claim_parts import ClaimParts, Identity, Restraints
from sidecar.service.committer import Committer
from sidecar.service.cooler import Cooler
from sidecar.service.credentials_gate import CredentialsGate
from sidecar.service.fleet_throttle import FleetThrottle
from sidecar.service.hints import Hints
from sidecar.service.journal import Journal
from sidecar.service.lane import ClaimLane
from sidecar.service.obtainer import Obtainer
from sidecar.service.owner_repeats import OwnerRepeats
from sidecar.service.planner import Planner
from sidecar.service.reconciler import Crew, Reconciler
from sidecar.service.record_reader import RecordReader
from sidecar.service.refresher import Refresher
from sidecar.service.revoker import Revoker
from sidecar.service.scheduler import Scheduler
from sidecar.service.serving_parts import ServingParts
from sidecar.service.settler import Settler
from sidecar.service.store_clock import StoreClock
from sidecar.service.store_troubles import StoreTroubles
from sidecar.service.store_watch import StoreWatch
from sidecar.service.sweeper import Sweeper
from sidecar.service.token_cache import TokenCache
from sidecar.service.use_log import UseLog
from sidecar.service.vault import Vault
from sidecar.telemetry.tracing import NoTracer
from tests.support.fake_clock import FakeClock
from tests.support.scripted_idp import ScriptedIdp

EventT = TypeVar("EventT")

KEY: Final = GrantKey(user="u-1", provider="mikomo")
REDIRECT_URI: Final = "https://app.example/callback"
CLIENT_ID: Final = "client-1"
CLIENT_SECRET: Final = "canary-client-secret-0123456789"
Keys = Sequence[tuple[str, bytes]]
KEYS: Final[Keys] = (("k1", b"k" * 32),)
FAST: Final = ProtocolTimes(
    owner_retry_pauses_s=(0.001, 0.002, 0.003),
    commit_retry_first_s=0.001,
    commit_retry_limit_s=0.01,
    peer_poll_first_s=0.001,
    peer_poll_limit_s=0.01,
    housekeeping_every_s=0.005,
    store_probe_every_s=0.01,
    acquire_patience_s=0.2,
)
"""The protocol's times, with the pauses shortened that a real loop would sit out."""


@final
class RecordingObserver:
    """Keeps every event.

    Attributes:
        fails: Whether it raises at each event from now on, whatever it promised.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.fails = False

    def observe(self, event: Event) -> None:
        """Take note of one event."""
        if self.fails:
            raise RuntimeError
        self.events.append(event)

    def of(self, kind: type[EventT]) -> list[EventT]:
        """Return the events of one kind, oldest first."""
        return [event for event in self.events if isinstance(event, kind)]


@final
class CountingEntropy:
    """Ids that count up, and no jitter; `name` is in each, so that peers never choose the same."""

    def __init__(self, *, name: str = "") -> None:
        self._name = name.encode().hex()
        self._count = 0

    def new_id(self) -> str:
        """Return the next id: 32 hex digits."""
        self._count += 1
        return f"{self._name}{self._count:x}".rjust(32, "0")

    def fraction(self) -> float:
        """Return no jitter."""
        return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What sidecars share, and what a test moves.

    Attributes:
        clock: Everybody's; the store's too.
        sealer: The fleet's; ``None``: the real one, with keys of the tests.
    """

    clock: Clock
    store: TokenStore
    idp: IdentityProvider
    times: ProtocolTimes
    policy: RefreshPolicy
    sealer: Sealer | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SidecarParts:
    """Every part of one sidecar, wired; nothing runs but what a test starts.

    Attributes:
        spool: Outlives the parts: hand it to the parts of the next start.
    """

    spool: Spool
    observer: RecordingObserver
    claim_parts: ClaimParts
    watch: StoreWatch
    berths: Berths
    refresher: Refresher
    obtainer: Obtainer
    revoker: Revoker
    reconciler: Reconciler
    scheduler: Scheduler
    sweeper: Sweeper
    serving_parts: ServingParts
    broker: Broker

    @classmethod
    def build(cls, world: World, *, spool: Spool, name: str = "a", boot: int = 1) -> Self:
        """Wire a sidecar on the running loop; its lane opens when the spool was replayed.

        Args:
            world: Shared with its peers.
            spool: Its own; `name` goes with it.
            name: Tells peers apart.
            boot: Tells the starts of one sidecar apart.
        """
        observer = RecordingObserver()
        parts = _claim_parts(world, spool=spool, observer=observer, name=name, boot=boot)
        watch = StoreWatch(
            store=world.store,
            store_clock=parts.store_clock,
            clock=world.clock,
            observer=observer,
            troubles=StoreTroubles(behind=observer, clock=world.clock),
        )
        refresher, revoker = Refresher(parts=parts), Revoker(parts=parts)
        berths = Berths(limits=BerthLimits(), slow_after_s=world.times.slow_claim_s)
        lane = ClaimLane(
            loop=asyncio.get_running_loop(), refresher=refresher, berths=berths, observer=observer
        )
        serving_parts = _serving_parts(parts, watch=watch, lane=lane)
        return cls(
            spool=spool,
            observer=observer,
            claim_parts=parts,
            watch=watch,
            berths=berths,
            refresher=refresher,
            obtainer=Obtainer(parts=parts),
            revoker=revoker,
            reconciler=Reconciler(
                parts=parts,
                watch=watch,
                crew=Crew(lane=lane, refresher=refresher, revoker=revoker),
                adopted_directories=0,
            ),
            scheduler=Scheduler(parts=parts, watch=watch, lane=lane),
            sweeper=Sweeper(parts=parts, watch=watch),
            serving_parts=serving_parts,
            broker=Broker(parts=serving_parts),
        )

    @property
    def lane(self) -> ClaimLane:
        """Where everything runs that changes records."""
        return self.serving_parts.lane

    @property
    def vault(self) -> Vault:
        """Opens what the store and the spool hold."""
        return self.claim_parts.vault

    def grant(self, key: GrantKey = KEY) -> GrantId:
        """Return the keyed hash of a grant's key."""
        return self.vault.grant_id(key)

    @asynccontextmanager
    async def running(
        self, *, keeps_house: bool = False, schedules: bool = False
    ) -> AsyncGenerator[Self]:
        """Open the lane by one round of housekeeping; more rounds follow only if asked for.

        So does the work that nobody asks for: due grants, sweeps, uses told to the fleet.

        At the end the lane is drained, so whatever a test left in flight must be able to end.
        """
        async with self.serving_parts.reader, self.broker.flights, asyncio.TaskGroup() as group:
            await self.reconciler.tick()
            kept = [group.create_task(self.broker.listen())]
            if keeps_house:
                kept.append(group.create_task(self.reconciler.run()))
                kept.append(group.create_task(self.reconciler.listen()))
            if schedules:
                works = (self.scheduler.run, self.sweeper.run, self.serving_parts.uses.run)
                kept.extend(group.create_task(work()) for work in works)
            try:
                yield self
                self.lane.serve_callers_only()
                await self.lane.drained()
            finally:
                for task in kept:
                    task.cancel()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """One sidecar with its world in the test's hands."""

    clock: FakeClock
    store: MemoryTokenStore
    idp: ScriptedIdp
    spool: MemorySpool
    world: World
    parts: SidecarParts


def make_rig(
    *,
    times: ProtocolTimes = FAST,
    policy: RefreshPolicy | None = None,
    idp: ScriptedIdp | None = None,
) -> Rig:
    """Return a sidecar on memory adapters and a scripted token service, on the running loop."""
    clock = FakeClock()
    store = MemoryTokenStore(clock=clock)
    idp = ScriptedIdp() if idp is None else idp
    spool = MemorySpool(clock=clock)
    world = World(
        clock=clock,
        store=store,
        idp=idp,
        times=times,
        policy=policy or RefreshPolicy(),
    )
    parts = SidecarParts.build(world, spool=spool)
    return Rig(clock=clock, store=store, idp=idp, spool=spool, world=world, parts=parts)


def sealer(keys: Keys = KEYS) -> AesGcmSealer:
    """Return the sealer that all sidecars of a test's fleet share."""
    return AesGcmSealer(keys=keys, hash_key=b"h" * 32, environment="sandbox", client_id=CLIENT_ID)


def _claim_parts(
    world: World, *, spool: Spool, observer: RecordingObserver, name: str, boot: int
) -> ClaimParts:
    credentials = ClientCredentials(client_id=CLIENT_ID, client_secret=Secret(CLIENT_SECRET))
    entropy = CountingEntropy(name=f"{name}{boot}")
    journal = Journal(spool=spool, clock=world.clock, observer=observer)
    store_clock = StoreClock(clock=world.clock)
    rules = Schedule(policy=world.policy, times=world.times)
    planner = Planner(agenda=world.store, rules=rules, store_clock=store_clock)
    restraints = _restraints(world, store_clock=store_clock, observer=observer)
    return ClaimParts(
        store=world.store,
        journal=journal,
        committer=Committer(
            store=world.store,
            journal=journal,
            planner=planner,
            entropy=entropy,
            observer=observer,
        ),
        planner=planner,
        settler=Settler(store=world.store, brake=restraints.brake, observer=observer),
        restraints=restraints,
        idp=world.idp,
        requests=TokenRequests(
            credentials=lambda: credentials,
            refresh_auth=RefreshAuth.BODY,
            revoke_path="/revoke",
        ),
        vault=Vault(sealer=world.sealer or sealer()),
        store_clock=store_clock,
        clock=world.clock,
        entropy=entropy,
        observer=observer,
        tracer=NoTracer(),
        identity=Identity(
            replica_id=ReplicaId(f"replica-{name}"), boot_id=BootId(f"boot-{name}-{boot}")
        ),
        times=world.times,
        policy=world.policy,
    )


def _restraints(
    world: World, *, store_clock: StoreClock, observer: RecordingObserver
) -> Restraints:
    throttle = FleetThrottle(store=world.store, observer=observer)
    return Restraints(
        brake=Brake(
            throttle=throttle,
            store=world.store,
            store_clock=store_clock,
            limit=world.policy.brake_limit,
        ),
        gate=CredentialsGate(
            throttle=throttle,
            store_clock=store_clock,
            canary_every_s=world.times.canary_every_s,
        ),
        banks=BankBreakers(clock=world.clock, observer=observer),
        repeats=OwnerRepeats(clock=world.clock, observer=observer),
    )


def _serving_parts(parts: ClaimParts, *, watch: StoreWatch, lane: ClaimLane) -> ServingParts:
    return ServingParts(
        store=parts.store,
        reader=RecordReader(store=parts.store, watch=watch),
        cache=TokenCache(
            vault=parts.vault,
            clock=parts.clock,
            store_clock=parts.store_clock,
            refresh_policy=parts.policy,
        ),
        uses=UseLog(
            agenda=parts.store,
            rules=parts.planner.rules,
            watch=watch,
            clock=parts.clock,
            store_clock=parts.store_clock,
        ),
        vault=parts.vault,
        cooler=Cooler(parts=parts),
        lane=lane,
        hints=Hints(),
        store_clock=parts.store_clock,
        clock=parts.clock,
        entropy=parts.entropy,
        observer=parts.observer,
        times=parts.times,
        policy=parts.policy,
    )

"""The side of the sidecar that changes records: claims, exchanges, revocations, housekeeping.

Everything here lives on the claim lane's own event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sidecar.adapters.http_idp import HttpIdentityProvider
from sidecar.adapters.loop_thread import LoopThread
from sidecar.adapters.redis_store import RedisTokenStore
from sidecar.adapters.secret_file import SecretFile
from sidecar.adapters.trust import Trust
from sidecar.app.base import Base
from sidecar.app.event_loop import new_event_loop
from sidecar.app.upkeep import ended, kept
from sidecar.domain.record import BootId
from sidecar.domain.secret import Secret
from sidecar.domain.token_requests import ClientCredentials, RefreshAuth
from sidecar.ports import StoreUnavailable
from sidecar.service.app_requests import TokenRequests
from sidecar.service.bank_breakers import BankBreakers
from sidecar.service.berths import BerthLimits, Berths
from sidecar.service.brake import Brake
from sidecar.service.claim_parts import ClaimParts, Identity, Restraints
from sidecar.service.committer import Committer
from sidecar.service.cooler import Cooler
from sidecar.service.credentials_gate import CredentialsGate
from sidecar.service.fleet_throttle import FleetThrottle
from sidecar.service.journal import Journal
from sidecar.service.lane import ClaimLane
from sidecar.service.obtainer import Obtainer
from sidecar.service.owner_repeats import OwnerRepeats
from sidecar.service.planner import Planner
from sidecar.service.reconciler import Crew, Reconciler
from sidecar.service.refresher import Refresher
from sidecar.service.revoker import Revoker
from sidecar.service.scheduler import Scheduler
from sidecar.service.settler import Settler
from sidecar.service.steward import Steward
from sidecar.service.store_watch import StoreWatch
from sidecar.service.sweeper import Sweeper
from sidecar.settings import Settings
from sidecar.settings.forms import VISIBLE


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneSide:
    """The claim lane and everybody who works in it."""

    thread: LoopThread
    store: RedisTokenStore
    idp: HttpIdentityProvider
    client_secret: Callable[[], Secret]
    parts: ClaimParts
    watch: StoreWatch
    lane: ClaimLane
    steward: Steward
    cooler: Cooler
    reconciler: Reconciler
    scheduler: Scheduler
    sweeper: Sweeper
    keeping: list[asyncio.Task[None]]

    @classmethod
    def build(cls, base: Base) -> Self:
        """Wire the lane; nothing runs yet."""
        thread = LoopThread(name="claim-lane", loop=new_event_loop())
        store = base.new_store()
        idp, client_secret = idp_of(base.settings, base.trust), _client_secret(base)
        parts = _claim_parts(base, store, idp, _token_requests(base, client_secret))
        refresher, revoker = Refresher(parts=parts), Revoker(parts=parts)
        watch = StoreWatch(
            store=store,
            store_clock=base.store_clock,
            clock=base.clock,
            observer=base.observer,
            troubles=base.troubles,
        )
        lane = ClaimLane(
            loop=thread.loop,
            refresher=refresher,
            berths=Berths(limits=BerthLimits(), slow_after_s=base.times.slow_claim_s),
            observer=base.observer,
        )
        return cls(
            thread=thread,
            store=store,
            idp=idp,
            client_secret=client_secret,
            parts=parts,
            watch=watch,
            lane=lane,
            steward=Steward(parts=parts, obtainer=Obtainer(parts=parts), revoker=revoker),
            cooler=Cooler(parts=parts),
            reconciler=Reconciler(
                parts=parts,
                watch=watch,
                crew=Crew(lane=lane, refresher=refresher, revoker=revoker),
                adopted_directories=base.spool.adopted_directories,
            ),
            scheduler=Scheduler(parts=parts, watch=watch, lane=lane),
            sweeper=Sweeper(parts=parts, watch=watch),
            keeping=[],
        )

    async def start(self) -> None:
        """Replay the spool if the store is there, and keep house from then on."""
        self.thread.start()
        await self.thread.call(self._start())

    async def work_unasked(self) -> None:
        """Look after due grants and sweep from now on; only once the store was found fit."""
        await self.thread.call(self._keep(self.scheduler.run, self.sweeper.run))

    async def renew(self, settings: Settings, trust: Trust, *, reconnects: bool) -> None:
        """Work with other credentials from the next request on; what is in flight keeps its own."""
        self.idp.renew(tls=trust.context, egress_proxy=egress_of(settings))
        await self.thread.call(self._renew(settings, trust, reconnects=reconnects))

    async def _renew(self, settings: Settings, trust: Trust, *, reconnects: bool) -> None:
        self.client_secret()  # whose file is looked at with each use, and now
        if reconnects:
            await self.store.renew(url=settings.redis_url.reveal(), trust=trust)

    async def drained(self) -> None:
        """Wait until no work of the lane runs; called from the serving side."""
        await self.thread.call(self.lane.drained())

    async def stop(self) -> None:
        """End the housekeeping, let the store and the spool go, and end the thread."""
        await self.thread.call(self._stop())
        self.thread.stop()

    async def _start(self) -> None:
        await self.reconciler.tick()
        await self._keep(self.reconciler.run, self.reconciler.listen)

    async def _keep(self, *works: Callable[[], Awaitable[None]]) -> None:
        loop = asyncio.get_running_loop()
        # The lane owns its tasks in a list: a group would end all of them with the first failure.
        for work in works:
            self.keeping.append(loop.create_task(kept(work, observer=self.parts.observer)))

    async def _stop(self) -> None:
        await ended(self.keeping)
        # Only then the spool: what a claim has read when it is ended belongs on the disk.
        await self.lane.abandon()
        with suppress(StoreUnavailable):  # a sweep brings it back
            await self.parts.planner.tell()
        self.parts.journal.close()
        await self.store.close()


def _claim_parts(
    base: Base, store: RedisTokenStore, idp: HttpIdentityProvider, requests: TokenRequests
) -> ClaimParts:
    observer = base.observer
    journal = Journal(spool=base.spool, clock=base.clock, observer=observer)
    planner = Planner(agenda=store, rules=base.schedule, store_clock=base.store_clock)
    committer = Committer(
        store=store,
        journal=journal,
        planner=planner,
        entropy=base.entropy,
        observer=observer,
    )
    restraints = _restraints(base, store)
    return ClaimParts(
        store=store,
        journal=journal,
        committer=committer,
        planner=planner,
        settler=Settler(store=store, brake=restraints.brake, observer=observer),
        restraints=restraints,
        idp=idp,
        requests=requests,
        vault=base.vault,
        store_clock=base.store_clock,
        clock=base.clock,
        entropy=base.entropy,
        observer=observer,
        tracer=base.tracer,
        identity=Identity(replica_id=base.spool.replica_id, boot_id=BootId(base.entropy.new_id())),
        times=base.times,
        policy=base.policy,
    )


def idp_of(settings: Settings, trust: Trust) -> HttpIdentityProvider:
    """Return the token service of these settings; nothing connects yet."""
    return HttpIdentityProvider(
        idp_url=settings.effective_idp_url,
        connect_timeout_s=settings.idp_connect_timeout_s,
        tls=trust.context,
        egress_proxy=egress_of(settings),
    )


def egress_of(settings: Settings) -> str | None:
    """Return the URL of the HTTP proxy that Akoya is reached through, if any."""
    return None if settings.egress_proxy is None else settings.egress_proxy.reveal()


def _restraints(base: Base, store: RedisTokenStore) -> Restraints:
    throttle = FleetThrottle(store=store, observer=base.observer)
    return Restraints(
        brake=Brake(
            throttle=throttle,
            store=store,
            store_clock=base.store_clock,
            limit=base.policy.brake_limit,
        ),
        gate=CredentialsGate(
            throttle=throttle,
            store_clock=base.store_clock,
            canary_every_s=base.times.canary_every_s,
        ),
        banks=BankBreakers(clock=base.clock, observer=base.observer),
        repeats=OwnerRepeats(clock=base.clock, observer=base.observer),
    )


def _token_requests(base: Base, secret: Callable[[], Secret]) -> TokenRequests:
    settings = base.settings
    return TokenRequests(
        credentials=lambda: ClientCredentials(
            client_id=settings.akoya_client_id, client_secret=secret()
        ),
        refresh_auth=RefreshAuth(settings.refresh_auth),
        revoke_path=settings.revoke_path,
    )


def _client_secret(base: Base) -> Callable[[], Secret]:
    given = base.settings.akoya_client_secret
    if given.file is None:
        return lambda: given.secret
    return SecretFile(
        Path(given.file),
        first=given.secret,
        accepts=lambda text: VISIBLE.fullmatch(text) is not None,
        observer=base.observer,
    ).current

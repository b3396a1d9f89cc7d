"""The first things that a sidecar is made of: clock, telemetry, spool, sealer, domain values.

Settings end here: from now on only domain values and ports go on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sidecar import __version__
from sidecar.adapters.descriptors import raise_descriptor_limit
from sidecar.adapters.file_spool import FileSpool
from sidecar.adapters.redis_store import RedisTokenStore
from sidecar.adapters.sealing import AesGcmSealer
from sidecar.adapters.system import SystemClock, SystemEntropy
from sidecar.adapters.trust import Trust
from sidecar.domain.descriptors import DescriptorShares, descriptors_for, share_descriptors
from sidecar.domain.events import ConfigurationWarned, DescriptorsShared
from sidecar.domain.policy import ProbePolicy, ProtocolTimes, RefreshAhead, RefreshPolicy
from sidecar.domain.scheduling import Schedule
from sidecar.ports import Clock, Entropy, Observer, Tracer
from sidecar.service.status_board import StatusBoard
from sidecar.service.store_clock import StoreClock
from sidecar.service.store_troubles import StoreTroubles
from sidecar.service.vault import Vault
from sidecar.settings import Settings
from sidecar.telemetry.logging import Log
from sidecar.telemetry.metrics import Metrics, MetricsPage
from sidecar.telemetry.observer import TelemetryObserver
from sidecar.telemetry.tracing import open_tracer


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What events are rendered into."""

    metrics: Metrics
    log: Log


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What both sides of the sidecar, the serving one and the lane, are built on."""

    settings: Settings
    trust: Trust
    times: ProtocolTimes
    schedule: Schedule
    clock: Clock
    entropy: Entropy
    observer: Observer
    tracer: Tracer
    board: StatusBoard
    troubles: StoreTroubles
    metrics_page: MetricsPage
    spool: FileSpool
    vault: Vault
    store_clock: StoreClock
    shares: DescriptorShares

    @property
    def policy(self) -> RefreshPolicy:
        """What the operator chose about refreshing."""
        return self.schedule.policy

    @classmethod
    def build(
        cls, settings: Settings, times: ProtocolTimes, *, trust: Trust, telemetry: Telemetry
    ) -> Self:
        """Build the base.

        Raises:
            SpoolError: The spool directory cannot be used.
            TracesRefused: OpenTelemetry does not accept what its variables say.
        """
        metrics = telemetry.metrics
        clock, entropy = SystemClock(), SystemEntropy()
        tracer, shown = open_tracer(
            settings.traces,
            version=__version__,
            behind=TelemetryObserver(metrics=metrics, log=telemetry.log),
            failed=metrics.observer_failures.add,
        )
        troubles = StoreTroubles(behind=shown, clock=clock)
        board = StatusBoard(behind=troubles, clock=clock)
        return cls(
            settings=settings,
            trust=trust,
            times=times,
            schedule=Schedule(policy=_policy(settings), times=times),
            clock=clock,
            entropy=entropy,
            observer=board,
            tracer=tracer,
            board=board,
            troubles=troubles,
            metrics_page=MetricsPage(metrics.registry),
            spool=FileSpool.open(Path(settings.spool_dir), clock=clock, entropy=entropy),
            vault=vault_of(settings),
            store_clock=StoreClock(clock=clock),
            shares=_share(settings, observer=board),
        )

    def new_store(self) -> RedisTokenStore:
        """Return a store of its own for one event loop."""
        return store_of(self.settings, trust=self.trust, observer=self.observer, clock=self.clock)


def store_of(
    settings: Settings, *, trust: Trust, observer: Observer, clock: Clock
) -> RedisTokenStore:
    """Return the store of these settings; nothing connects yet."""
    return RedisTokenStore(
        url=settings.redis_url.reveal(),
        prefix=settings.redis_prefix,
        observer=observer,
        clock=clock,
        trust=trust,
    )


def _share(settings: Settings, *, observer: Observer) -> DescriptorShares:
    """Raise the limit of descriptors as far as the system lets us, and share them out."""
    allowed = raise_descriptor_limit()
    shares = share_descriptors(
        allowed.limit,
        max_in_flight=settings.max_in_flight,
        has_connect=settings.connect_listen is not None,
    )
    observer.observe(
        DescriptorsShared(
            limit=allowed.limit,
            was=allowed.was,
            proxy=shares.proxy,
            control=shares.control,
            metrics=shares.metrics,
            connect=shares.connect,
            in_flight=shares.in_flight,
        )
    )
    if shares.in_flight < settings.max_in_flight:
        needed = descriptors_for(settings.max_in_flight)
        observer.observe(
            ConfigurationWarned(
                subject="SIDECAR_MAX_IN_FLIGHT",
                advice=f"only {shares.in_flight} calls at a time: raise the hard limit of open "
                f"files (`ulimit -Hn`, `LimitNOFILE`) to {needed}",
            )
        )
    return shares


def _policy(settings: Settings) -> RefreshPolicy:
    return RefreshPolicy(
        lead_s=settings.refresh_lead_s,
        ahead=RefreshAhead(settings.refresh_ahead),
        active_window_s=settings.active_window_s,
        keepalive_s=settings.keepalive_s,
        max_age_s=int(settings.id_token_max_age_s),
        wait_s=settings.refresh_wait_s,
        exchange_wait_s=settings.idp_timeout_s,
        probes=ProbePolicy(settings.probe_policy),
        brake_limit=settings.brake_limit,
    )


def vault_of(settings: Settings) -> Vault:
    """Return what seals and opens with the keys of these settings."""
    return Vault(
        sealer=AesGcmSealer(
            keys=[(key.key_id, key.key) for key in settings.encryption_keys],
            hash_key=settings.hash_key,
            environment=settings.akoya_environment,
            client_id=settings.akoya_client_id,
        )
    )

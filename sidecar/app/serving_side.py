"""The side of the sidecar that serves requests: bearers, the proxy, and the listeners.

Everything here lives on the main event loop; it reads records and never changes one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from sidecar import __version__
from sidecar.adapters.redis_store import RedisTokenStore
from sidecar.adapters.trust import Trust
from sidecar.app.base import Base
from sidecar.app.lane_side import LaneSide, egress_of
from sidecar.app.upkeep import ended, kept
from sidecar.domain.events import LoopLagged
from sidecar.domain.secret import Secret
from sidecar.http.connect import ConnectOptions, ConnectPorts, ConnectSite
from sidecar.http.control import ControlApi, ControlOptions, ControlPorts
from sidecar.http.control_calls import ConsentPage
from sidecar.http.exchange import ProxyPorts
from sidecar.http.proxy import Proxy, ProxyOptions
from sidecar.http.upstream import Upstream, UpstreamOptions
from sidecar.service.broker import Broker
from sidecar.service.connects import ConnectDesk, ConnectTerms
from sidecar.service.grants import GrantDesk
from sidecar.service.health import Health
from sidecar.service.hints import Hints
from sidecar.service.record_reader import RecordReader
from sidecar.service.serving_parts import ServingParts
from sidecar.service.status_desk import StatusDesk
from sidecar.service.token_cache import TokenCache
from sidecar.service.use_log import UseLog
from sidecar.settings import NamedKey, Settings

LAG_EVERY_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingSide:
    """Whoever answers requests."""

    base: Base
    store: RedisTokenStore
    broker: Broker
    reader: RecordReader
    uses: UseLog
    upstream: Upstream
    proxy: Proxy
    control: ControlApi
    connect: ConnectSite | None

    @classmethod
    def build(cls, base: Base, lane_side: LaneSide, *, health: Health) -> Self:
        """Wire the serving side; call it on the loop that serves."""
        store = base.new_store()
        reader = RecordReader(store=store, watch=lane_side.watch)
        parts = _serving_parts(base, lane_side, store=store, reader=reader)
        broker = Broker(parts=parts)
        upstream = Upstream(options=_upstream_options(base.settings, base.trust))
        ports = ProxyPorts(
            source=broker,
            observer=base.observer,
            tracer=base.tracer,
            clock=base.clock,
            entropy=base.entropy,
        )
        proxy = Proxy(options=_proxy_options(base), upstream=upstream, ports=ports)
        desk = GrantDesk(parts=parts, broker=broker, steward=lane_side.steward)
        status = _status(base, lane_side, health)
        connects = _connects(base, desk, store)
        return cls(
            base=base,
            store=store,
            broker=broker,
            reader=reader,
            uses=parts.uses,
            upstream=upstream,
            proxy=proxy,
            control=_control(base, desk, status=status, connects=connects),
            connect=None if connects is None else _connect(base, connects),
        )

    async def keep(self) -> None:
        """Listen to peers, forget ended bearers and measure the loop, until cancelled."""
        works = (self.broker.listen, self.broker.sweep, self.uses.run, self._measure_lag)
        loop = asyncio.get_running_loop()
        # Owned here, and not by a group, which would ask them to end only once.
        tasks = [loop.create_task(kept(work, observer=self.base.observer)) for work in works]
        try:
            await asyncio.wait(tasks)
        finally:
            await ended(tasks)

    async def renew(
        self, settings: Settings, trust: Trust, *, reconnects: bool, redials: bool
    ) -> None:
        """Let in and connect as `settings` say from now on; what is in flight goes on as it began.

        Args:
            settings: Of the same addresses as before.
            trust: Whom to trust.
            reconnects: Whether connections to the store go.
            redials: Whether connections to the data APIs go.
        """
        self.proxy.renew_keys(_keys_by_name(settings.client_keys))
        self.control.renew_keys(_keys_by_name(settings.control_keys))
        if redials:
            self.upstream.renew(tls=trust.context, egress_proxy=egress_of(settings))
        if reconnects:
            await self.store.renew(url=settings.redis_url.reveal(), trust=trust)

    async def close(self) -> None:
        """Let connections go."""
        await self.upstream.close()
        await self.uses.tell()
        await self.store.close()

    async def _measure_lag(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + LAG_EVERY_S
            await asyncio.sleep(LAG_EVERY_S)
            self.base.observer.observe(LoopLagged(lag_s=max(0.0, loop.time() - due_s)))


def _serving_parts(
    base: Base, lane_side: LaneSide, *, store: RedisTokenStore, reader: RecordReader
) -> ServingParts:
    return ServingParts(
        store=store,
        reader=reader,
        cache=TokenCache(
            vault=base.vault,
            clock=base.clock,
            store_clock=base.store_clock,
            refresh_policy=base.policy,
        ),
        uses=UseLog(
            agenda=store,
            rules=base.schedule,
            watch=lane_side.watch,
            clock=base.clock,
            store_clock=base.store_clock,
        ),
        vault=base.vault,
        cooler=lane_side.cooler,
        lane=lane_side.lane,
        hints=Hints(),
        store_clock=base.store_clock,
        clock=base.clock,
        entropy=base.entropy,
        observer=base.observer,
        times=base.times,
        policy=base.policy,
    )


def _proxy_options(base: Base) -> ProxyOptions:
    settings = base.settings
    return ProxyOptions(
        user_header=settings.user_header,
        methods=frozenset(settings.methods),
        client_keys=_keys_by_name(settings.client_keys),
        replay_body_max_bytes=settings.replay_body_max_bytes,
        max_request_bytes=settings.max_request_bytes,
        max_in_flight=base.shares.in_flight,
        max_connections=base.shares.proxy,
        upstream_retries=settings.upstream_retries,
    )


def _status(base: Base, lane_side: LaneSide, health: Health) -> StatusDesk:
    return StatusDesk(
        version=__version__,
        health=health,
        board=base.board,
        lane=lane_side.lane,
        clock=base.clock,
    )


def _connects(base: Base, desk: GrantDesk, store: RedisTokenStore) -> ConnectDesk | None:
    settings = base.settings
    if settings.connect_listen is None or settings.connect_url is None:
        return None
    terms = ConnectTerms(
        url=settings.connect_url,
        targets=settings.connect_return_to,
        idp_url=settings.effective_idp_url,
        client_id=settings.akoya_client_id,
        scope=settings.scopes,
    )
    return ConnectDesk(
        terms=terms, deposits=store, vault=base.vault, entropy=base.entropy, desk=desk
    )


def _connect(base: Base, connects: ConnectDesk) -> ConnectSite:
    ports = ConnectPorts(
        desk=connects, observer=base.observer, clock=base.clock, entropy=base.entropy
    )
    options = ConnectOptions(
        max_in_flight=base.settings.max_in_flight, max_connections=base.shares.connect
    )
    return ConnectSite(options=options, ports=ports)


def _control(
    base: Base, desk: GrantDesk, *, status: StatusDesk, connects: ConnectDesk | None
) -> ControlApi:
    settings = base.settings
    options = ControlOptions(
        control_keys=_keys_by_name(settings.control_keys),
        consent_page=ConsentPage(
            idp_url=settings.effective_idp_url,
            client_id=settings.akoya_client_id,
            scope=settings.scopes,
            redirect_uri=settings.redirect_uri,
        ),
        max_age_s=base.policy.max_age_s,
        max_in_flight=settings.max_in_flight,
        max_connections=base.shares.control,
    )
    ports = ControlPorts(
        desk=desk,
        status=status,
        connects=connects,
        observer=base.observer,
        clock=base.clock,
        entropy=base.entropy,
    )
    return ControlApi(options=options, ports=ports)


def _upstream_options(settings: Settings, trust: Trust) -> UpstreamOptions:
    return UpstreamOptions(
        url=settings.effective_products_url,
        connect_timeout_s=settings.upstream_connect_timeout_s,
        timeout_s=settings.upstream_timeout_s,
        egress_proxy=egress_of(settings),
        tls=trust.context,
    )


def _keys_by_name(keys: Iterable[NamedKey]) -> Mapping[str, Secret]:
    return {key.name: key.key for key in keys}

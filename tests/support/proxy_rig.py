"""A proxy with everything around it under the test's control.

A real listener, a scripted upstream, a scripted source of bearers, recorded events. It must not
know what a test asserts.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar, final

from aiohttp import web

from sidecar.domain.addresses import parse_address
from sidecar.domain.events import Event, RequestCompleted
from sidecar.domain.record import ConsentId, GrantId, GrantKey, Position
from sidecar.domain.secret import Secret
from sidecar.domain.tokens import (
    HealDeclined,
    HealVerdict,
    TokenFound,
    TokenLookup,
    TokenSource,
)
from sidecar.http.exchange import ProxyPorts
from sidecar.http.listening import listen
from sidecar.http.proxy import Proxy, ProxyOptions
from sidecar.http.upstream import Upstream, UpstreamOptions
from sidecar.ports import Observer, Tracer
from sidecar.service.patience import Patience
from sidecar.service.token_source import BearerSource
from sidecar.telemetry.tracing import NoTracer
from tests.support.raw_http import (
    RawClient,
    RawUpstream,
    Step,
    connected,
    running_upstream,
)
from tests.support.tls import LoopbackTls

EventT = TypeVar("EventT")
GRANT = GrantId("grant-of-a-test")


def token(generation: int = 1, *, cooling_product: str = "") -> TokenFound:
    """Return the bearer ``token-{generation}``."""
    return TokenFound(
        grant=GRANT,
        bearer=Secret(f"token-{generation}"),
        position=Position(consent_id=ConsentId("consent"), generation=generation),
        source=TokenSource.MEMORY,
        cooling_product=cooling_product,
    )


@dataclass(slots=True, kw_only=True)
class ScriptedSource:
    """Says what it is told to, and remembers what it was asked."""

    peeked: TokenFound | None = field(default_factory=token)
    found: TokenLookup = field(default_factory=token)
    verdicts: list[HealVerdict] = field(default_factory=list[HealVerdict])
    keys: list[GrantKey] = field(default_factory=list[GrantKey])
    healed: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    accepted_products: list[str] = field(default_factory=list[str])
    fault: Exception | None = None
    left_s: list[float] = field(default_factory=list[float])

    def patience(self) -> Patience:
        return Patience(wait_s=10.0, clock=RealClock())

    def peek(self, key: GrantKey) -> TokenFound | None:
        self.keys.append(key)
        if self.fault is not None:
            raise self.fault
        return self.peeked

    async def token_for(self, key: GrantKey, *, patience: Patience) -> TokenLookup:
        self.keys.append(key)
        self.left_s.append(patience.left_s)
        return self.found

    async def heal(
        self, key: GrantKey, rejected: TokenFound, *, product: str, patience: Patience
    ) -> HealVerdict:
        del key
        self.left_s.append(patience.left_s)
        self.healed.append((rejected.position.generation, product))
        return self.verdicts.pop(0) if self.verdicts else HealDeclined()

    def accepted(self, key: GrantKey, found: TokenFound, *, product: str) -> None:
        del key, found
        self.accepted_products.append(product)


@final
class RecordingObserver:
    """Keeps every event."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def observe(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[EventT]) -> list[EventT]:
        return [event for event in self.events if isinstance(event, kind)]


@final
class RealClock:
    def now_s(self) -> float:
        return time.time()  # noqa: TID251 - what is measured here is the machine's own time

    def elapsed_s(self) -> float:
        return time.monotonic()


@final
class FixedEntropy:
    """No jitter, and a known id."""

    def new_id(self) -> str:
        return "0" * 32

    def fraction(self) -> float:
        return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """A running proxy and what surrounds it."""

    proxy: Proxy
    upstream: RawUpstream
    source: ScriptedSource
    observer: RecordingObserver
    port: int

    @property
    def completed(self) -> list[RequestCompleted]:
        return self.observer.of(RequestCompleted)

    @asynccontextmanager
    async def client(self) -> AsyncGenerator[RawClient]:
        async with connected(self.port) as client:
            yield client


def no_change(options: ProxyOptions) -> ProxyOptions:
    return options


@asynccontextmanager
async def running_proxy(  # noqa: PLR0913 - each has its test
    *script: Step,
    source: ScriptedSource | None = None,
    options: Callable[[ProxyOptions], ProxyOptions] = no_change,
    timeout_s: float = 10.0,
    listen_on: str = "127.0.0.1:0",
    upstream_port: int | None = None,
    tracer: Tracer | None = None,
    tls: LoopbackTls | None = None,
) -> AsyncGenerator[Rig]:
    """Serve the proxy in front of a scripted upstream."""
    source = source or ScriptedSource()
    observer = RecordingObserver()
    async with (
        running_upstream(*script, tls=None if tls is None else tls.server) as upstream,
        listening_proxy(
            source,
            observer=observer,
            upstream_port=upstream.port if upstream_port is None else upstream_port,
            options=options,
            timeout_s=timeout_s,
            listen_on=listen_on,
            tracer=tracer,
            tls=None if tls is None else tls.client,
        ) as (proxy, port),
    ):
        yield Rig(proxy=proxy, upstream=upstream, source=source, observer=observer, port=port)


@asynccontextmanager
async def listening_proxy(  # noqa: PLR0913 - each has its test
    source: BearerSource,
    *,
    observer: Observer,
    upstream_port: int,
    options: Callable[[ProxyOptions], ProxyOptions] = no_change,
    timeout_s: float = 10.0,
    listen_on: str = "127.0.0.1:0",
    tracer: Tracer | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncGenerator[tuple[Proxy, int]]:
    """Serve the proxy with bearers of any source in front of any upstream; yield its port too."""
    asked = Upstream(
        options=UpstreamOptions(
            url=f"http{'s' if tls else ''}://127.0.0.1:{upstream_port}",
            timeout_s=timeout_s,
            connect_timeout_s=2.0,
            tls=tls,
        )
    )
    proxy = Proxy(
        options=options(ProxyOptions(client_keys={}, client_silence_s=10.0)),
        upstream=asked,
        ports=ProxyPorts(
            source=source,
            observer=observer,
            tracer=tracer or NoTracer(),
            clock=RealClock(),
            entropy=FixedEntropy(),
        ),
    )
    address = parse_address(listen_on)
    assert address is not None, "the test names no address"
    listener = await listen(web.ServerRunner(proxy.server, shutdown_timeout=0.5), address=address)
    try:
        yield proxy, listener.port
    finally:
        await listener.close()
        await asked.close()

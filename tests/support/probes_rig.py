"""The metrics listener, with what it shows under the test's control."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, final

from sidecar.domain.addresses import TcpAddress
from sidecar.http.listening import listen
from sidecar.http.probes import ProbeOptions, Probes
from sidecar.service.health import HealthReport, Phase
from tests.support.proxy_rig import RecordingObserver

WELL: Final = HealthReport(
    phase=Phase.SERVING,
    store_up=True,
    spool_writable=True,
    breaker_open=False,
    brake_on=False,
    parked=0,
)


@final
@dataclass(kw_only=True)
class ProbesRig:
    """What the metrics listener shows, was asked, and in which thread; and where it listens."""

    now: HealthReport = WELL
    accepts: list[str] = field(default_factory=list[str])
    threads: list[int] = field(default_factory=list[int])
    observer: RecordingObserver = field(default_factory=RecordingObserver)
    hold: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    def __post_init__(self) -> None:
        self.hold.set()

    def report(self) -> HealthReport:
        return self.now

    def render(self, accept: str) -> tuple[bytes, str]:
        self.accepts.append(accept)
        self.threads.append(threading.get_ident())
        self.hold.wait(timeout=20)
        return b"sidecar_store_up 1\n", "text/plain; version=0.0.4; charset=utf-8"


def make_probes(rig: ProbesRig | None = None, *, options: ProbeOptions | None = None) -> Probes:
    """Return the metrics listener's application; call it inside a running loop."""
    rig = rig or ProbesRig()
    return Probes(render_metrics=rig.render, health=rig, observer=rig.observer, options=options)


@asynccontextmanager
async def running_probes(options: ProbeOptions | None = None) -> AsyncGenerator[ProbesRig]:
    """Serve the metrics listener on a free port of loopback."""
    rig = ProbesRig()
    listener = await listen(
        make_probes(rig, options=options).runner, address=TcpAddress(host="127.0.0.1", port=0)
    )
    rig.port = listener.port
    try:
        yield rig
    finally:
        await listener.close()

"""One sidecar process: its two sides, its listeners and its life from start to drain."""

from __future__ import annotations

import asyncio
import gc
import signal
import ssl
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, final

from aiohttp import web

from sidecar import __version__
from sidecar.app.base import Base
from sidecar.app.lane_side import LaneSide
from sidecar.app.serving_side import ServingSide
from sidecar.app.store_terms import StoreTerms
from sidecar.domain.addresses import ListenAddress
from sidecar.domain.events import LifecycleListening
from sidecar.domain.policy import ProtocolTimes
from sidecar.http.listening import Listener, listen
from sidecar.http.probes import make_probes
from sidecar.service.lifecycle import Door, Lifecycle, Vitals
from sidecar.settings import Settings

STOPPED: Final = 0
WRONG_CONFIGURATION: Final = 78
CONNECTION_GRACE_S: Final = 0.5
"""How long a listener waits for its connections once nothing is in flight any more."""


@final
class Sidecar:
    """A sidecar that serves from `serve`'s start until it is asked to stop."""

    def __init__(self, *, settings: Settings, times: ProtocolTimes) -> None:
        """Claim the spool and wire the lane.

        Raises:
            SpoolError: The spool directory cannot be used.
            TracesRefused: OpenTelemetry does not accept what its variables say.
        """
        self._settings = settings
        self._base = Base.build(settings, times)
        self._lane_side = LaneSide.build(self._base)
        self._lifecycle = Lifecycle(
            vitals=Vitals(
                watch=self._lane_side.watch,
                journal=self._lane_side.parts.journal,
                restraints=self._lane_side.parts.restraints,
                lane=self._lane_side.lane,
                observer=self._base.observer,
                clock=self._base.clock,
            )
        )
        self._terms = StoreTerms(lane_side=self._lane_side)
        self._stopping = asyncio.Event()
        self._exit_code = STOPPED

    async def serve(self) -> int:
        """Serve until SIGTERM or SIGINT, then drain; return the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        async with AsyncExitStack() as stack:
            stack.callback(self._base.tracer.close)
            probes = make_probes(
                render_metrics=self._base.metrics_page.render, health=self._lifecycle
            )
            await stack.enter_async_context(
                self._listening("metrics", web.AppRunner(probes, access_log=None))
            )
            await self._lane_side.start()
            stack.push_async_callback(self._lane_side.stop)
            if not await self._terms.are_met():
                return WRONG_CONFIGURATION
            await self._serve_requests()
        self._lifecycle.stopped()
        return self._exit_code

    async def _serve_requests(self) -> None:
        side = ServingSide.build(self._base, self._lane_side, health=self._lifecycle)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(side.close)
            await stack.enter_async_context(side.reader)
            await stack.enter_async_context(side.broker.flights)
            keeping = await stack.enter_async_context(asyncio.TaskGroup())
            kept = keeping.create_task(side.keep())
            stack.callback(kept.cancel)
            asking = keeping.create_task(self._meet_store_later())
            stack.callback(asking.cancel)
            await stack.enter_async_context(
                self._listening("proxy", web.ServerRunner(side.proxy.server))
            )
            doors: list[Door] = [side.proxy, side.control]
            settings = self._settings
            tls = _tls(settings.control_tls_cert, settings.control_tls_key)
            await stack.enter_async_context(
                self._listening("control", side.control.runner, tls=tls)
            )
            if side.connect is not None:
                doors.append(side.connect)
                tls = _tls(settings.connect_tls_cert, settings.connect_tls_key)
                await stack.enter_async_context(
                    self._listening("connect", side.connect.runner, tls=tls)
                )
            # What stands now stands to the end: the collector need not look at it again.
            gc.freeze()
            self._lifecycle.ready(version=__version__)
            await self._stopping.wait()
            await self._lifecycle.drain(
                doors,
                claims_ended=self._lane_side.drained,
                timeout_s=self._settings.drain_timeout_s,
            )

    @asynccontextmanager
    async def _listening(
        self, name: str, runner: web.BaseRunner, *, tls: ssl.SSLContext | None = None
    ) -> AsyncGenerator[Listener]:
        listener = await listen(
            runner,
            address=self._address_of(name),
            socket_mode=self._settings.socket_mode,
            tls=tls,
        )
        self._base.observer.observe(LifecycleListening(listener=name, address=listener.address))
        try:
            yield listener
        finally:
            await listener.close()

    def _address_of(self, name: str) -> ListenAddress:
        settings = self._settings
        listeners = {
            "proxy": settings.proxy_listen,
            "control": settings.control_listen,
            "metrics": settings.metrics_listen,
        }
        if settings.connect_listen is not None:
            listeners["connect"] = settings.connect_listen
        return listeners[name]

    async def _meet_store_later(self) -> None:
        """Begin what nobody asks for; drain and end if the store is not one to work with."""
        if await self._terms.are_met_once_it_answers():
            await self._lane_side.work_unasked()
        else:
            self._exit_code = WRONG_CONFIGURATION
            self._stopping.set()


def _tls(certificate: str | None, key: str | None) -> ssl.SSLContext | None:
    if certificate is None:
        return None
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    return tls

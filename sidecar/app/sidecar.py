"""One sidecar process: its two sides, its listeners and its life from start to drain."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, final

from aiohttp import web

from sidecar import __version__
from sidecar.adapters.signals import ProcessSignals, SignalDuties
from sidecar.adapters.trust import ShownCertificate
from sidecar.app.base import Base, Telemetry
from sidecar.app.files import TlsFiles
from sidecar.app.lane_side import LaneSide
from sidecar.app.reloading import Reloading, Renewed, Shown, Taken
from sidecar.app.serving_side import ServingSide
from sidecar.app.store_terms import StoreTerms
from sidecar.app.upkeep import kept
from sidecar.domain.addresses import ListenAddress
from sidecar.domain.events import LifecycleListening, SignalIgnored
from sidecar.domain.policy import ProtocolTimes
from sidecar.http.connections import runner_of
from sidecar.http.listening import Listener, listen
from sidecar.http.probes import ProbeOptions, Probes
from sidecar.service.lifecycle import Door, Lifecycle, Vitals
from sidecar.settings import Settings

STOPPED: Final = 0
WRONG_CONFIGURATION: Final = 78


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a sidecar gets of its process.

    Attributes:
        environ: What the settings were read from, and are read from again.
        files: What the files of the settings hold.
    """

    environ: Mapping[str, str]
    files: TlsFiles
    signals: ProcessSignals
    telemetry: Telemetry


@final
class Sidecar:
    """A sidecar that serves from `serve`'s start until it is asked to stop."""

    def __init__(
        self, *, settings: Settings, times: ProtocolTimes, surroundings: Surroundings
    ) -> None:
        """Claim the spool and wire the lane.

        Raises:
            SpoolError: The spool directory cannot be used.
            TracesRefused: OpenTelemetry does not accept what its variables say.
        """
        self._settings = settings
        self._surroundings = surroundings
        self._base = Base.build(
            settings,
            times,
            trust=surroundings.files.trust,
            telemetry=surroundings.telemetry,
        )
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
        self._reloading = Reloading(
            taken=Taken(settings=settings, files=surroundings.files), environ=surroundings.environ
        )
        self._exit_code = STOPPED

    async def serve(self) -> int:
        """Serve until SIGTERM, SIGINT or SIGQUIT, then drain; return the exit code."""
        signals = self._surroundings.signals
        signals.take_over(
            SignalDuties(
                stop=self._stopping.set, reload=self._reloading.ask, ignored=self._tell_of_signal
            )
        )
        async with AsyncExitStack() as stack:
            stack.callback(signals.let_go)
            stack.callback(self._base.tracer.close)
            probes = Probes(
                render_metrics=self._base.metrics_page.render,
                health=self._lifecycle,
                observer=self._base.observer,
                options=ProbeOptions(max_connections=self._base.shares.metrics),
            )
            await stack.enter_async_context(self._listening("metrics", probes.runner))
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
            housekeeping = keeping.create_task(side.keep())
            stack.callback(housekeeping.cancel)
            shown = Shown.of(self._surroundings.files)
            renewed = Renewed(
                base=self._base, lane_side=self._lane_side, serving_side=side, shown=shown
            )
            reload = partial(self._reloading.run, renewed)
            reloading = keeping.create_task(kept(reload, observer=self._base.observer))
            stack.callback(reloading.cancel)
            asking = keeping.create_task(self._meet_store_later())
            stack.callback(asking.cancel)
            await stack.enter_async_context(self._listening("proxy", runner_of(side.proxy.server)))
            doors: list[Door] = [side.proxy, side.control]
            await stack.enter_async_context(
                self._listening("control", side.control.runner, shown=shown.control)
            )
            if side.connect is not None:
                doors.append(side.connect)
                await stack.enter_async_context(
                    self._listening("connect", side.connect.runner, shown=shown.connect)
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
        self, name: str, runner: web.ServerRunner, *, shown: ShownCertificate | None = None
    ) -> AsyncGenerator[Listener]:
        listener = await listen(
            runner,
            address=self._address_of(name),
            socket_mode=self._settings.socket_mode,
            tls=None if shown is None else shown.context,
        )
        self._base.observer.observe(LifecycleListening(listener=name, address=listener.address))
        try:
            yield listener
        finally:
            await listener.close()

    def _tell_of_signal(self, name: str, times: int) -> None:
        self._base.observer.observe(SignalIgnored(signal=name, times=times))

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

"""The metrics listener: metrics for Prometheus, probes for the kubelet; nothing secret.

It renders what it is handed and decides one thing only: a sidecar is unready while it starts or
drains, and at no other time. It must not know the store, the spool or what is counted.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, final

from aiohttp import web

from sidecar.domain.connection_table import ListenerName
from sidecar.domain.descriptors import METRICS_MOST
from sidecar.domain.events import WorkFailed
from sidecar.domain.tokens import ProblemReason
from sidecar.http.connections import ConnectionLimits, ProxyServer, may_be_followed, runner_of
from sidecar.http.control_problems import ControlReason, to_control_problem
from sidecar.http.faults import describe_fault
from sidecar.http.problems import Problem
from sidecar.ports import Observer
from sidecar.service.health import Health, HealthReport, Phase

RenderMetrics = Callable[[str], tuple[bytes, str]]
"""From an ``Accept`` header to a page and its content type."""

PROBE_PATHS: Final = ("/livez", "/readyz", "/startupz")
METRICS_PATH: Final = "/metrics"
SCRAPES_MOST: Final = 8
"""Pages at a time: each takes a thread and some milliseconds, and probes must not wait for them."""

_METHODS: Final = ("GET", "HEAD")
_RETRY_AFTER_S: Final = 1
_WORK: Final = "metrics.request"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeOptions:
    """How the metrics listener behaves.

    Attributes:
        max_connections: Beyond it idle or slow connections go, or new ones are refused.
        client_keepalive_s: How long an unused connection is kept.
    """

    max_connections: int = METRICS_MOST
    max_header_bytes: int = 65536
    client_keepalive_s: float = 75.0


@final
class Probes:
    """Serves the metrics listener. Made inside a running loop; `runner` goes to a listener."""

    def __init__(
        self,
        *,
        render_metrics: RenderMetrics,
        health: Health,
        observer: Observer,
        options: ProbeOptions | None = None,
    ) -> None:
        """Serve these; both may be called at any time."""
        options = options or ProbeOptions()
        self._render_metrics = render_metrics
        self._health = health
        self._observer = observer
        self._scrapes = 0
        self._pages: dict[str, Callable[[web.BaseRequest], Awaitable[web.Response]]] = {
            METRICS_PATH: self._metrics,
            "/livez": self._live,
            "/readyz": self._ready,
            "/startupz": self._started,
        }
        server = ProxyServer(
            self._handle,
            listener=ListenerName.METRICS,
            observer=observer,
            refuse_malformed=_refuse_malformed,
            report_fault=self._report_fault,
            limits=ConnectionLimits(
                keepalive_s=options.client_keepalive_s,
                max_header_bytes=options.max_header_bytes,
                most=options.max_connections,
            ),
        )
        self.runner = runner_of(server)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; nothing escapes but cancellation."""
        try:
            response = await self._serve(request)
        except Exception as error:  # noqa: BLE001 - the outermost edge of a request
            self._report_fault(error)
            response = web.Response(status=HTTPStatus.INTERNAL_SERVER_ERROR)
        if not may_be_followed(request):
            response.force_close()
        return response

    async def _serve(self, request: web.BaseRequest) -> web.Response:
        page = self._pages.get(request.raw_path.partition("?")[0])
        if page is None:
            return web.Response(status=HTTPStatus.NOT_FOUND)
        if request.method not in _METHODS:
            allow = {"Allow": ", ".join(_METHODS)}
            return web.Response(status=HTTPStatus.METHOD_NOT_ALLOWED, headers=allow)
        return await page(request)

    async def _metrics(self, request: web.BaseRequest) -> web.Response:
        """Answer a scrape; rendered in a thread, since it reads /proc and takes milliseconds."""
        if self._scrapes >= SCRAPES_MOST:
            headers = {"Retry-After": str(_RETRY_AFTER_S)}
            return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, headers=headers)
        accept = ", ".join(request.headers.getall("Accept", []))
        self._scrapes += 1
        try:
            body, content_type = await asyncio.to_thread(self._render_metrics, accept)
        finally:
            self._scrapes -= 1
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _live(self, _request: web.BaseRequest) -> web.Response:
        """Answer that the event loop turns, whatever else is wrong."""
        return _answer(self._health.report(), is_good=True)

    async def _ready(self, _request: web.BaseRequest) -> web.Response:
        """Answer 503 while starting or stopping; a lost store must not take the pod out."""
        report = self._health.report()
        return _answer(report, is_good=report.phase is Phase.SERVING)

    async def _started(self, _request: web.BaseRequest) -> web.Response:
        """Answer 503 until the start is over, and never again."""
        report = self._health.report()
        return _answer(report, is_good=report.phase is not Phase.STARTING)

    def _report_fault(self, error: BaseException) -> None:
        self._observer.observe(WorkFailed(where=_WORK, error=describe_fault(error)))


def _refuse_malformed(reason: ProblemReason) -> Problem:
    return to_control_problem(ControlReason(reason.value))


def _store(report: HealthReport) -> str:
    if not report.store_up:
        return "down"
    return "up" if report.store_trouble is None else "strained"


def _answer(report: HealthReport, *, is_good: bool) -> web.Response:
    document = {
        "phase": report.phase.value,
        "store": _store(report),
        "spool": "writable" if report.spool_writable else "failing",
        "breaker": "open" if report.breaker_open else "closed",
        "brake": "on" if report.brake_on else "off",
        "parked": report.parked,
    }
    return web.Response(
        status=HTTPStatus.OK if is_good else HTTPStatus.SERVICE_UNAVAILABLE,
        text=json.dumps(document) + "\n",
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )

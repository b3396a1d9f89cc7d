"""The metrics listener: metrics for Prometheus, probes for the kubelet; nothing secret.

It renders what it is handed and decides one thing only: a sidecar is unready while it starts or
drains, and at no other time. It must not know the store, the spool or what is counted.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from http import HTTPStatus
from typing import final

from aiohttp import web

from sidecar.service.health import Health, HealthReport, Phase

RenderMetrics = Callable[[str], tuple[bytes, str]]
"""From an ``Accept`` header to a page and its content type."""


def make_probes(*, render_metrics: RenderMetrics, health: Health) -> web.Application:
    """Return the application of the metrics listener; both arguments may be called at any time."""
    probes = _Probes(render_metrics=render_metrics, health=health)
    app = web.Application()
    app.router.add_get("/metrics", probes.metrics)
    app.router.add_get("/livez", probes.live)
    app.router.add_get("/readyz", probes.ready)
    app.router.add_get("/startupz", probes.started)
    return app


@final
class _Probes:
    def __init__(self, *, render_metrics: RenderMetrics, health: Health) -> None:
        self._render_metrics = render_metrics
        self._health = health

    async def metrics(self, request: web.Request) -> web.Response:
        """Answer a scrape; rendered in a thread, since it reads /proc and takes milliseconds."""
        accept = ", ".join(request.headers.getall("Accept", []))
        body, content_type = await asyncio.to_thread(self._render_metrics, accept)
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def live(self, _request: web.Request) -> web.Response:
        """Answer that the event loop turns, whatever else is wrong."""
        return _answer(self._health.report(), is_good=True)

    async def ready(self, _request: web.Request) -> web.Response:
        """Answer 503 while starting or stopping; a lost store must not take the pod out."""
        report = self._health.report()
        return _answer(report, is_good=report.phase is Phase.SERVING)

    async def started(self, _request: web.Request) -> web.Response:
        """Answer 503 until the start is over, and never again."""
        report = self._health.report()
        return _answer(report, is_good=report.phase is not Phase.STARTING)


def _answer(report: HealthReport, *, is_good: bool) -> web.Response:
    document = {
        "phase": report.phase.value,
        "store": "up" if report.store_up else "down",
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

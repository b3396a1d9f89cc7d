"""A collector of OpenTelemetry that keeps what it is sent: OTLP over HTTP, on a port of its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import final

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenSpan:
    """A span as it arrived; ids are hex digits."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: Mapping[str, str | int]
    events: tuple[str, ...]


@final
class Collector:
    """What has arrived so far."""

    def __init__(self, url: str) -> None:
        self.environ = {
            "SIDECAR_TRACES": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": url,
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }
        self.bodies: list[bytes] = []
        self.services: set[str] = set()
        self.spans: list[SeenSpan] = []

    def of(self, trace_id: str) -> list[SeenSpan]:
        """Return the spans of one trace."""
        return [span for span in self.spans if span.trace_id == trace_id]

    def take(self, body: bytes) -> None:
        """Keep one request."""
        self.bodies.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = _attributes(resource.resource.attributes)
            self.services.add(str(about["service.name"]))
            for scope in resource.scope_spans:
                self.spans.extend(
                    SeenSpan(
                        name=span.name,
                        trace_id=span.trace_id.hex(),
                        span_id=span.span_id.hex(),
                        parent_id=span.parent_span_id.hex(),
                        attributes=_attributes(span.attributes),
                        events=tuple(event.name for event in span.events),
                    )
                    for span in scope.spans
                )


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, str | int]:
    return {
        pair.key: pair.value.int_value
        if pair.value.HasField("int_value")
        else pair.value.string_value
        for pair in pairs
    }


@asynccontextmanager
async def running_collector() -> AsyncGenerator[Collector]:
    """Take spans until the context ends."""

    async def take(request: web.BaseRequest) -> web.Response:
        collector.take(await request.read())
        answer = ExportTraceServiceResponse().SerializeToString()
        return web.Response(body=answer, content_type="application/x-protobuf")

    runner = web.ServerRunner(web.Server(take))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        collector = Collector(f"http://127.0.0.1:{runner.addresses[0][1]}")
        yield collector
    finally:
        await runner.cleanup()

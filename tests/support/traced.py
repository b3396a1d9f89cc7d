"""A tracer whose spans stay in memory."""

from __future__ import annotations

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from sidecar.domain.events import Event
from sidecar.domain.tracing import NO_PARENT
from sidecar.telemetry.spans import OtelTracer, SpanObserver
from tests.support.proxy_rig import RecordingObserver


class Traced:
    """A tracer, and what it showed."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = OtelTracer(provider=provider, version="1")
        self.behind = RecordingObserver()
        self.failures: list[None] = []
        self.observer = SpanObserver(behind=self.behind, failed=lambda: self.failures.append(None))

    def shown(self, name: str) -> ReadableSpan:
        """Return the one span of a name."""
        (span,) = self.all_shown(name)
        return span

    def all_shown(self, name: str) -> list[ReadableSpan]:
        """Return the spans of a name, in the order of their ends."""
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def request(self, event: Event) -> ReadableSpan:
        """Return the span of a request in which `event` was observed."""
        with self.tracer.serve(NO_PARENT):
            self.observer.observe(event)
        return self.exporter.get_finished_spans()[-1]

"""Spans by OpenTelemetry, sent as OTLP over HTTP: the one module that imports it (extra ``otel``).

The fields of a log line are what a span is told: those of the line that ends a request, an upstream
call or a claim are attributes, other lines are events of the span in which they came about.
Exceptions are never recorded: their messages may hold secrets.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from threading import Thread
from typing import Final, final

import requests
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import (
    SERVICE_NAME,
    SERVICE_VERSION,
    OTELResourceDetector,
    Resource,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
)

from sidecar.domain.events import (
    ClaimEndedAs,
    ClaimOutcome,
    Event,
    RequestCompleted,
    RequestOutcome,
    TokenLookedUp,
    UpstreamAnswered,
    UpstreamClass,
)
from sidecar.domain.request_target import to_known_product
from sidecar.domain.tracing import SpanName, TraceParent
from sidecar.ports import Observer
from sidecar.telemetry.lines import LINES, fields_of
from sidecar.telemetry.redaction import is_suspect, redact

PREFIX: Final = "sidecar."
ERROR_TYPE: Final = "error.type"
LAST_WORDS_S: Final = 2.0
"""How long the end of the process waits for a collector that takes the last spans."""

_KINDS: Final = {SpanName.PROXY: SpanKind.SERVER, SpanName.UPSTREAM: SpanKind.CLIENT}
_SHOWN_ANYWAY: Final = frozenset({PREFIX + "trace_id", PREFIX + "duration_s"})
"""What a span says of itself."""

_FIRST_SERVER_ERROR: Final = 500
_BROKEN: Final = frozenset({RequestOutcome.FAILED, RequestOutcome.UPSTREAM_BROKE})
_FINE: Final = frozenset({UpstreamClass.OK, UpstreamClass.PARTIAL})
_CLAIM_ERRORS: Final = frozenset({ClaimOutcome.LOST, ClaimOutcome.IN_DOUBT})
_TOLD: Final = frozenset(LINES) | {TokenLookedUp, UpstreamAnswered}

Attribute = str | int | float | bool


@final
class ShownSpan:
    """Implements `sidecar.ports.Span`."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def fail(self, reason: str) -> None:
        """Set the status, and the reason as OpenTelemetry's ``error.type``."""
        self._span.set_attribute(ERROR_TYPE, reason)
        self._span.set_status(StatusCode.ERROR)


@final
class OtelTracer:
    """Implements `sidecar.ports.Tracer` on any provider."""

    def __init__(self, *, provider: TracerProvider, version: str) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("akoya-sidecar", version)

    @contextmanager
    def serve(self, parent: TraceParent) -> Generator[str]:
        """Span a request under its client's span, and return the id of their trace."""
        under = trace.set_span_in_context(NonRecordingSpan(_span_context(parent)))
        with self._shown(SpanName.PROXY, under) as span:
            context = span.get_span_context()
            # There is no id where the SDK was disabled by its own variable.
            is_traced = context.is_valid
            yield trace.format_trace_id(context.trace_id) if is_traced else parent.trace_id

    @contextmanager
    def span(self, name: SpanName) -> Generator[ShownSpan]:
        """Span a part of what the current span shows."""
        with self._shown(name) as span:
            yield ShownSpan(span)

    @contextmanager
    def _shown(self, name: SpanName, context: Context | None = None) -> Generator[Span]:
        with self._tracer.start_as_current_span(
            name,
            context=context,
            kind=_KINDS.get(name, SpanKind.INTERNAL),
            record_exception=False,
            set_status_on_exception=False,  # it would tell the message
        ) as span:
            try:
                yield span
            except Exception as error:
                ShownSpan(span).fail(type(error).__name__)
                raise

    def close(self) -> None:
        """Send what is left; a collector that does not take it delays the end by two seconds."""
        ending = Thread(target=self._provider.shutdown, name="last-spans", daemon=True)
        ending.start()
        ending.join(LAST_WORDS_S)


@final
class SpanObserver:
    """Implements `sidecar.ports.Observer` for another one behind it, and tells spans of events."""

    def __init__(self, *, behind: Observer, failed: Callable[[], None]) -> None:
        self._behind = behind
        self._failed = failed

    def observe(self, event: Event) -> None:
        """Pass an event on, and tell the span of the code that observed it."""
        self._behind.observe(event)
        span = trace.get_current_span()
        if type(event) not in _TOLD or not span.is_recording():
            return
        try:
            _tell(span, event)
        except Exception:  # noqa: BLE001 - telling must not fail the work; the count is alerted on
            self._failed()


def open_otlp_tracer(*, version: str) -> OtelTracer:
    """Return the tracer that sends, from a thread of its own, to where the ``OTEL_*`` say.

    Raises:
        Exception: OpenTelemetry does not accept them; of whatever class.
    """
    session = requests.Session()
    # No proxy, no .netrc and no authorities that a variable of others names.
    session.trust_env = False
    named = Resource({SERVICE_NAME: "akoya-sidecar", SERVICE_VERSION: version})
    provider = TracerProvider(
        resource=Resource.create().merge(named).merge(OTELResourceDetector().detect()),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(session=session)))
    return OtelTracer(provider=provider, version=version)


def _span_context(parent: TraceParent) -> SpanContext:
    return SpanContext(
        trace_id=int(parent.trace_id or "0", 16),
        span_id=int(parent.parent_id or "0", 16),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED if parent.is_sampled else TraceFlags.DEFAULT),
    )


def _tell(span: Span, event: Event) -> None:
    attributes = _attributes(event)
    match event:
        case RequestCompleted():
            _tell_end(span, event, attributes)
        case UpstreamAnswered():
            span.set_attributes(attributes)
            if event.upstream_class not in _FINE:
                ShownSpan(span).fail(event.upstream_class)
        case ClaimEndedAs() if _is_claim(span):
            span.set_attributes(attributes)
            if event.outcome in _CLAIM_ERRORS:
                ShownSpan(span).fail(event.outcome)
        case TokenLookedUp():
            span.set_attributes(attributes)
        case _:
            span.add_event(event.event, attributes)


def _tell_end(span: Span, event: RequestCompleted, attributes: Mapping[str, Attribute]) -> None:
    span.update_name(f"{SpanName.PROXY} {to_known_product(event.product)}")
    span.set_attributes({name: attributes[name] for name in attributes.keys() - _SHOWN_ANYWAY})
    span.set_attribute("http.request.method", attributes[f"{PREFIX}method"])
    span.set_attribute("http.response.status_code", event.status)
    if event.status >= _FIRST_SERVER_ERROR or event.outcome in _BROKEN:
        ShownSpan(span).fail(event.outcome if event.reason is None else event.reason)


def _is_claim(span: Span) -> bool:
    """Whether a claim is spanned, and not what found out that none was needed."""
    return isinstance(span, ReadableSpan) and span.name == SpanName.CLAIM


def _attributes(event: Event) -> Mapping[str, Attribute]:
    fields = fields_of(event)
    if is_suspect(",".join(map(str, fields.values())), fields):
        fields = redact(fields)
    return {
        PREFIX + name: value if isinstance(value, bool | int | float) else str(value)
        for name, value in fields.items()
    }

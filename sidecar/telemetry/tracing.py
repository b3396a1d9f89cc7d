"""Whether there are traces, and the tracer where there are none.

With traces off, nothing of OpenTelemetry is imported, and a span is an empty context.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Literal, final

from sidecar.domain.tracing import SpanName, TraceParent
from sidecar.ports import Observer, SidecarError, Span, Tracer

Traces = Literal["off", "otlp"]


class TracesRefused(SidecarError):
    """OpenTelemetry does not accept what its own variables say."""

    def __init__(self, error: Exception) -> None:
        super().__init__(
            "OpenTelemetry does not accept one of its own variables, OTEL_*, or two of them "
            f"together ({type(error).__name__}); mend them, or set it to off"
        )


@final
class NoSpan:
    """Implements `sidecar.ports.Span` by showing nothing."""

    def fail(self, reason: str) -> None:
        """Do nothing."""


_NOTHING: Final = nullcontext(NoSpan())


@final
class NoTracer:
    """Implements `sidecar.ports.Tracer` by showing nothing; the client's trace id stays known."""

    def serve(self, parent: TraceParent) -> AbstractContextManager[str]:
        """Return the trace id that the client gave."""
        return nullcontext(parent.trace_id)

    def span(self, name: SpanName) -> AbstractContextManager[Span]:
        """Show nothing."""
        del name
        return _NOTHING

    def close(self) -> None:
        """Do nothing."""


def open_tracer(
    traces: Traces, *, version: str, behind: Observer, failed: Callable[[], None]
) -> tuple[Tracer, Observer]:
    """Return the tracer, and what tells spans of events and passes each on.

    Args:
        traces: ``otlp`` needs the extra ``otel``; OpenTelemetry's own variables say the rest.
        version: The sidecar's.
        behind: Whom every event is passed on to.
        failed: Called where a span could not be told of an event.

    Raises:
        TracesRefused: OpenTelemetry does not accept what its variables say.
    """
    if traces == "off":
        return NoTracer(), behind
    tracer = _open_otlp(version=version)
    from sidecar.telemetry import spans  # noqa: PLC0415 - as below

    return tracer, spans.SpanObserver(behind=behind, failed=failed)


def trouble_of(traces: Traces) -> str:
    """Return why traces could not be sent like this, or ``""``; opens a tracer and lets it go."""
    if traces == "off":
        return ""
    try:
        _open_otlp(version="").close()
    except TracesRefused as refused:
        return str(refused)
    return ""


def _open_otlp(*, version: str) -> Tracer:
    try:
        from sidecar.telemetry import spans  # noqa: PLC0415 - optional, and slow to import

        return spans.open_otlp_tracer(version=version)
    except Exception as error:  # noqa: BLE001 - of whatever class OpenTelemetry makes it
        raise TracesRefused(error) from None

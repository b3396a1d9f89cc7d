"""What traces cost where there are none."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sidecar.domain.tracing import NO_PARENT, SpanName, TraceParent
from sidecar.telemetry.tracing import NoTracer, open_tracer
from tests.support.environment import good_environment
from tests.support.proxy_rig import RecordingObserver


def test_with_traces_off_nothing_of_ours_needs_opentelemetry() -> None:
    """The whole sidecar is there without it, as where the extra is not installed."""
    program = (
        "import sys\n"
        "sys.modules['opentelemetry'] = None\n"  # whoever imports it is told that it is missing
        "import sidecar.app, sidecar.telemetry.tracing as tracing\n"
        "tracing.open_tracer('off', version='1', behind=None, failed=None)\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry.')])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)

    assert run.stdout.strip() == b"[]"


def test_with_traces_off_events_take_no_way_round() -> None:
    """The observer is the one behind, itself."""
    behind = RecordingObserver()

    assert open_tracer("off", version="1", behind=behind, failed=lambda: None)[1] is behind


def test_with_traces_off_the_clients_trace_id_is_known() -> None:
    """It is logged as before; a request without one gets none."""
    tracer = NoTracer()
    parent = TraceParent(trace_id="4bf92f35" * 4, parent_id="00f067aa0ba902b7", is_sampled=True)

    with tracer.serve(parent) as trace_id, tracer.span(SpanName.UPSTREAM):
        assert trace_id == parent.trace_id
    with tracer.serve(NO_PARENT) as trace_id:
        assert not trace_id


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_BSP_MAX_QUEUE_SIZE", "-1"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "many"),
    ],
)
def test_a_variable_that_opentelemetry_does_not_accept_is_wrong_configuration(
    name: str, value: str
) -> None:
    """`check-config` and `run` say so in a sentence, before anything starts."""
    environ = good_environment(TRACES="otlp") | {name: value}
    command = [sys.executable, "-m", "sidecar"]
    checked = subprocess.run(
        [*command, "check-config"], env=environ, capture_output=True, text=True, check=False
    )
    run = subprocess.run(
        [*command, "run"], env=environ, capture_output=True, text=True, check=False
    )

    assert (checked.returncode, run.returncode) == (78, 78)
    for told in (checked.stdout, run.stderr):
        assert told.startswith("SIDECAR_TRACES: OpenTelemetry does not accept"), told
        assert "Traceback" not in told

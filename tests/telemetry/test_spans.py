"""What spans say, read from memory."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event as ThreadEvent
from typing import Final

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from sidecar.domain.events import (
    ClaimEndedAs,
    ClaimOutcome,
    Event,
    RequestCompleted,
    RequestOutcome,
    StoreOperationEnded,
    UpstreamAnswered,
    UpstreamClass,
    WorkFailed,
)
from sidecar.domain.tokens import ProblemReason
from sidecar.domain.tracing import NO_PARENT, SpanName, TraceParent
from sidecar.telemetry.spans import open_otlp_tracer
from tests.support.sample_events import sample
from tests.support.traced import Traced

TRACE: Final = "4bf92f35" * 4
PARENT: Final = TraceParent(trace_id=TRACE, parent_id="00f067aa0ba902b7", is_sampled=True)


@pytest.fixture
def traced() -> Iterator[Traced]:
    traced = Traced()
    yield traced
    traced.tracer.close()


def test_a_request_without_a_trace_begins_one(traced: Traced) -> None:
    """The id that it is logged under is that of its span."""
    with traced.tracer.serve(NO_PARENT) as trace_id:
        pass

    span = traced.shown("proxy")
    assert span.parent is None
    assert span.context is not None
    assert trace_id == f"{span.context.trace_id:032x}"


def test_a_request_of_a_trace_goes_on_with_it(traced: Traced) -> None:
    """Its span is the child of the client's, and what is spanned within it a child of its own."""
    with traced.tracer.serve(PARENT) as trace_id, traced.tracer.span(SpanName.UPSTREAM):
        pass

    proxy, upstream = traced.shown("proxy"), traced.shown("upstream")
    assert trace_id == TRACE
    assert proxy.parent is not None
    assert f"{proxy.parent.span_id:016x}" == PARENT.parent_id
    assert upstream.parent == proxy.context
    assert (proxy.kind, upstream.kind) == (SpanKind.SERVER, SpanKind.CLIENT)


def test_an_event_goes_on_whether_or_not_there_is_a_span(traced: Traced) -> None:
    """Metrics and log lines do not depend on traces."""
    event = sample(WorkFailed)
    traced.observer.observe(event)
    traced.request(event)

    assert traced.behind.events == [event, event]


def test_the_end_of_a_request_names_its_span(traced: Traced) -> None:
    """The name is one of few, the fields of the log line are attributes, the id is not repeated."""
    span = traced.request(sample(RequestCompleted, product="accounts-info", status=200))

    assert span.name == "proxy accounts-info"
    attributes = span.attributes or {}
    assert attributes["http.response.status_code"] == 200
    assert {"sidecar.outcome", "sidecar.request_id", "sidecar.grant"} <= set(attributes)
    assert not {"sidecar.trace_id", "sidecar.duration_s"} & set(attributes)


def test_a_product_that_is_none_gets_no_name_of_its_own(traced: Traced) -> None:
    """A client cannot make up names of spans."""
    assert traced.request(sample(RequestCompleted, product="made-up")).name == "proxy other"


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (sample(RequestCompleted, status=200, outcome=RequestOutcome.PASSED), None),
        (sample(RequestCompleted, status=404, outcome=RequestOutcome.PASSED), None),
        (
            sample(
                RequestCompleted,
                status=503,
                outcome=RequestOutcome.REFUSED,
                reason=ProblemReason.TOKEN_UNAVAILABLE,
            ),
            "token_unavailable",
        ),
        (
            sample(
                RequestCompleted, status=200, outcome=RequestOutcome.UPSTREAM_BROKE, reason=None
            ),
            "upstream_broke",
        ),
        (sample(UpstreamAnswered, upstream_class=UpstreamClass.PARTIAL), None),
        (sample(UpstreamAnswered, upstream_class=UpstreamClass.TOKEN_602), "token_602"),
        (sample(UpstreamAnswered, upstream_class=UpstreamClass.TIMEOUT), "timeout"),
    ],
)
def test_who_failed_is_an_error_and_who_was_asked_wrongly_is_none(
    traced: Traced, event: Event, error: str | None
) -> None:
    """A server's 4xx is no error of its span, a client's is, as OpenTelemetry's conventions say."""
    span = traced.request(event)

    assert span.status.status_code is (StatusCode.UNSET if error is None else StatusCode.ERROR)
    assert (span.attributes or {}).get("error.type") == error


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (ClaimOutcome.WON, StatusCode.UNSET),
        (ClaimOutcome.LOST, StatusCode.ERROR),
        (ClaimOutcome.IN_DOUBT, StatusCode.ERROR),
    ],
)
def test_a_claim_that_won_nothing_is_an_error(
    traced: Traced, outcome: ClaimOutcome, status: StatusCode
) -> None:
    """Its outcome is an attribute of the claim, and of nothing else."""
    with traced.tracer.span(SpanName.CLAIM):
        traced.observer.observe(sample(ClaimEndedAs, outcome=outcome))

    claim = traced.shown("claim")
    assert claim.status.status_code is status
    assert (claim.attributes or {})["sidecar.outcome"] == outcome


def test_a_wish_that_needed_no_claim_changes_no_attribute_of_who_waited(traced: Traced) -> None:
    """What is no claim is told as an event."""
    with traced.tracer.span(SpanName.TOKEN_LOOKUP):
        traced.observer.observe(sample(ClaimEndedAs, outcome=ClaimOutcome.WAITED))

    lookup = traced.shown("token lookup")
    assert not lookup.attributes
    assert [event.name for event in lookup.events] == [ClaimEndedAs.event]


def test_a_log_line_within_a_span_is_an_event_of_it(traced: Traced) -> None:
    """What is only counted is not."""
    span = traced.request(sample(WorkFailed, where="flight", error="Bearer abcdefghijkl"))
    counted = traced.request(sample(StoreOperationEnded))

    assert [event.name for event in span.events] == ["work.failed"]
    assert dict(span.events[0].attributes or {}) == {
        "sidecar.where": "flight",
        "sidecar.error": "Bearer ****",
    }
    assert not counted.events


def test_an_exception_leaves_no_message_in_a_span(traced: Traced) -> None:
    """Messages of exceptions may hold secrets."""
    claimed = traced.tracer.span(SpanName.CLAIM)
    with pytest.raises(ValueError, match="secret"), traced.tracer.serve(NO_PARENT), claimed:
        raise ValueError("a secret")

    spans = traced.exporter.get_finished_spans()
    assert len(spans) == 2
    for span in spans:
        assert not span.events
        assert dict(span.attributes or {}) == {"error.type": "ValueError"}
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, None)


def test_a_span_that_cannot_be_told_fails_nothing_else(
    traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event is logged and counted, and so is the failure."""
    monkeypatch.setattr("sidecar.telemetry.spans.fields_of", None)
    event = sample(WorkFailed)

    traced.request(event)

    assert traced.behind.events == [event]
    assert traced.failures == [None]


def test_a_disabled_sdk_makes_up_no_trace_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is logged is what the client sent."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    traced = Traced()

    with traced.tracer.serve(NO_PARENT) as none, traced.tracer.serve(PARENT) as trace_id:
        assert (none, trace_id) == ("", TRACE)


def test_the_service_can_be_given_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenTelemetry's own variable wins."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "tokens")
    tracer = open_otlp_tracer(version="1")
    # No span is made to ask: the exporter would go on trying to send it.
    resource = tracer._provider.resource  # pyright: ignore[reportPrivateUsage]
    tracer.close()

    assert resource.attributes["service.name"] == "tokens"
    assert resource.attributes["service.version"] == "1"


def test_the_end_does_not_wait_for_a_collector_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has not taken by then is lost."""
    monkeypatch.setattr("sidecar.telemetry.spans.LAST_WORDS_S", 0.01)
    is_over = ThreadEvent()
    traced = Traced()
    monkeypatch.setattr(traced.exporter, "shutdown", is_over.wait)

    traced.tracer.close()

    assert not is_over.is_set(), "nobody took anything"
    is_over.set()

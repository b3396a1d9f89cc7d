"""What of a request is spanned, and under whom."""

from __future__ import annotations

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from sidecar.domain.tokens import HealGranted
from tests.support.proxy_rig import ScriptedSource, running_proxy, token
from tests.support.raw_http import answer, request
from tests.support.traced import Traced

TRACE = "4bf92f35" * 4
PARENT = "00f067aa0ba902b7"
TRACEPARENT = f"traceparent: 00-{TRACE}-{PARENT}-01".encode()
REJECTED = answer(b'{"code": 602}', status=b"401 Unauthorized")


def lineage(span: ReadableSpan) -> tuple[str, str]:
    """Return the ids of a span's trace and of its parent."""
    assert span.context is not None
    parent_id = "" if span.parent is None else f"{span.parent.span_id:016x}"
    return f"{span.context.trace_id:032x}", parent_id


async def test_requests_of_one_connection_are_traces_of_their_own() -> None:
    """A kept connection carries nothing from one request to the next."""
    traced = Traced()
    async with running_proxy(answer(), tracer=traced.tracer) as rig, rig.client() as client:
        await client.ask(request(TRACEPARENT))
        await client.ask(request())
        await client.ask(request(TRACEPARENT))
        await client.ask(request())

    first, second, third, fourth = map(lineage, traced.all_shown("proxy"))
    assert first == third == (TRACE, PARENT)
    assert second[1] == fourth[1] == ""
    assert len({TRACE, second[0], fourth[0]}) == 3
    assert [told.trace_id for told in rig.completed] == [TRACE, second[0], TRACE, fourth[0]]


async def test_questions_to_the_upstream_and_the_heal_between_are_spans() -> None:
    """Where the time of a healed request went can be told apart."""
    traced = Traced()
    source = ScriptedSource(verdicts=[HealGranted(found=token(2))])
    script = (REJECTED, answer(b"fine"))
    async with (
        running_proxy(*script, source=source, tracer=traced.tracer) as rig,
        rig.client() as client,
    ):
        await client.ask(request())

    *parts, proxy = traced.exporter.get_finished_spans()
    assert [span.name for span in (*parts, proxy)] == ["upstream", "heal", "upstream", "proxy"]
    assert [span.parent for span in parts] == [proxy.context] * len(parts)


async def test_an_upstream_that_cannot_be_reached_is_an_error_of_its_span() -> None:
    """No answer was classified, and still it is told whose fault it was."""
    traced = Traced()
    async with (
        running_proxy(answer(), upstream_port=1, tracer=traced.tracer) as rig,
        rig.client() as client,
    ):
        assert (await client.ask(request())).status == 502

    upstream = traced.shown("upstream")
    assert upstream.status.status_code is StatusCode.ERROR
    assert dict(upstream.attributes or {}) == {"error.type": "refused"}

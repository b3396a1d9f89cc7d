"""Which trace a request belongs to."""

from __future__ import annotations

from typing import Final

import pytest

from sidecar.domain.tracing import NO_PARENT, TraceParent, parse_traceparent

TRACE: Final = "4bf92f35" * 4
PARENT: Final = "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("traceparent", "is_sampled"),
    [
        (f"00-{TRACE}-{PARENT}-01", True),
        (f"00-{TRACE}-{PARENT}-00", False),
        (f"00-{TRACE}-{PARENT}-02", False),
        (f"00-{TRACE}-{PARENT}-03", True),
        (f"01-{TRACE}-{PARENT}-01-future", True),
    ],
)
def test_a_valid_traceparent_names_trace_and_parent(traceparent: str, *, is_sampled: bool) -> None:
    """Both ids are taken as they are; of the flags only the lowest bit has a meaning."""
    assert parse_traceparent([traceparent]) == TraceParent(
        trace_id=TRACE, parent_id=PARENT, is_sampled=is_sampled
    )


@pytest.mark.parametrize(
    "traceparents",
    [
        [f"00-{TRACE}-{PARENT}-01-future"],
        [f"ff-{TRACE}-{PARENT}-01"],
        [f"00-{'0' * 32}-{PARENT}-01"],
        [f"00-{TRACE}-{'0' * 16}-01"],
        [f"00-{TRACE.upper()}-{PARENT}-01"],
        [f"00-{TRACE}-{PARENT}-0x"],
        ["00-4bf9"],
        ["nonsense"],
        [""],
        [f"00-{TRACE}-{PARENT}-01"] * 2,
        [],
    ],
)
def test_a_bad_traceparent_names_nothing(traceparents: list[str]) -> None:
    """A `traceparent` that is malformed, or there twice, gives no id rather than a wrong one."""
    assert parse_traceparent(traceparents) == NO_PARENT

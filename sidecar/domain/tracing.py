"""W3C Trace Context: which trace a request belongs to, and what the sidecar shows of its own in it.

Does not know how spans are made or where they go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class SpanName(StrEnum):
    """What is shown as a span of its own."""

    PROXY = "proxy"
    """One request of a client, from its head to the end of its answer."""
    TOKEN_LOOKUP = "token lookup"  # noqa: S105 - the name of a span
    """A bearer that was not at hand: read, waited for or refreshed."""
    HEAL = "heal"
    """A newer bearer after the upstream refused one."""
    UPSTREAM = "upstream"
    """One question to the upstream, until the head of its answer is here."""
    CLAIM = "claim"
    """One claim of a refresh token, from its lease to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceParent:
    """The span of somebody else under which a request came.

    Attributes:
        trace_id: 32 hex digits, or ``""``: the request belongs to no trace.
        parent_id: 16 hex digits, or ``""``.
        is_sampled: Whether its sender keeps what it shows of the trace.
    """

    trace_id: str
    parent_id: str
    is_sampled: bool


NO_PARENT: Final = TraceParent(trace_id="", parent_id="", is_sampled=False)


def parse_traceparent(traceparents: Sequence[str]) -> TraceParent:
    """Return what a request's W3C ``traceparent`` says, or `NO_PARENT` where it says nothing valid.

    What W3C Trace Context calls invalid says nothing, and neither does a header that is there
    twice.
    """
    if len(traceparents) != 1:
        return NO_PARENT
    parts = traceparents[0].split("-")
    version, *fields = parts[:4]
    if [len(part) for part in parts[:4]] != [2, 32, 16, 2] or version == "ff":
        return NO_PARENT
    if version == "00" and len(parts) > len(fields) + 1:
        return NO_PARENT  # only a later version may have more fields
    trace_id, parent_id, flags = fields
    if not _LOWER_HEX_DIGITS.issuperset(version + "".join(fields)):
        return NO_PARENT
    if not (trace_id.strip("0") and parent_id.strip("0")):
        return NO_PARENT
    return TraceParent(
        trace_id=trace_id, parent_id=parent_id, is_sampled=bool(int(flags, 16) & _SAMPLED)
    )


_LOWER_HEX_DIGITS: Final = frozenset("0123456789abcdef")
_SAMPLED: Final = 1

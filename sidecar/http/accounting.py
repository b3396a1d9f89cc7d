"""What is told about one proxied request when it ends.

It gathers facts on the way and builds the canonical event; it decides nothing and never sees a
token, a query string or a header value but the ids that are made to be told.
"""

from __future__ import annotations

from typing import final

from sidecar.domain.bulkhead import SlotLimit
from sidecar.domain.events import RequestCompleted, RequestOutcome
from sidecar.domain.record import GrantId
from sidecar.domain.request_target import OTHER_PRODUCT
from sidecar.domain.tokens import ProblemReason
from sidecar.domain.upstream_failures import UpstreamCause

CLIENT_GONE_STATUS = 499
"""Told where the client left before a status was known, as nginx does."""


@final
class Account:
    """The account of one request; each fact is set where it becomes known."""

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "cause",
        "client",
        "grant",
        "interaction_id",
        "limit",
        "method",
        "outcome",
        "product",
        "provider",
        "reason",
        "request_id",
        "started_at_s",
        "status",
        "trace_id",
        "upstream_s",
    )

    def __init__(self, *, method: str, request_id: str, trace_id: str, started_at_s: float) -> None:
        self.method = method
        self.request_id = request_id
        self.trace_id = trace_id
        self.started_at_s = started_at_s
        self.grant: GrantId | None = None
        self.client = ""
        self.provider = ""
        self.product = OTHER_PRODUCT
        self.status = CLIENT_GONE_STATUS
        self.outcome = RequestOutcome.FAILED
        self.reason: ProblemReason | None = None
        self.limit: SlotLimit | None = None
        self.cause: UpstreamCause | None = None
        self.upstream_s = 0.0
        self.bytes_in = 0
        self.bytes_out = 0
        self.interaction_id = ""

    def close(self, *, now_s: float) -> RequestCompleted:
        """Return the event of the request that ended at `now_s` (monotonic)."""
        return RequestCompleted(
            request_id=self.request_id,
            trace_id=self.trace_id,
            grant=self.grant,
            client=self.client,
            provider=self.provider,
            product=self.product,
            method=self.method,
            status=self.status,
            outcome=self.outcome,
            reason=self.reason,
            limit=self.limit,
            cause=self.cause,
            duration_s=now_s - self.started_at_s,
            upstream_duration_s=self.upstream_s,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            interaction_id=self.interaction_id,
        )

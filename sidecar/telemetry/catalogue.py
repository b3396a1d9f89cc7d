"""Every metric: name, kind, meaning, labels and all their values. The reference is made from it.

Only what an event feeds stands here. It counts nothing (see `metrics`, `observer`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from sidecar.domain.bulkhead import SlotLimit
from sidecar.domain.connection_table import DropCause, ListenerName
from sidecar.domain.events import (
    BreakerName,
    ClaimKind,
    ClaimOutcome,
    CommitAnswer,
    ConnectOutcome,
    DueOutcome,
    LossCause,
    Mend,
    Outcome,
    RequestOutcome,
    StoreOperation,
    UpstreamClass,
)
from sidecar.domain.failure import Operation
from sidecar.domain.record import PUBLIC_STATES, GrantState
from sidecar.domain.request_target import OTHER_PRODUCT, PRODUCTS
from sidecar.domain.resources import NeededAt, Resource
from sidecar.domain.store_trouble import StoreTrouble
from sidecar.domain.tokens import ProblemReason, TokenSource
from sidecar.domain.upstream_failures import UpstreamCause
from sidecar.telemetry.line_writer import Loss

LATENCY_BUCKETS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
FINE_BUCKETS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5)
"""For what should take well under a millisecond: a disk, a store next door, the own overhead."""

STORE_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.01, 0.05, 0.25, 1.0)
"""Few: the store's operations are many, and each has as many series."""

LATENESS_BUCKETS: Final = (1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0)
"""For what nobody waits for."""

LOG_LEVELS: Final = ("debug", "info", "warning", "error")
CODE_CLASSES: Final = ("1xx", "2xx", "3xx", "4xx", "5xx", "none")
HIGHEST_CLASS: Final = 5


class Kind(StrEnum):
    """What kind of metric it is."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One metric.

    Attributes:
        labels: Each label and all its values, in the order in which they are given when counting.
        has_provider: Whether the open label ``provider`` comes last; such series begin with the
            first grant of a provider.
    """

    name: str
    kind: Kind
    meaning: str
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    has_provider: bool = False
    buckets: tuple[float, ...] = ()


def code_class(status: int) -> str:
    """Return the class of an HTTP status, ``none`` where no answer was begun."""
    first = status // 100
    return f"{first}xx" if 1 <= first <= HIGHEST_CLASS else "none"


def _values(members: Iterable[StrEnum]) -> tuple[str, ...]:
    return tuple(member.value for member in members)


def _counter(name: str, meaning: str, /, **labels: Iterable[str]) -> Spec:
    closed = {label: tuple(str(value) for value in values) for label, values in labels.items()}
    return Spec(name=name, kind=Kind.COUNTER, meaning=meaning, labels=closed)


def _gauge(name: str, meaning: str, /, **labels: Iterable[str]) -> Spec:
    closed = {label: tuple(str(value) for value in values) for label, values in labels.items()}
    return Spec(name=name, kind=Kind.GAUGE, meaning=meaning, labels=closed)


def _histogram(
    name: str,
    meaning: str,
    buckets: tuple[float, ...] = LATENCY_BUCKETS,
    /,
    **labels: Iterable[str],
) -> Spec:
    closed = {label: tuple(str(value) for value in values) for label, values in labels.items()}
    return Spec(name=name, kind=Kind.HISTOGRAM, meaning=meaning, labels=closed, buckets=buckets)


REQUESTS: Final = _counter(
    "sidecar_requests_total",
    "Proxied requests that ended.",
    product=(*sorted(PRODUCTS), OTHER_PRODUCT),
    outcome=RequestOutcome,
    code_class=CODE_CLASSES,
)
REQUEST_DURATION: Final = _histogram(
    "sidecar_request_duration_seconds",
    "Time of a proxied request from its head to its last byte.",
    outcome=RequestOutcome,
)
OVERHEAD: Final = _histogram(
    "sidecar_overhead_seconds",
    "Time of a proxied request that was not spent waiting for the upstream.",
    FINE_BUCKETS,
    outcome=RequestOutcome,
)
REQUESTS_IN_FLIGHT: Final = _gauge("sidecar_requests_in_flight", "Proxied requests under way.")
PROBLEMS: Final = _counter(
    "sidecar_problems_total",
    "Proxied requests that the sidecar answered itself.",
    reason=ProblemReason,
)
OVERLOADS: Final = _counter(
    "sidecar_overloads_total",
    "Proxied requests that were refused as overloaded, by the limit of the slots that they met.",
    limit=SlotLimit,
)
UPSTREAM_RESPONSES: Final = Spec(
    name="sidecar_upstream_responses_total",
    kind=Kind.COUNTER,
    meaning="Answers of the data APIs, or their absence.",
    labels={"class": _values(UpstreamClass)},
    has_provider=True,
)
UPSTREAM_FAILURES: Final = _counter(
    "sidecar_upstream_failures_total",
    "Proxied requests without an answer of the upstream, or without the whole of it.",
    cause=UpstreamCause,
)
TOKEN_LOOKUPS: Final = _counter(
    "sidecar_token_lookups_total",
    "Where the id_token of a proxied request came from.",
    source=TokenSource,
)
CONTROL_REQUESTS: Final = _counter(
    "sidecar_control_requests_total",
    "Calls of the grants API that ended.",
    code_class=CODE_CLASSES,
)
CONTROL_DURATION: Final = _histogram(
    "sidecar_control_request_duration_seconds", "Time of a call of the grants API."
)
CONNECTS: Final = _counter(
    "sidecar_connects_total",
    "Visits of people to the connect listener that ended, by what came of them.",
    outcome=ConnectOutcome,
)
CONNECTIONS: Final = _gauge(
    "sidecar_connections", "Open connections of clients.", listener=ListenerName
)
CONNECTIONS_LIMIT: Final = _gauge(
    "sidecar_connections_limit",
    "Connections that a listener may have; 0: it isn't open.",
    listener=ListenerName,
)
CONNECTIONS_DROPPED: Final = _counter(
    "sidecar_connections_dropped_total",
    "Connections of clients that the sidecar closed or did not take.",
    listener=ListenerName,
    cause=DropCause,
)

TOKEN_REQUESTS: Final = _counter(
    "sidecar_token_requests_total",
    "Requests to the token service that ended.",
    operation=Operation,
    outcome=Outcome,
)
TOKEN_REQUEST_DURATION: Final = _histogram(
    "sidecar_token_request_duration_seconds",
    "Time of a request to the token service.",
    operation=Operation,
    outcome=Outcome,
)
TOKEN_ERRORS: Final = Spec(
    name="sidecar_token_errors_total",
    kind=Kind.COUNTER,
    meaning="Token requests that failed, by the catalogue of token errors.",
    labels={"operation": (), "reason": (), "disposition": ()},
    has_provider=True,
)
CLAIM_ATTEMPTS: Final = _counter(
    "sidecar_claim_attempts_total",
    "Refresh tokens that left this sidecar.",
    kind=ClaimKind,
)
CLAIMS: Final = _counter(
    "sidecar_claims_total", "Wishes for a newer pair that ended.", outcome=ClaimOutcome
)
CLAIMS_SLOWED: Final = _counter(
    "sidecar_claims_slowed_total", "Claims that waited unusually long for their answer."
)
RETRIES_WITHHELD: Final = _counter(
    "sidecar_claim_retries_withheld_total",
    "Ambiguous tries that were not repeated: a tenth of all claims may be, and a few more.",
)
CLAIMS_VETOED: Final = _counter(
    "sidecar_claims_vetoed_total", "Claims stopped before their first byte: their time was over."
)
LAST_REFRESH: Final = _gauge(
    "sidecar_token_refresh_last_success_timestamp_seconds",
    "When this sidecar last refreshed a token; 0: not yet.",
)
ANSWER_TO_SPOOL: Final = _histogram(
    "sidecar_answer_to_spool_seconds",
    "From the last byte of a token answer to its durable copy; a pair is at risk for so long.",
    FINE_BUCKETS,
)
LATE_ANSWERS: Final = _counter(
    "sidecar_late_answers_total", "Pairs that came after their claim had counted as slow."
)
SALVAGES: Final = _counter(
    "sidecar_salvages_total", "Pairs saved from a broken answer of the token service."
)
COMMITS: Final = _counter(
    "sidecar_commits_total", "What the store said to a pair.", answer=CommitAnswer
)
HEALS: Final = _counter(
    "sidecar_heals_total",
    "Grants that a late pair brought back to life.",
    **{"from": (GrantState.IN_DOUBT, GrantState.REAUTH_REQUIRED)},
)
DOUBTS: Final = _counter(
    "sidecar_doubts_total", "Refused refresh tokens for which the fleet was asked."
)
REAUTHS: Final = _counter(
    "sidecar_reauths_total", "Grants whose end user must consent again.", cause=LossCause
)
TOKEN_LOSSES: Final = _counter(
    "sidecar_token_losses_total",
    "Live pairs that are gone for good. Page on any.",
    cause=tuple(cause for cause in LossCause if cause is not LossCause.CONSENT_OR_EXPIRY),
)
QUARANTINES: Final = _counter(
    "sidecar_quarantines_total", "Grants kept from claims after the store lost its memory."
)
DECRYPT_FAILURES: Final = _counter(
    "sidecar_decrypt_failures_total", "Envelopes that could not be opened."
)

DUE_GRANTS: Final = _counter(
    "sidecar_due_grants_total",
    "Grants that were due although nobody asked for them, by what came of it.",
    outcome=DueOutcome,
)
DUE_LATENESS: Final = _histogram(
    "sidecar_due_lateness_seconds",
    "How long after its instant in the schedule a grant was looked at.",
    LATENESS_BUCKETS,
)
MENDS: Final = _counter(
    "sidecar_mends_total",
    "What this sidecar's sweeps over all records, and over its own spool, put right.",
    mend=Mend,
)

STORE_OPERATIONS: Final = _counter(
    "sidecar_store_operations_total",
    "Calls of the store that ended.",
    operation=StoreOperation,
    outcome=Outcome,
)
STORE_DURATION: Final = _histogram(
    "sidecar_store_operation_duration_seconds",
    "Time of a call of the store.",
    STORE_BUCKETS,
    operation=StoreOperation,
    outcome=Outcome,
)
STORE_UP: Final = _gauge("sidecar_store_up", "1 while the store answers.")
STORE_TROUBLES: Final = _counter(
    "sidecar_store_troubles_total",
    "Calls of the store that failed, or that got no new connection and waited for another one.",
    cause=StoreTrouble,
)
STORE_STRAINED: Final = _gauge(
    "sidecar_store_strained", "1 while the store answers probes and other calls of it fail."
)
STORE_ROLLBACKS: Final = _counter(
    "sidecar_store_rollbacks_total",
    "Restarts and failovers of the store that may have lost writes.",
)
BREAKER_OPEN: Final = _gauge(
    "sidecar_breaker_open",
    "1 while a breaker of the whole fleet stops token requests.",
    name=BreakerName,
)
PROVIDER_BREAKER_OPEN: Final = Spec(
    name="sidecar_provider_breaker_open",
    kind=Kind.GAUGE,
    meaning="1 while this sidecar's breaker of a bank stops its refreshes; of `other`, how many.",
    has_provider=True,
)
BRAKE_OPEN: Final = _gauge(
    "sidecar_brake_open",
    "1 while the mass-death brake stops claims and settlements until a person lets it go. "
    "Page on it.",
)
BRAKE_TRIAL: Final = _gauge(
    "sidecar_brake_trial_grants",
    "How many grants a release of the brake let go, while its trial runs; 0: none runs.",
)
SPOOL_WRITABLE: Final = _gauge(
    "sidecar_spool_writable", "0 while the spool cannot be written: no claim leaves. Page on it."
)
SPOOL_ENTRIES: Final = _gauge("sidecar_spool_entries", "Live entries of the spool.")
SPOOL_PARKED: Final = _gauge(
    "sidecar_spool_parked_entries", "Pairs that lie in the spool and not yet in the store."
)
SPOOL_OLDEST: Final = _gauge(
    "sidecar_spool_oldest_timestamp_seconds",
    "When the oldest of them was parked; 0: there is none.",
)
SPOOL_WRITE: Final = _histogram(
    "sidecar_spool_write_seconds", "Time of a durable write to the spool.", FINE_BUCKETS
)
SPOOL_FAILURES: Final = _counter(
    "sidecar_spool_failures_total", "Times that the spool could not be written."
)
GRANTS: Final = _gauge(
    "sidecar_grants",
    "The fleet's grants, counted every ten minutes by one sidecar of it; no series elsewhere.",
    state=PUBLIC_STATES,
)
LOOP_LAG: Final = _histogram(
    "sidecar_event_loop_lag_seconds", "How late the event loop ran a timer.", FINE_BUCKETS
)
RELOAD_SUCCESSFUL: Final = _gauge(
    "sidecar_config_last_reload_successful",
    "Whether the last SIGHUP was taken up; 0: everything stayed as it was. 1 from the start.",
)
RELOAD_SUCCEEDED_AT: Final = _gauge(
    "sidecar_config_last_reload_success_timestamp_seconds",
    "When files were last read and taken up, by the start or by a SIGHUP.",
)
RESOURCE_EXHAUSTED: Final = _counter(
    "sidecar_resource_exhausted_total",
    "Connections that could not be accepted or made for lack of a resource.",
    resource=Resource,
    where=NeededAt,
)
WORK_FAILURES: Final = _counter(
    "sidecar_work_failures_total", "Faults of the sidecar itself. Report any."
)
OBSERVER_FAILURES: Final = _counter(
    "sidecar_observer_failures_total", "Events that could not be counted or logged."
)
LOG_LINES_DROPPED: Final = _counter(
    "sidecar_log_lines_dropped_total",
    "Log lines that were not written, since stdout took no more, or failed.",
    level=LOG_LEVELS,
    loss=Loss,
)

BUILD_INFO_NAME: Final = "sidecar_build_info"
BUILD_INFO_MEANING: Final = "Always 1; the labels name the release and the interpreter."
BUILD_INFO_LABELS: Final = ("version", "python")

SPECS: Final = tuple(value for value in list(vars().values()) if isinstance(value, Spec))
"""All of them, in the order above."""

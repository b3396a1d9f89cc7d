"""The metrics of one process, ready to count, and the page that shows them.

It knows no event (see `observer`) and no HTTP: it makes bytes of an ``Accept`` header.
"""

from __future__ import annotations

import platform
from typing import final

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import choose_encoder

from sidecar.domain.failure import DISPOSITIONS, OPERATION_REASONS
from sidecar.telemetry import catalogue
from sidecar.telemetry.families import (
    AllOrNone,
    Counts,
    Levels,
    ProviderCounts,
    ProviderLevels,
    ProviderNames,
    Spans,
)


def token_error_rows() -> tuple[tuple[str, str, str], ...]:
    """Return every (operation, reason, disposition) that the catalogue of token errors allows."""
    return tuple(
        (operation, reason, DISPOSITIONS[reason])
        for operation, reasons in OPERATION_REASONS.items()
        for reason in reasons
    )


@final
class Metrics:
    """Every metric of `catalogue`, in a registry of its own. Safe to use from several threads.

    Making a second one in a process is fine: nothing is shared but prometheus_client's switch
    that turns ``_created`` series off.
    """

    def __init__(self, *, version: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library left it untyped
        self.registry = CollectorRegistry()
        self.providers = ProviderNames()
        build = Gauge(
            catalogue.BUILD_INFO_NAME,
            catalogue.BUILD_INFO_MEANING,
            catalogue.BUILD_INFO_LABELS,
            registry=self.registry,
        )
        build.labels(version, platform.python_version()).set(1)
        ProcessCollector(registry=self.registry)
        self._make_request_metrics()
        self._make_token_metrics()
        self._make_store_metrics()

    def _make_request_metrics(self) -> None:
        registry = self.registry
        self.requests = Counts(catalogue.REQUESTS, registry)
        self.request_duration = Spans(catalogue.REQUEST_DURATION, registry)
        self.overhead = Spans(catalogue.OVERHEAD, registry)
        self.requests_in_flight = Levels(catalogue.REQUESTS_IN_FLIGHT, registry)
        self.problems = Counts(catalogue.PROBLEMS, registry)
        self.overloads = Counts(catalogue.OVERLOADS, registry)
        self.upstream_responses = ProviderCounts(catalogue.UPSTREAM_RESPONSES, registry)
        self.upstream_failures = Counts(catalogue.UPSTREAM_FAILURES, registry)
        self.token_lookups = Counts(catalogue.TOKEN_LOOKUPS, registry)
        self.control_requests = Counts(catalogue.CONTROL_REQUESTS, registry)
        self.control_duration = Spans(catalogue.CONTROL_DURATION, registry)
        self.connects = Counts(catalogue.CONNECTS, registry)
        self.resource_exhausted = Counts(catalogue.RESOURCE_EXHAUSTED, registry)
        self.connections = Levels(catalogue.CONNECTIONS, registry)
        self.connections_limit = Levels(catalogue.CONNECTIONS_LIMIT, registry)
        self.connections_dropped = Counts(catalogue.CONNECTIONS_DROPPED, registry)
        self.work_failures = Counts(catalogue.WORK_FAILURES, registry)
        self.observer_failures = Counts(catalogue.OBSERVER_FAILURES, registry)
        self.log_lines_dropped = Counts(catalogue.LOG_LINES_DROPPED, registry)

    def _make_token_metrics(self) -> None:
        registry = self.registry
        self.token_requests = Counts(catalogue.TOKEN_REQUESTS, registry)
        self.token_request_duration = Spans(catalogue.TOKEN_REQUEST_DURATION, registry)
        self.token_errors = ProviderCounts(catalogue.TOKEN_ERRORS, registry, token_error_rows())
        self.claim_attempts = Counts(catalogue.CLAIM_ATTEMPTS, registry)
        self.claims = Counts(catalogue.CLAIMS, registry)
        self.claims_slowed = Counts(catalogue.CLAIMS_SLOWED, registry)
        self.retries_withheld = Counts(catalogue.RETRIES_WITHHELD, registry)
        self.claims_vetoed = Counts(catalogue.CLAIMS_VETOED, registry)
        self.last_refresh = Levels(catalogue.LAST_REFRESH, registry)
        self.answer_to_spool = Spans(catalogue.ANSWER_TO_SPOOL, registry)
        self.late_answers = Counts(catalogue.LATE_ANSWERS, registry)
        self.salvages = Counts(catalogue.SALVAGES, registry)
        self.commits = Counts(catalogue.COMMITS, registry)
        self.heals = Counts(catalogue.HEALS, registry)
        self.doubts = Counts(catalogue.DOUBTS, registry)
        self.reauths = Counts(catalogue.REAUTHS, registry)
        self.token_losses = Counts(catalogue.TOKEN_LOSSES, registry)
        self.quarantines = Counts(catalogue.QUARANTINES, registry)
        self.due_grants = Counts(catalogue.DUE_GRANTS, registry)
        self.due_lateness = Spans(catalogue.DUE_LATENESS, registry)
        self.mends = Counts(catalogue.MENDS, registry)
        self.decrypt_failures = Counts(catalogue.DECRYPT_FAILURES, registry)

    def _make_store_metrics(self) -> None:
        registry = self.registry
        self.store_operations = Counts(catalogue.STORE_OPERATIONS, registry)
        self.store_duration = Spans(catalogue.STORE_DURATION, registry)
        self.store_up = Levels(catalogue.STORE_UP, registry)
        self.store_troubles = Counts(catalogue.STORE_TROUBLES, registry)
        self.store_strained = Levels(catalogue.STORE_STRAINED, registry)
        self.store_rollbacks = Counts(catalogue.STORE_ROLLBACKS, registry)
        self.breaker_open = Levels(catalogue.BREAKER_OPEN, registry)
        self.provider_breaker_open = ProviderLevels(catalogue.PROVIDER_BREAKER_OPEN, registry)
        self.brake_open = Levels(catalogue.BRAKE_OPEN, registry)
        self.brake_trial = Levels(catalogue.BRAKE_TRIAL, registry)
        self.spool_entries = Levels(catalogue.SPOOL_ENTRIES, registry)
        self.spool_writable = Levels(catalogue.SPOOL_WRITABLE, registry)
        self.spool_parked = Levels(catalogue.SPOOL_PARKED, registry)
        self.spool_oldest = Levels(catalogue.SPOOL_OLDEST, registry)
        self.spool_write = Spans(catalogue.SPOOL_WRITE, registry)
        self.spool_failures = Counts(catalogue.SPOOL_FAILURES, registry)
        self.grants = AllOrNone(catalogue.GRANTS, registry)
        self.loop_lag = Spans(catalogue.LOOP_LAG, registry)
        self.reload_successful = Levels(catalogue.RELOAD_SUCCESSFUL, registry)
        self.reload_succeeded_at = Levels(catalogue.RELOAD_SUCCEEDED_AT, registry)
        self.note_reload(is_taken=True)

    def note_reload(self, *, is_taken: bool) -> None:
        """Tell whether the files were taken up that were read just now, by a start or a reload."""
        self.reload_successful.set(int(is_taken))
        if is_taken:
            self.reload_succeeded_at.set_to_now()

    def admit_provider(self, provider: str) -> str:
        """Return the label of a provider that has a grant, with all its series begun."""
        label = self.providers.admit(provider)
        self.token_errors.begin(label)
        self.upstream_responses.begin(label)
        self.provider_breaker_open.begin(label)
        return label


@final
class MetricsPage:
    """Renders a registry as a scraper asks for it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return the page and its content type, text or OpenMetrics as `accept` prefers."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

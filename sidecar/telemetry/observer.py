"""Renders every event as metrics, and as a log line where `lines` has one.

One `match` over the closed union of events, cut into groups; a new event without a case does not
type-check. It decides nothing and never fails the work that it watches.
"""

from __future__ import annotations

from typing import assert_never, final

from sidecar.domain import events as ev
from sidecar.domain.events import CommitAnswer, Event, Mend, Outcome
from sidecar.domain.failure import Operation
from sidecar.domain.record import GrantState
from sidecar.domain.request_target import to_known_product
from sidecar.telemetry.catalogue import GRANTS, code_class
from sidecar.telemetry.lines import LINES, Line, ended_by, fields_of, lasting, level_of
from sidecar.telemetry.logging import Level, Log
from sidecar.telemetry.metrics import Metrics

RequestEvent = (
    ev.RequestStarted
    | ev.RequestCompleted
    | ev.UpstreamAnswered
    | ev.TokenLookedUp
    | ev.ControlCompleted
    | ev.ConnectCompleted
)
TokenEvent = (
    ev.TokenRequestEnded
    | ev.TokenRequestFailed
    | ev.TokenObtained
    | ev.TokenRefreshed
    | ev.TokenSent
    | ev.ClaimEndedAs
    | ev.BackoffOverridden
    | ev.ClaimSlowed
    | ev.ClaimVetoed
    | ev.PairCommitted
)
GrantEvent = (
    ev.GrantDoubted
    | ev.GrantReauthRequired
    | ev.TokenLost
    | ev.GrantRevoked
    | ev.RevocationPostponed
    | ev.GrantInvalidated
    | ev.GrantPurged
    | ev.GrantCooled
    | ev.RecordQuarantined
    | ev.RecordUnreadable
    | ev.GrantLookedAt
)
StoreEvent = (
    ev.StoreOperationEnded
    | ev.StoreTroubled
    | ev.StoreStrained
    | ev.StoreEased
    | ev.StoreLost
    | ev.StoreRestored
    | ev.StoreReincarnated
    | ev.SpoolWritten
    | ev.SpoolMeasured
    | ev.SpoolFailed
    | ev.SpoolReplayed
)
RestraintEvent = (
    ev.BreakerOpened
    | ev.BreakerClosed
    | ev.ProviderBreakerOpened
    | ev.ProviderBreakerClosed
    | ev.BrakePulled
    | ev.BrakeReleased
    | ev.BrakeTrialEnded
    | ev.RetryWithheld
    | ev.ClientSecretRead
)
ConnectionEvent = (
    ev.DescriptorsShared | ev.ConnectionsCounted | ev.ConnectionDropped | ev.ListenerFilled
)
ProcessEvent = (
    ev.GrantsCounted
    | ev.StoreSwept
    | ev.SpoolResealed
    | ev.LoopLagged
    | ev.ResourceExhausted
    | ev.LifecycleListening
    | ev.LifecycleReady
    | ev.LifecycleDraining
    | ev.LifecycleStopped
    | ev.ConfigurationWarned
    | ev.ConfigurationReloaded
    | ev.ConfigurationReloadRefused
    | ev.SignalIgnored
    | ev.WorkFailed
)


@final
class TelemetryObserver:
    """Implements `sidecar.ports.Observer`; may be told from several threads at once."""

    def __init__(self, *, metrics: Metrics, log: Log) -> None:
        self._metrics = metrics
        self._log = log
        self._knows_store = False

    def observe(self, event: Event) -> None:
        """Count and log one event; a failure to do so is counted and goes no further."""
        try:
            self._count(event)
            line = LINES.get(type(event))
            if line is None:
                return
            for whose in ended_by(event):
                self._log.end(whose)
            level = level_of(event, line) if line.unless else line.level
            if level >= self._log.least:
                self._write(level, event, line)
        except Exception:  # noqa: BLE001 - telling must not fail the work; the count is alerted on
            self._metrics.observer_failures.add()

    def _write(self, level: Level, event: Event, line: Line) -> None:
        told = lasting(event) if line.once else None
        if told is None:
            self._log.write(level, event.event, fields_of(event), is_kept=line.is_kept)
        else:
            whose, state = told
            self._log.write_once(level, whose, fields_of(event), state=state)

    def _count(self, event: Event) -> None:
        if isinstance(event, RequestEvent):
            self._count_request(event)
        elif isinstance(event, TokenEvent):
            self._count_token(event)
        elif isinstance(event, GrantEvent):
            self._count_grant(event)
        elif isinstance(event, StoreEvent):
            self._count_store(event)
        elif isinstance(event, RestraintEvent):
            self._count_restraint(event)
        elif isinstance(event, ConnectionEvent):
            self._count_connections(event)
        else:
            self._count_process(event)

    def _count_request(self, event: RequestEvent) -> None:
        metrics = self._metrics
        match event:
            case ev.RequestCompleted():
                metrics.requests_in_flight.add(-1)
                product = to_known_product(event.product)
                metrics.requests.add(product, event.outcome, code_class(event.status))
                metrics.request_duration.observe(event.duration_s, event.outcome)
                overhead_s = max(0.0, event.duration_s - event.upstream_duration_s)
                metrics.overhead.observe(overhead_s, event.outcome)
                if event.reason is not None:
                    metrics.problems.add(event.reason)
                if event.limit is not None:
                    metrics.overloads.add(event.limit)
                if event.cause is not None:
                    metrics.upstream_failures.add(event.cause)
            case ev.RequestStarted():
                metrics.requests_in_flight.add(1)
            case ev.UpstreamAnswered():
                provider = metrics.admit_provider(event.provider)
                metrics.upstream_responses.add(event.upstream_class, provider=provider)
            case ev.TokenLookedUp():
                metrics.token_lookups.add(event.source)
            case ev.ControlCompleted():
                metrics.control_requests.add(code_class(event.status))
                metrics.control_duration.observe(event.duration_s)
            case ev.ConnectCompleted():
                metrics.connects.add(event.outcome)
            case _:
                assert_never(event)

    def _count_token(self, event: TokenEvent) -> None:
        metrics = self._metrics
        match event:
            case ev.TokenRequestEnded():
                metrics.token_requests.add(event.operation, event.outcome)
                metrics.token_request_duration.observe(
                    event.duration_s, event.operation, event.outcome
                )
            case ev.TokenRequestFailed():
                self._count_failure(event)
            case ev.TokenObtained():
                metrics.admit_provider(event.provider)
            case ev.TokenRefreshed():
                self._count_refresh(event)
            case ev.TokenSent():
                metrics.claim_attempts.add(event.kind)
            case ev.ClaimEndedAs():
                metrics.claims.add(event.outcome)
            case ev.BackoffOverridden():
                pass
            case ev.ClaimSlowed():
                metrics.claims_slowed.add()
            case ev.ClaimVetoed():
                metrics.claims_vetoed.add()
            case ev.PairCommitted():
                self._count_commit(event)
            case _:
                assert_never(event)

    def _count_failure(self, event: ev.TokenRequestFailed) -> None:
        failure, metrics = event.failure, self._metrics
        # Only an exchange can fail at a provider of which there is no grant.
        has_grant = failure.operation is not Operation.OBTAIN
        name = metrics.admit_provider if has_grant else metrics.providers.recall
        metrics.token_errors.add(
            failure.operation,
            failure.reason,
            failure.disposition,
            provider=name(event.provider),
        )

    def _count_commit(self, event: ev.PairCommitted) -> None:
        self._metrics.commits.add(event.answer)
        match event:
            case ev.PairCommitted(
                answer=CommitAnswer.COMMITTED,
                was=(GrantState.IN_DOUBT | GrantState.REAUTH_REQUIRED) as was,
            ):
                self._metrics.heals.add(was)
            case _:
                pass

    def _count_refresh(self, event: ev.TokenRefreshed) -> None:
        metrics = self._metrics
        metrics.admit_provider(event.provider)
        metrics.last_refresh.set_to_now()
        metrics.answer_to_spool.observe(event.answer_to_spool_s)
        if event.is_salvaged:
            metrics.salvages.add()
        if event.was_slow:
            metrics.late_answers.add()

    def _count_grant(self, event: GrantEvent) -> None:
        metrics = self._metrics
        match event:
            case ev.GrantDoubted():
                metrics.doubts.add()
            case ev.GrantReauthRequired():
                metrics.reauths.add(event.cause)
            case ev.TokenLost():
                metrics.token_losses.add(event.cause)
            case ev.RecordQuarantined():
                metrics.quarantines.add()
            case ev.RecordUnreadable():
                metrics.decrypt_failures.add()
            case ev.GrantLookedAt():
                metrics.due_grants.add(event.outcome)
                metrics.due_lateness.observe(event.late_s)
            case ev.GrantRevoked() | ev.RevocationPostponed() | ev.GrantInvalidated():
                pass
            case ev.GrantPurged() | ev.GrantCooled():
                pass
            case _:
                assert_never(event)

    def _count_store(self, event: StoreEvent) -> None:
        metrics = self._metrics
        match event:
            case ev.StoreOperationEnded():
                metrics.store_operations.add(event.operation, event.outcome)
                metrics.store_duration.observe(event.duration_s, event.operation, event.outcome)
                if not self._knows_store and event.outcome is Outcome.OK:
                    self._set_store_up(level=1)
            case ev.StoreTroubled():
                metrics.store_troubles.add(event.cause)
            case ev.StoreStrained() | ev.StoreEased():
                metrics.store_strained.set(int(isinstance(event, ev.StoreStrained)))
            case ev.StoreLost():
                self._set_store_up(level=0)
                metrics.store_strained.set(0)
            case ev.StoreRestored():
                self._set_store_up(level=1)
            case ev.StoreReincarnated():
                metrics.store_rollbacks.add()
            case ev.SpoolWritten():
                metrics.spool_write.observe(event.duration_s)
            case ev.SpoolMeasured():
                metrics.spool_writable.set(int(event.is_writable))
                metrics.spool_entries.set(event.entries)
                metrics.spool_parked.set(event.parked)
                metrics.spool_oldest.set(event.oldest_parked_at_s)
            case ev.SpoolFailed():
                metrics.spool_failures.add()
            case ev.SpoolReplayed():
                pass
            case _:
                assert_never(event)

    def _count_restraint(self, event: RestraintEvent) -> None:
        metrics = self._metrics
        match event:
            case ev.BreakerOpened():
                metrics.breaker_open.set(1, event.name)
            case ev.BreakerClosed():
                metrics.breaker_open.set(0, event.name)
            case ev.ProviderBreakerOpened():
                provider = metrics.admit_provider(event.provider)
                metrics.provider_breaker_open.add(1, provider=provider)
            case ev.ProviderBreakerClosed():
                provider = metrics.admit_provider(event.provider)
                metrics.provider_breaker_open.add(-1, provider=provider)
            case ev.BrakePulled():
                metrics.brake_open.set(1)
                metrics.brake_trial.set(0)
            case ev.BrakeReleased():
                metrics.brake_open.set(0)
                metrics.brake_trial.set(event.limit)
            case ev.BrakeTrialEnded():
                metrics.brake_trial.set(0)
            case ev.RetryWithheld():
                metrics.retries_withheld.add()
            case ev.ClientSecretRead():
                pass
            case _:
                assert_never(event)

    def _set_store_up(self, *, level: int) -> None:
        self._knows_store = True
        self._metrics.store_up.set(level)

    def _count_connections(self, event: ConnectionEvent) -> None:
        metrics = self._metrics
        match event:
            case ev.ConnectionsCounted():
                metrics.connections.set(event.connections, event.listener)
                metrics.connections_limit.set(event.limit, event.listener)
            case ev.ConnectionDropped():
                metrics.connections_dropped.add(event.listener, event.cause)
            case ev.DescriptorsShared() | ev.ListenerFilled():
                pass
            case _:
                assert_never(event)

    def _count_process(self, event: ProcessEvent) -> None:
        match event:
            case ev.GrantsCounted(is_ours=False):
                self._metrics.grants.hide()
            case ev.GrantsCounted():
                states = GRANTS.labels["state"]
                self._metrics.grants.show({state: getattr(event, state) for state in states})
            case ev.StoreSwept():
                self._metrics.mends.add_many(event.scheduled, Mend.SCHEDULED)
                self._metrics.mends.add_many(event.settled, Mend.SETTLED)
                self._metrics.mends.add_many(event.resealed, Mend.RESEALED)
            case ev.SpoolResealed():
                self._metrics.mends.add_many(event.entries, Mend.SPOOL_RESEALED)
            case ev.LoopLagged():
                self._metrics.loop_lag.observe(event.lag_s)
            case ev.ConfigurationReloaded():
                self._metrics.note_reload(is_taken=True)
            case ev.ConfigurationReloadRefused():
                self._metrics.note_reload(is_taken=False)
            case ev.ResourceExhausted():
                self._metrics.resource_exhausted.add(event.resource, event.where)
            case ev.WorkFailed():
                self._metrics.work_failures.add()
            case ev.LifecycleListening() | ev.LifecycleReady() | ev.LifecycleDraining():
                pass
            case ev.LifecycleStopped() | ev.ConfigurationWarned() | ev.SignalIgnored():
                pass
            case _:
                assert_never(event)

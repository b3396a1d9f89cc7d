from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

import pytest

from sidecar.domain import events as ev
from sidecar.domain.events import (
    ClaimKind,
    CommitAnswer,
    ConnectOutcome,
    LossCause,
    Outcome,
    RequestOutcome,
)
from sidecar.domain.failure import Disposition, FailureReason, Operation
from sidecar.domain.record import GrantState
from sidecar.domain.tokens import ProblemReason, TokenFailure
from sidecar.telemetry.lines import LINES, names_of
from sidecar.telemetry.logging import Level, Log
from sidecar.telemetry.metrics import Metrics
from sidecar.telemetry.observer import TelemetryObserver
from tests.support.sample_events import EVENT_TYPES, sample
from tests.support.telemetry_rig import Rig


@pytest.mark.parametrize("event", EVENT_TYPES)
def test_every_event_is_counted_or_logged_and_none_fails_the_observer(
    event: type[ev.Event],
) -> None:
    """No event is lost in silence, whichever member of its enums it carries."""
    rig = Rig()
    before = rig.all_samples()

    told = sample(event)
    rig.observer.observe(told)

    assert rig.value("sidecar_observer_failures_total") == 0
    assert (rig.lines() != []) == (event in LINES)
    assert rig.lines() or rig.all_samples() != before


@pytest.mark.parametrize("event", LINES)
def test_a_line_has_the_fields_that_the_reference_lists(event: type[ev.Event]) -> None:
    """Whoever builds a query from the reference finds the fields, with values of JSON."""
    rig = Rig()

    rig.observer.observe(sample(event))

    (line,) = rig.lines()
    assert list(line) == ["timestamp", "level", "event", *(n for n in names_of(event) if n in line)]
    assert set(names_of(event)) <= set(line)
    assert line["event"] == event.event


def test_a_failed_token_request_is_told_with_hint_and_next_step() -> None:
    """An operator reads from one line what Akoya said, what it means and what happens now."""
    rig = Rig()

    rig.observer.observe(sample(ev.TokenRequestFailed, retry_in_s=2.5))

    (line,) = rig.lines()
    assert line["level"] == "warning"
    assert line["operation"] == "refresh"
    assert line["reason"] == "refresh_token_claimed"
    assert (line["akoya_status"], line["akoya_error"]) == (400, "invalid_request")
    assert line["next"] == "in_doubt"
    assert line["retry_in_s"] == 2.5
    assert "used before or is invalid" in str(line["hint"])


@pytest.mark.parametrize(
    ("event", "level"),
    [
        (sample(ev.RequestCompleted, outcome=RequestOutcome.PASSED), "info"),
        (sample(ev.RequestCompleted, outcome=RequestOutcome.FAILED), "error"),
        (sample(ev.TokenObtained, is_other_subject=True), "warning"),
        (sample(ev.TokenObtained, is_other_subject=False), "info"),
        (sample(ev.PairCommitted, answer=CommitAnswer.COMMITTED, is_gap=False), "debug"),
        (sample(ev.PairCommitted, answer=CommitAnswer.COMMITTED, is_gap=True), "warning"),
        (sample(ev.PairCommitted, answer=CommitAnswer.REVOKE, is_gap=False), "warning"),
        (sample(ev.PairCommitted, answer=CommitAnswer.FORKED, is_gap=False), "warning"),
        (sample(ev.LifecycleStopped, drained=True), "info"),
        (sample(ev.LifecycleStopped, drained=False), "warning"),
        (sample(ev.ConnectCompleted, outcome=ConnectOutcome.CONNECTED), "info"),
        (sample(ev.ConnectCompleted, outcome=ConnectOutcome.DENIED), "info"),
        (sample(ev.ConnectCompleted, outcome=ConnectOutcome.OTHER_BROWSER), "warning"),
        (sample(ev.ConnectCompleted, outcome=ConnectOutcome.FORM_REFUSED), "warning"),
        (sample(ev.ConnectCompleted, outcome=ConnectOutcome.FAILED), "error"),
        (sample(ev.ConnectCompleted, outcome=ConnectOutcome.RETURN_REFUSED), "error"),
        (sample(ev.ConnectCompleted, outcome=ConnectOutcome.FAULT), "error"),
        (sample(ev.ResourceExhausted), "error"),
        (sample(ev.TokenLost), "error"),
        (sample(ev.StoreLost), "warning"),
        (sample(ev.ClaimEndedAs), "debug"),
    ],
)
def test_the_level_says_who_must_act(event: ev.Event, level: str) -> None:
    """`error` wants a person, `warning` heals by itself, `info` is a change of state."""
    rig = Rig()

    rig.observer.observe(event)

    assert [line["level"] for line in rig.lines()] == [level]


@pytest.mark.parametrize(
    ("disposition", "level"),
    [
        (Disposition.OPERATOR, "error"),
        (Disposition.DONE, "info"),
        (Disposition.RETRY_LATER, "warning"),
        (Disposition.REAUTH, "warning"),
    ],
)
def test_the_level_of_a_token_error_follows_its_disposition(
    disposition: Disposition, level: str
) -> None:
    """A wrong client secret pages somebody; a busy Akoya does not."""
    rig = Rig()
    failure = TokenFailure(
        operation=Operation.REVOKE, reason=FailureReason.UNKNOWN, disposition=disposition
    )

    rig.observer.observe(sample(ev.TokenRequestFailed, failure=failure))

    (line,) = rig.lines()
    assert line["level"] == level
    assert "akoya_status" not in line


def test_lines_below_the_level_are_counted_and_not_written() -> None:
    """Turning the log down does not turn the metrics down."""
    rig = Rig(least=Level.ERROR)

    rig.observer.observe(sample(ev.RequestCompleted, outcome=RequestOutcome.PASSED))

    assert rig.lines() == []
    assert rig.value("sidecar_request_duration_seconds_count", outcome="passed") == 1


def test_a_request_moves_its_metrics_once() -> None:
    """Started and completed, a request is counted by product, outcome and class, and not kept."""
    rig = Rig()
    done = sample(
        ev.RequestCompleted,
        product="balances",
        status=503,
        outcome=RequestOutcome.REFUSED,
        reason=ProblemReason.OVERLOADED,
        duration_s=0.5,
        upstream_duration_s=0.4,
    )

    rig.observer.observe(ev.RequestStarted())
    in_flight = rig.value("sidecar_requests_in_flight")
    rig.observer.observe(done)

    assert in_flight == 1
    assert rig.value("sidecar_requests_in_flight") == 0
    labels = {"product": "balances", "outcome": "refused", "code_class": "5xx"}
    assert rig.value("sidecar_requests_total", **labels) == 1
    assert rig.value("sidecar_problems_total", reason="overloaded") == 1
    assert rig.value("sidecar_overhead_seconds_sum", outcome="refused") == pytest.approx(0.1)
    assert rig.value("sidecar_request_duration_seconds_sum", outcome="refused") == 0.5


@pytest.mark.parametrize(
    ("status", "code_class"), [(200, "2xx"), (404, "4xx"), (0, "none"), (999, "none")]
)
def test_an_odd_product_or_status_makes_no_new_series(status: int, code_class: str) -> None:
    """No client can make the metrics grow by what it asks for."""
    rig = Rig()
    before = set(rig.all_samples())

    rig.observer.observe(
        sample(
            ev.RequestCompleted,
            product="wp-admin",
            status=status,
            outcome=RequestOutcome.PASSED,
            reason=None,
        )
    )

    assert set(rig.all_samples()) == before
    labels = {"product": "other", "outcome": "passed", "code_class": code_class}
    assert rig.value("sidecar_requests_total", **labels) == 1


def test_a_refresh_tells_when_it_was_and_how_long_the_pair_was_at_risk() -> None:
    """Alerts on 'no refresh for an hour' and on a slow disk have their numbers."""
    rig = Rig()

    rig.observer.observe(
        sample(ev.TokenRefreshed, answer_to_spool_s=0.004, is_salvaged=True, was_slow=True)
    )

    assert (rig.value("sidecar_token_refresh_last_success_timestamp_seconds") or 0) > 1e9
    assert rig.value("sidecar_answer_to_spool_seconds_sum") == 0.004
    assert rig.value("sidecar_salvages_total") == 1
    assert rig.value("sidecar_late_answers_total") == 1


@pytest.mark.parametrize(
    ("answer", "was", "heals"),
    [
        (CommitAnswer.COMMITTED, GrantState.IN_DOUBT, 1),
        (CommitAnswer.COMMITTED, GrantState.SENDING, None),
        (CommitAnswer.STALE, GrantState.IN_DOUBT, 0),
    ],
)
def test_only_a_commit_over_doubt_or_death_heals(
    answer: CommitAnswer, was: GrantState, heals: float | None
) -> None:
    """`sidecar_heals_total` counts grants saved, not commits."""
    rig = Rig()

    rig.observer.observe(sample(ev.PairCommitted, answer=answer, was=was))

    assert rig.value("sidecar_heals_total", **{"from": was.value}) == heals
    assert rig.value("sidecar_commits_total", answer=answer.value) == 1


def test_the_store_is_up_from_its_first_answer_until_it_is_lost() -> None:
    """A straggling success after the loss does not hide it."""
    rig = Rig()
    succeeded = sample(ev.StoreOperationEnded, outcome=Outcome.OK)
    seen = [rig.value("sidecar_store_up")]

    for event in (
        sample(ev.StoreOperationEnded, outcome=Outcome.FAILED),
        succeeded,
        sample(ev.StoreLost),
        succeeded,
        sample(ev.StoreRestored),
    ):
        rig.observer.observe(event)
        seen.append(rig.value("sidecar_store_up"))

    assert seen == [0, 0, 1, 0, 0, 1]


def test_breaker_spool_claims_and_losses_have_their_numbers() -> None:
    """What the runbooks look at first is fed by the events they name."""
    rig = Rig()

    rig.observer.observe(sample(ev.BreakerOpened))
    measured = {"entries": 5, "parked": 2, "oldest_parked_at_s": 1.7e9}
    rig.observer.observe(sample(ev.SpoolMeasured, is_writable=False, **measured))
    unwritable = rig.value("sidecar_spool_writable")
    rig.observer.observe(sample(ev.SpoolMeasured, is_writable=True, **measured))
    rig.observer.observe(sample(ev.TokenSent, kind=ClaimKind.ORPHAN))
    rig.observer.observe(sample(ev.TokenLost, cause=LossCause.OWNER_DIED))
    opened = rig.value("sidecar_breaker_open", name="credentials")
    rig.observer.observe(sample(ev.BreakerClosed))

    assert (opened, unwritable) == (1, 0)
    assert rig.value("sidecar_spool_writable") == 1
    assert rig.value("sidecar_breaker_open", name="credentials") == 0
    assert rig.value("sidecar_spool_entries") == 5
    assert rig.value("sidecar_spool_parked_entries") == 2
    assert rig.value("sidecar_spool_oldest_timestamp_seconds") == 1.7e9
    assert rig.value("sidecar_claim_attempts_total", kind="orphan") == 1
    assert rig.value("sidecar_token_losses_total", cause="owner_died") == 1


@dataclass(frozen=True, slots=True)
class Thorny:
    """A field that cannot be rendered."""

    def __str__(self) -> NoReturn:
        raise KeyboardInterrupt

    def __repr__(self) -> NoReturn:
        raise RuntimeError("canary-5f1e")


def test_a_failure_to_tell_is_counted_and_goes_no_further() -> None:
    """Telemetry never fails the refresh that it watches, and does not hide that it failed."""
    rig = Rig()

    rig.observer.observe(sample(ev.StoreLost, error=Thorny()))
    rig.observer.observe(sample(ev.TokenLost, cause=LossCause.CONSENT_OR_EXPIRY))

    assert rig.value("sidecar_observer_failures_total") == 2
    assert rig.lines() == []


def test_an_interrupt_is_not_swallowed() -> None:
    """Only ordinary exceptions end in the observer; a cancellation or an interrupt goes on."""

    class Interrupting:
        is_terminal = False

        def put(self, line: bytes, *, level: str, is_kept: bool) -> NoReturn:
            del line, level, is_kept
            raise KeyboardInterrupt

    observer = TelemetryObserver(
        metrics=Metrics(version="1"), log=Log(Interrupting(), least=Level.DEBUG)
    )

    with pytest.raises(KeyboardInterrupt):
        observer.observe(sample(ev.StoreLost))

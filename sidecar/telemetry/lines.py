"""Which events are log lines, at which level and with which fields. The reference is made from it.

An event's fields are its line's fields, under the same names; `TokenRequestFailed` alone is
unfolded. Events that are only counted are not here (see `observer`).
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, fields
from typing import Final, get_args

from sidecar.domain import events
from sidecar.domain.events import CommitAnswer, ConnectOutcome, Event, RequestOutcome
from sidecar.domain.failure import HINTS, Disposition, Operation
from sidecar.telemetry.edges import Whose
from sidecar.telemetry.logging import Level


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """How an event is logged.

    Attributes:
        level: Its usual level.
        unless: When it has another one, in words; see `level_of`.
        is_kept: Whether it is dropped only after all others, although its level is a low one.
        once: What it is written once for while that lasts, in words; see `lasting`.
    """

    level: Level
    unless: str = ""
    is_kept: bool = False
    once: str = ""


LINES: Final[dict[type[Event], Line]] = {
    events.RequestCompleted: Line(level=Level.INFO, unless="error where `outcome` is `failed`"),
    events.ControlCompleted: Line(level=Level.INFO),
    events.ConnectCompleted: Line(
        level=Level.INFO,
        unless="error where `outcome` is `failed`, `return_refused` or `fault`; "
        "warning where it is `other_browser` or `form_refused`",
    ),
    events.TokenRequestFailed: Line(
        level=Level.WARNING,
        unless="error where `next` is `operator`; info where it is `done`",
        once="grant, `operation`, `reason`, `next`, `akoya_error` and `akoya_status`; "
        "not where `operation` is `obtain`",
    ),
    events.TokenObtained: Line(
        level=Level.INFO, unless="warning where `is_other_subject`: another account than before"
    ),
    events.TokenRefreshed: Line(level=Level.INFO),
    events.ClaimEndedAs: Line(level=Level.DEBUG),
    events.BackoffOverridden: Line(level=Level.INFO),
    events.ClaimSlowed: Line(level=Level.WARNING, once="grant"),
    events.RetryWithheld: Line(level=Level.WARNING, once="grant"),
    events.ClaimVetoed: Line(level=Level.WARNING, once="grant"),
    events.PairCommitted: Line(
        level=Level.DEBUG, unless="warning where `answer` is `forked` or `revoke`, or `is_gap`"
    ),
    events.GrantDoubted: Line(level=Level.WARNING),
    events.GrantReauthRequired: Line(level=Level.INFO),
    events.TokenLost: Line(level=Level.ERROR),
    events.GrantRevoked: Line(level=Level.INFO),
    events.RevocationPostponed: Line(level=Level.WARNING, once="grant"),
    events.GrantInvalidated: Line(level=Level.INFO),
    events.GrantPurged: Line(level=Level.INFO),
    events.GrantCooled: Line(level=Level.WARNING, once="grant and `product`"),
    events.RecordQuarantined: Line(level=Level.INFO, once="grant and quarantine"),
    events.RecordUnreadable: Line(level=Level.ERROR, once="grant and `key_id`"),
    events.GrantLookedAt: Line(level=Level.DEBUG),
    events.StoreSwept: Line(level=Level.INFO, unless="warning where `unreadable` is not 0"),
    events.SpoolResealed: Line(
        level=Level.INFO,
        unless="warning where `unreadable` is not 0",
    ),
    events.SpoolFailed: Line(level=Level.ERROR),
    events.SpoolReplayed: Line(level=Level.INFO),
    events.StoreStrained: Line(level=Level.ERROR),
    events.StoreEased: Line(level=Level.INFO),
    events.StoreLost: Line(level=Level.WARNING),
    events.StoreRestored: Line(level=Level.INFO, is_kept=True),
    events.StoreReincarnated: Line(level=Level.WARNING),
    events.BreakerOpened: Line(level=Level.ERROR),
    events.BreakerClosed: Line(level=Level.INFO, is_kept=True),
    events.ProviderBreakerOpened: Line(level=Level.WARNING),
    events.ProviderBreakerClosed: Line(level=Level.INFO, is_kept=True),
    events.BrakePulled: Line(level=Level.ERROR),
    events.BrakeReleased: Line(level=Level.WARNING),
    events.BrakeTrialEnded: Line(level=Level.INFO),
    events.ClientSecretRead: Line(level=Level.INFO, unless="error unless `is_usable`"),
    events.ResourceExhausted: Line(level=Level.ERROR, once="`resource` and `where`"),
    events.DescriptorsShared: Line(level=Level.INFO),
    events.ConnectionDropped: Line(level=Level.DEBUG),
    events.ListenerFilled: Line(level=Level.WARNING, once="`listener`"),
    events.LifecycleListening: Line(level=Level.INFO, is_kept=True),
    events.LifecycleReady: Line(level=Level.INFO, is_kept=True),
    events.LifecycleDraining: Line(level=Level.INFO, is_kept=True),
    events.LifecycleStopped: Line(
        level=Level.INFO, unless="warning unless `drained`", is_kept=True
    ),
    events.ConfigurationWarned: Line(level=Level.WARNING, once="`subject` and `advice`"),
    events.ConfigurationReloaded: Line(
        level=Level.INFO, unless="warning where `restart_needed` is not empty"
    ),
    events.ConfigurationReloadRefused: Line(level=Level.ERROR),
    events.SignalIgnored: Line(level=Level.WARNING),
    events.WorkFailed: Line(level=Level.ERROR, once="`where` and `error`"),
}

FAILURE_FIELDS: Final = (
    "grant",
    "provider",
    "operation",
    "reason",
    "akoya_error",
    "akoya_status",
    "hint",
    "next",
    "retry_in_s",
)

_NAMES: Final = {event: tuple(field.name for field in fields(event)) for event in get_args(Event)}


def names_of(event: type[Event]) -> tuple[str, ...]:
    """Return the names of the fields of an event's line."""
    return FAILURE_FIELDS if event is events.TokenRequestFailed else _NAMES[event]


def level_of(event: Event, line: Line) -> Level:
    """Return the level of this very event."""
    match event:
        case events.RequestCompleted():
            return Level.ERROR if event.outcome is RequestOutcome.FAILED else line.level
        case events.TokenRequestFailed():
            return _level_of_failure(event.failure.disposition)
        case events.ConnectCompleted():
            return _level_of_connect(event.outcome)
        case events.StoreSwept() | events.SpoolResealed():
            return Level.WARNING if event.unreadable else line.level
        case events.TokenObtained(is_other_subject=True):
            return Level.WARNING
        case events.PairCommitted(answer=CommitAnswer.FORKED | CommitAnswer.REVOKE):
            return Level.WARNING
        case events.PairCommitted(is_gap=True) | events.LifecycleStopped(drained=False):
            return Level.WARNING
        case events.ConfigurationReloaded():
            return Level.WARNING if event.restart_needed else line.level
        case events.ClientSecretRead(is_usable=False):
            return Level.ERROR
        case _:
            return line.level


def lasting(event: Event) -> tuple[Whose, Hashable] | None:
    """Return whose state an event tells and which it is, or ``None`` if it stands for itself."""
    match event:
        case events.TokenRequestFailed(failure=failure):
            if failure.operation is Operation.OBTAIN:  # each is a try of a person
                return None
            answer = (failure.akoya_error, failure.akoya_status)
            state = (failure.reason, failure.disposition, *answer)
            return _whose(event, event.grant, failure.operation), state
        case events.RecordQuarantined():
            return _whose(event, event.grant), event.until_ms
        case events.RecordUnreadable():
            return _whose(event, event.grant), event.key_id
        case events.GrantCooled():
            return _whose(event, event.grant, event.product), None
        case (
            events.ClaimSlowed()
            | events.RetryWithheld()
            | events.ClaimVetoed()
            | events.RevocationPostponed()
        ):
            return _whose(event, event.grant), None
        case events.ResourceExhausted():
            return _whose(event, event.resource, event.where), None
        case events.ListenerFilled():
            return _whose(event, event.listener), None
        case events.ConfigurationWarned():
            return _whose(event, event.subject), event.advice
        case events.WorkFailed():
            return _whose(event, event.where, event.error), None
        case _:
            return None


def ended_by(event: Event) -> tuple[Whose, ...]:
    """Return the states that are over with this event."""
    match event:
        case events.TokenRefreshed() | events.TokenObtained() | events.GrantRevoked():
            claims = (
                events.ClaimSlowed,
                events.RetryWithheld,
                events.ClaimVetoed,
                events.RecordQuarantined,
                events.RecordUnreadable,
                events.RevocationPostponed,
            )
            operations = (Operation.REFRESH, Operation.REVOKE)
            return (
                *(Whose(kind.event, (event.grant,)) for kind in claims),
                *(
                    Whose(events.TokenRequestFailed.event, (event.grant, operation))
                    for operation in operations
                ),
            )
        case _:
            return ()


def _whose(event: Event, *of: Hashable) -> Whose:
    return Whose(event.event, of)


def _level_of_connect(outcome: ConnectOutcome) -> Level:
    match outcome:
        case ConnectOutcome.FAILED | ConnectOutcome.RETURN_REFUSED | ConnectOutcome.FAULT:
            return Level.ERROR
        case ConnectOutcome.OTHER_BROWSER | ConnectOutcome.FORM_REFUSED:
            return Level.WARNING
        case _:
            return Level.INFO


def _level_of_failure(disposition: Disposition) -> Level:
    match disposition:
        case Disposition.OPERATOR:
            return Level.ERROR
        case Disposition.DONE:
            return Level.INFO
        case _:
            return Level.WARNING


def fields_of(event: Event) -> dict[str, object]:
    """Return the fields of an event's line; one that is ``None`` is left out."""
    if isinstance(event, events.TokenRequestFailed):
        return _fields_of_failure(event)
    return {
        name: value for name in _NAMES[type(event)] if (value := getattr(event, name)) is not None
    }


def _fields_of_failure(event: events.TokenRequestFailed) -> dict[str, object]:
    failure = event.failure
    line: dict[str, object] = {
        "grant": event.grant,
        "provider": event.provider,
        "operation": failure.operation,
        "reason": failure.reason,
        "akoya_error": failure.akoya_error or None,
        "akoya_status": failure.akoya_status,
        "hint": HINTS[failure.reason],
        "next": failure.disposition,
        "retry_in_s": event.retry_in_s,
    }
    return {name: value for name, value in line.items() if value is not None}

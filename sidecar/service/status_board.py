"""Takes note of what the operator should see of the events, and passes every event on.

It may be told from several threads at once. It decides nothing and forgets all but the newest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Final, final

from sidecar.domain.events import (
    BrakePulled,
    BreakerOpened,
    Event,
    GrantsCounted,
    Outcome,
    ProviderBreakerClosed,
    ProviderBreakerOpened,
    SpoolMeasured,
    TokenRequestEnded,
    TokenRequestFailed,
)
from sidecar.domain.failure import FailureReason
from sidecar.domain.record import PUBLIC_STATES
from sidecar.domain.throttle import BrakeCause
from sidecar.ports import Clock, Observer
from sidecar.service.status import Trouble

MOST_TROUBLES: Final = 20
UNHEARD: Final = frozenset(
    {FailureReason.UNREACHABLE, FailureReason.ANSWER_LOST, FailureReason.SERVER_ERROR}
)
"""Failures of the token service itself; every other one is an answer of it."""

_NOTED: Final = frozenset(
    {
        BrakePulled,
        BreakerOpened,
        GrantsCounted,
        ProviderBreakerClosed,
        ProviderBreakerOpened,
        SpoolMeasured,
        TokenRequestEnded,
        TokenRequestFailed,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """What the board holds, as of one moment.

    Attributes:
        heard_at_s: When the token service answered last; 0: it was not asked yet.
        unheard: Why it did not answer the last time, or ``None``.
    """

    troubles: tuple[Trouble, ...]
    banks: Mapping[str, FailureReason]
    grants: Mapping[str, int] | None
    counted_at_s: float
    spooled: int
    oldest_parked_at_s: float
    heard_at_s: float
    unheard: FailureReason | None
    refused: FailureReason | None
    braked: BrakeCause | None


@final
class StatusBoard:
    """Implements `sidecar.ports.Observer` for another one behind it."""

    def __init__(self, *, behind: Observer, clock: Clock) -> None:
        self._behind = behind
        self._clock = clock
        self._lock = Lock()
        self._troubles: deque[Trouble] = deque(maxlen=MOST_TROUBLES)
        self._banks: dict[str, FailureReason] = {}
        self._grants: Mapping[str, int] | None = None
        self._counted_at_s = 0.0
        self._spool = SpoolMeasured(is_writable=True, entries=0, parked=0, oldest_parked_at_s=0.0)
        self._heard_at_s = 0.0
        self._unheard: FailureReason | None = None
        self._refused: FailureReason | None = None
        self._braked: BrakeCause | None = None

    def observe(self, event: Event) -> None:
        """Take note of an event and pass it on."""
        if type(event) in _NOTED:
            with self._lock:
                self._note(event)
        self._behind.observe(event)

    def notes(self) -> Notes:
        """Return what is known now."""
        with self._lock:
            return Notes(
                troubles=tuple(reversed(self._troubles)),
                banks=dict(self._banks),
                grants=self._grants,
                counted_at_s=self._counted_at_s,
                spooled=self._spool.entries,
                oldest_parked_at_s=self._spool.oldest_parked_at_s,
                heard_at_s=self._heard_at_s,
                unheard=self._unheard,
                refused=self._refused,
                braked=self._braked,
            )

    def _note(self, event: Event) -> None:
        match event:
            case TokenRequestFailed():
                self._note_failure(event)
            case TokenRequestEnded(outcome=Outcome.OK):
                self._heard()
            case ProviderBreakerOpened():
                self._banks[event.provider] = event.reason
            case ProviderBreakerClosed():
                self._banks.pop(event.provider, None)
            case GrantsCounted():
                self._counted_at_s = self._clock.now_s()
                self._grants = (
                    {state: getattr(event, state) for state in PUBLIC_STATES}
                    if event.is_ours
                    else None
                )
            case SpoolMeasured():
                self._spool = event
            case BreakerOpened():
                self._refused = event.reason
            case BrakePulled():
                self._braked = event.cause
            case _:
                pass

    def _note_failure(self, event: TokenRequestFailed) -> None:
        failure = event.failure
        if failure.reason in UNHEARD:
            self._unheard = failure.reason
        else:
            self._heard()
        self._troubles.append(
            Trouble(
                at_s=self._clock.now_s(),
                operation=failure.operation,
                reason=failure.reason,
                provider=event.provider,
                grant=event.grant,
                retry_in_s=event.retry_in_s,
            )
        )

    def _heard(self) -> None:
        self._heard_at_s = self._clock.now_s()
        self._unheard = None

"""What one answer says about the app and about its bank: the two breakers' rules.

Of the app: whether Akoya knows it (see `sidecar.domain.throttle`, whose breaker is the fleet's). Of
a bank: whether its token requests fail, so that its refreshes stop for a while and no other bank's.
It knows no clock and no store, and does not know which request was answered.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from sidecar.domain.failure import Disposition, FailureReason, Operation
from sidecar.domain.tokens import TokenFailure
from sidecar.domain.windows import Slice, Window, counted, totals

SLICE_S: Final = 5.0
SLICES: Final = 6
"""A bank is judged by the requests of the last thirty seconds."""
LEAST_REQUESTS: Final = 20
FAILED_OF: Final = 2
"""A bank's breaker opens when one of so many of its last requests failed, or more."""
PAUSE_S: Final = 30.0
"""How long an open breaker waits before its next canary."""

_UNHEARD: Final = frozenset(
    {
        FailureReason.UNREACHABLE,
        FailureReason.ANSWER_LOST,
        FailureReason.SERVER_ERROR,
        FailureReason.RATE_LIMITED,
        FailureReason.UNKNOWN,
        FailureReason.MALFORMED_RESPONSE,
    }
)
"""Failures that say nothing about the app."""

_FAULTS_OF_A_BANK: Final = frozenset(
    {
        FailureReason.UNREACHABLE,
        FailureReason.ANSWER_LOST,
        FailureReason.SERVER_ERROR,
        FailureReason.UNKNOWN,
        FailureReason.MALFORMED_RESPONSE,
    }
)

_NO_NEWS_OF_A_BANK: Final = frozenset(
    {
        FailureReason.CLIENT_CREDENTIALS_INVALID,
        FailureReason.ENDPOINT_REFUSED,
        FailureReason.GRANT_TYPE_INVALID,
        FailureReason.RATE_LIMITED,
    }
)


class Hearing(StrEnum):
    """How Akoya received the app."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNHEARD = "unheard"
    """Nothing is known: the request did not come so far."""


def hearing_of(failure: TokenFailure | None) -> Hearing:
    """Return how Akoya received the app whose token request ended so; ``None``: well.

    A refresh that only an operator can mend stops the others too: they would all end like it. For
    an exchange or a revocation that is not so; a client may have sent nonsense.
    """
    if failure is None:
        return Hearing.ACCEPTED
    if failure.reason is FailureReason.CLIENT_CREDENTIALS_INVALID:
        return Hearing.REFUSED
    if failure.reason in _UNHEARD:
        return Hearing.UNHEARD
    if failure.disposition is not Disposition.OPERATOR:
        return Hearing.ACCEPTED
    return Hearing.REFUSED if failure.operation is Operation.REFRESH else Hearing.UNHEARD


@dataclass(frozen=True, slots=True, kw_only=True)
class BankBreaker:
    """How the token requests of one bank ended of late; instants are of one process.

    Attributes:
        ended: The last requests, and those of them that failed.
        canary_at_s: From when one request may try; ``None``: the breaker is closed.
    """

    ended: Window = ()
    canary_at_s: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether the bank's refreshes stop, but for a canary."""
        return self.canary_at_s is not None

    def after(self, failure: TokenFailure | None, now_s: float) -> BankBreaker:
        """Return the breaker after one more request ended; ``None``: well."""
        if failure is not None and failure.reason in _NO_NEWS_OF_A_BANK:
            return self
        is_failed = failure is not None and failure.reason in _FAULTS_OF_A_BANK
        if self.is_open:
            return replace(self, canary_at_s=now_s + PAUSE_S) if is_failed else BankBreaker()
        added = Slice(number=int(now_s // SLICE_S), ended=1, bad=int(is_failed))
        ended = counted(self.ended, added, slices=SLICES)
        requests, failed = totals(ended)
        if requests >= LEAST_REQUESTS and failed * FAILED_OF >= requests:
            return BankBreaker(canary_at_s=now_s + PAUSE_S)
        return replace(self, ended=ended)

    def with_canary(self, now_s: float) -> BankBreaker | None:
        """Return the breaker once a request left as its canary; ``None``: none may leave now."""
        if self.canary_at_s is None:
            return self
        return None if self.canary_at_s > now_s else replace(self, canary_at_s=now_s + PAUSE_S)

from __future__ import annotations

import pytest

from sidecar.domain.breaker import (
    LEAST_REQUESTS,
    PAUSE_S,
    SLICE_S,
    SLICES,
    BankBreaker,
    Hearing,
    hearing_of,
)
from sidecar.domain.failure import DISPOSITIONS, Disposition, FailureReason, Operation
from sidecar.domain.tokens import TokenFailure

NOW_S = 1000.0
SPEAKS_OF_THE_BANK = frozenset(
    {
        FailureReason.UNREACHABLE,
        FailureReason.ANSWER_LOST,
        FailureReason.SERVER_ERROR,
        FailureReason.UNKNOWN,
        FailureReason.MALFORMED_RESPONSE,
    }
)
SPEAKS_OF_THE_APP = frozenset(
    {
        FailureReason.CLIENT_CREDENTIALS_INVALID,
        FailureReason.ENDPOINT_REFUSED,
        FailureReason.GRANT_TYPE_INVALID,
        FailureReason.RATE_LIMITED,
    }
)


def failed(reason: FailureReason, operation: Operation = Operation.REFRESH) -> TokenFailure:
    return TokenFailure(operation=operation, reason=reason, disposition=DISPOSITIONS[reason])


SICK = failed(FailureReason.SERVER_ERROR)


def breaker(*, well: int = 0, sick: int = 0, at_s: float = NOW_S) -> BankBreaker:
    stands = BankBreaker()
    for _ in range(well):
        stands = stands.after(None, at_s)
    for _ in range(sick):
        stands = stands.after(SICK, at_s)
    return stands


def test_half_of_the_requests_must_fail_and_enough_of_them() -> None:
    """A bank is not judged by a handful, nor by a minority of failures."""
    few = breaker(sick=LEAST_REQUESTS - 1)
    minority = breaker(well=LEAST_REQUESTS // 2 + 1, sick=LEAST_REQUESTS // 2 - 1)
    half = breaker(well=LEAST_REQUESTS // 2, sick=LEAST_REQUESTS // 2)

    assert not few.is_open
    assert not minority.is_open
    assert half.canary_at_s == NOW_S + PAUSE_S


def test_what_failed_a_while_ago_is_forgotten() -> None:
    """Thirty seconds later the bank begins with a clean slate."""
    earlier = breaker(sick=LEAST_REQUESTS - 1)

    assert earlier.after(SICK, NOW_S).is_open
    assert not earlier.after(SICK, NOW_S + SLICES * SLICE_S).is_open


@pytest.mark.parametrize("reason", FailureReason)
def test_only_what_speaks_of_the_bank_counts_against_it(reason: FailureReason) -> None:
    """A refused grant is an answer like a good one; a refused app or a limit is none at all."""
    stands = BankBreaker()
    for _ in range(LEAST_REQUESTS):
        stands = stands.after(failed(reason), NOW_S)

    assert stands.is_open == (reason in SPEAKS_OF_THE_BANK)
    assert (stands == BankBreaker()) == (reason in SPEAKS_OF_THE_APP)


def test_one_canary_leaves_in_each_pause_and_its_end_decides() -> None:
    """A good end closes the breaker with nothing left over; a bad one begins the pause anew."""
    opened = breaker(sick=LEAST_REQUESTS)
    due_s = NOW_S + PAUSE_S

    assert opened.with_canary(due_s - 0.001) is None
    tried = opened.with_canary(due_s)
    assert tried is not None
    assert tried.with_canary(due_s) is None
    assert tried.after(None, due_s + 1) == BankBreaker()
    assert tried.after(SICK, due_s + 1).canary_at_s == due_s + 1 + PAUSE_S
    assert tried.after(failed(FailureReason.RATE_LIMITED), due_s + 1) == tried


def test_a_closed_breaker_lets_everybody_leave() -> None:
    """No request is held back, and none is a canary."""
    assert breaker(well=1).with_canary(NOW_S) == breaker(well=1)


@pytest.mark.parametrize("operation", Operation)
def test_a_refused_app_is_refused_whatever_was_asked(operation: Operation) -> None:
    """Wrong credentials are a word about the app in each of its requests."""
    assert hearing_of(failed(FailureReason.CLIENT_CREDENTIALS_INVALID, operation)) is (
        Hearing.REFUSED
    )


@pytest.mark.parametrize("reason", FailureReason)
def test_how_a_refresh_was_heard(reason: FailureReason) -> None:
    """What only an operator mends stops the app; what never arrived says nothing; else it is known.

    The three are told apart by the disposition that callers see, so that none is forgotten.
    """
    heard = hearing_of(failed(reason))

    if DISPOSITIONS[reason] is Disposition.OPERATOR:
        assert heard is Hearing.REFUSED
    elif reason in SPEAKS_OF_THE_BANK | {FailureReason.RATE_LIMITED}:
        assert heard is Hearing.UNHEARD
    else:
        assert heard is Hearing.ACCEPTED


def test_a_clients_nonsense_stops_nobody() -> None:
    """An exchange with the wrong redirect URI says nothing about the app; a good answer does."""
    nonsense = failed(FailureReason.REDIRECT_URI_MISMATCH, Operation.OBTAIN)

    assert hearing_of(nonsense) is Hearing.UNHEARD
    assert hearing_of(None) is Hearing.ACCEPTED

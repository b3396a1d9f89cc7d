from __future__ import annotations

import pytest

from sidecar.domain.retrying import (
    GiveUp,
    RetryAfterPause,
    RetryBudget,
    RetryDecision,
    RetryPolicy,
    decide_retry,
    deposit_request,
    parse_retry_after,
)

POLICY = RetryPolicy(retries=3)
FULL = RetryBudget(balance=3.0, at_s=0.0)


def decide(
    repeats: int = 0, *, retry_after_s: float | None = None, jitter: float = 0.0
) -> RetryDecision:
    return decide_retry(
        FULL, policy=POLICY, repeats=repeats, retry_after_s=retry_after_s, jitter=jitter
    )


def pause_s(decision: RetryDecision) -> float:
    assert isinstance(decision, RetryAfterPause)
    return decision.pause_s


def test_pauses_grow_and_are_jittered() -> None:
    """Each repeat waits about twice as long as the last, anywhere in the upper half of it."""
    assert pause_s(decide(0)) == pytest.approx(0.1)
    assert pause_s(decide(0, jitter=1.0)) == pytest.approx(0.2)
    assert pause_s(decide(2)) == pytest.approx(0.4)


def test_no_more_repeats_than_configured() -> None:
    """The last allowed repeat is the last one."""
    assert isinstance(decide(2), RetryAfterPause)
    assert decide(3) == GiveUp()


def test_retry_after_is_honoured_but_bounded() -> None:
    """A short wish is obeyed; a long one is the client's to obey."""
    assert pause_s(decide(retry_after_s=3.0)) == pytest.approx(3.0)
    assert decide(retry_after_s=5.1) == GiveUp()


def test_all_requests_together_repeat_a_fifth_of_themselves() -> None:
    """In an outage of a busy upstream at most one request in five is repeated, beyond the floor."""
    budget = RetryBudget(balance=POLICY.budget.floor, at_s=0.0)
    repeats = 0
    for _ in range(1000):
        budget = deposit_request(budget, terms=POLICY.budget, now_s=0.0)
        decision = decide_retry(budget, policy=POLICY, repeats=0, retry_after_s=None, jitter=0.0)
        if isinstance(decision, RetryAfterPause):
            repeats += 1
            budget = decision.budget

    assert 200 <= repeats <= 203


def test_a_quiet_sidecar_regains_its_floor_with_time() -> None:
    """An empty budget fills to the floor by time alone, and no further."""
    empty = RetryBudget(balance=0.0, at_s=0.0)

    soon = deposit_request(empty, terms=POLICY.budget, now_s=5.0)
    late = deposit_request(empty, terms=POLICY.budget, now_s=10_000.0)

    assert soon.balance == pytest.approx(0.7)
    assert late.balance == pytest.approx(3.2)


def test_savings_are_bounded() -> None:
    """A long good time does not save up for a storm."""
    rich = RetryBudget(balance=POLICY.budget.limit, at_s=0.0)

    assert deposit_request(rich, terms=POLICY.budget, now_s=1.0).balance == POLICY.budget.limit


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"3", 3.0),
        (b"Thu, 01 Jan 1970 00:16:50 GMT", 10.0),
        (b"Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        (b"", None),
        (b"soon", None),
        (b"-1", None),
        (b"\xff", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: bytes, expected: float | None) -> None:
    """Both forms are understood; nonsense is as if it were absent."""
    assert parse_retry_after(value, now_s=1000.0) == expected

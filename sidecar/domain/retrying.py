"""Whether a failed request is repeated, and a GET after which pause: pure decisions.

A budget bounds the repeats of all requests together, so that retries cannot turn an outage of the
other side into a storm. It does not know what was asked; the caller offers only what may be
repeated.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from sidecar.domain.bounds import bounded_wait_s

RETRIED_STATUSES: Final = frozenset({408, 429}) | frozenset(range(500, 600))


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetTerms:
    """How many repeats all requests together may make.

    Attributes:
        share: Repeats for each request, on the long run.
        floor: Repeats that even a quiet sidecar may make.
        floor_refill_per_s: How fast the floor fills up again.
        limit: What a busy sidecar saves up, at most.
    """

    share: float = 0.2
    floor: float = 3.0
    floor_refill_per_s: float = 0.1
    limit: float = 100.0


OF_CLAIMS: Final = BudgetTerms(share=0.1, floor=20.0, floor_refill_per_s=0.2)
"""Repeats of ambiguous claims by their owner. The floor is a handful of claims with all of theirs:
each may save a token, so a quiet sidecar must not lack them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how fast to repeat.

    Attributes:
        retries: Repeats of one request, at most.
        first_pause_s: Before the first repeat; doubled for each further one.
        pause_limit_s: A pause never grows beyond it.
        patience_s: A `Retry-After` beyond it is the client's to wait for.
        budget: How many repeats all requests together may make.
    """

    retries: int = 0
    first_pause_s: float = 0.2
    pause_limit_s: float = 2.0
    patience_s: float = 5.0
    budget: BudgetTerms = BudgetTerms()


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryBudget:
    """How many repeats all requests together may still make.

    Attributes:
        at_s: When the balance was last reckoned, on the monotonic clock.
    """

    balance: float
    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryAfterPause:
    """Repeat the request after `pause_s`; `budget` is what remains."""

    pause_s: float
    budget: RetryBudget


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """Pass on what there is."""


RetryDecision = RetryAfterPause | GiveUp


def deposit_request(budget: RetryBudget, *, terms: BudgetTerms, now_s: float) -> RetryBudget:
    """Return the budget after one more request at `now_s`."""
    refilled = budget.balance + (now_s - budget.at_s) * terms.floor_refill_per_s
    balance = max(budget.balance, min(refilled, terms.floor))
    return RetryBudget(balance=min(balance + terms.share, terms.limit), at_s=now_s)


def withdraw(budget: RetryBudget) -> RetryBudget | None:
    """Return the budget after one repeat; ``None``: it is used up."""
    if budget.balance < 1:
        return None
    return RetryBudget(balance=budget.balance - 1, at_s=budget.at_s)


def decide_retry(
    budget: RetryBudget,
    *,
    policy: RetryPolicy,
    repeats: int,
    retry_after_s: float | None,
    jitter: float,
) -> RetryDecision:
    """Decide on one more repeat after `repeats` of them.

    Args:
        budget: What all requests together may spend.
        policy: How often and how fast.
        repeats: How often this request was repeated already.
        retry_after_s: What the upstream asked for, or ``None``.
        jitter: A random number in [0, 1).
    """
    remaining = withdraw(budget)
    if repeats >= policy.retries or remaining is None:
        return GiveUp()
    if retry_after_s is not None and retry_after_s > policy.patience_s:
        return GiveUp()
    grown_s = min(policy.first_pause_s * 2**repeats, policy.pause_limit_s)
    pause_s = max(grown_s * (0.5 + jitter / 2), retry_after_s or 0.0)
    return RetryAfterPause(pause_s=pause_s, budget=remaining)


def parse_retry_after(value: bytes, *, now_s: float) -> float | None:
    """Return the seconds that a ``Retry-After`` asks for at `now_s` (epoch), or ``None``.

    They are bounded by `LONGEST_WAIT_S`; what the client reads is not touched.
    """
    text = value.decode("ascii", "replace").strip()
    if text.isdecimal():
        return bounded_wait_s(float(text))
    try:
        until = parsedate_to_datetime(text)
        if until.tzinfo is None:  # "-0000": the hour is UTC's, and not that of this machine
            until = until.replace(tzinfo=UTC)
        return bounded_wait_s(until.timestamp() - now_s)
    except (ValueError, OverflowError):
        return None

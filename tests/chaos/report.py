"""Tells a run: one row of a table, and what a person wants to see of what went wrong.

The table is Markdown, as it stands in `docs/explanation/correctness.md`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from tests.chaos.oracle import LossCause, RepeatCause, Verdict
from tests.chaos.plan import Plan
from tests.chaos.trouble import Tally

COLUMNS = (
    "run",
    "users",
    "claims",
    "kills",
    "stops",
    "holes",
    "Redis kills",
    "presented again, by right",
    "stale",
    "lost, by cause",
    "avoidable",
    "unexplained",
    "answer to disk, ms",
)
MOST_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A plan and what came of it."""

    plan: Plan
    tally: Tally
    verdict: Verdict

    @property
    def misses(self) -> tuple[str, ...]:
        """What the plan wanted and did not get."""
        verdict, goals = self.verdict, self.plan.goals
        wanted = (
            (not verdict.avoidable, f"{len(verdict.avoidable)} avoidable losses"),
            (not verdict.unexplained, f"{len(verdict.unexplained)} unexplained presentations"),
            (verdict.claims >= goals.claims, f"{verdict.claims} of {goals.claims} claims"),
            (self.tally.kills >= goals.kills, f"{self.tally.kills} of {goals.kills} kills"),
        )
        return tuple(miss for is_met, miss in wanted if not is_met)


def header() -> Iterator[str]:
    """Yield the lines above the rows."""
    yield f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores."
    yield ""
    yield f"| {' | '.join(COLUMNS)} |"
    yield f"| {' | '.join('---' for _ in COLUMNS)} |"


def row(outcome: Outcome) -> str:
    """Return the row of one run."""
    plan, tally, verdict = outcome.plan, outcome.tally, outcome.verdict
    losses = verdict.losses_by_cause
    rights = verdict.repeats_by_cause
    del losses[LossCause.AVOIDABLE], rights[RepeatCause.UNEXPLAINED]
    cells = (
        _name(plan),
        f"{plan.users:,}",
        f"{verdict.claims:,}",
        *(str(count) for count in (tally.kills, tally.stops, tally.holes, tally.redis_kills)),
        _counted(rights),
        str(verdict.stale),
        _counted(losses),
        str(len(verdict.avoidable)),
        str(len(verdict.unexplained)),
        f"{verdict.slowest_s * 1000:.0f}",
    )
    return f"| {' | '.join(cells)} |"


def findings(outcome: Outcome) -> Iterator[str]:
    """Yield what should not have been, one a line."""
    for miss in outcome.misses:
        yield f"{_name(outcome.plan)}: {miss}"
    for loss in outcome.verdict.avoidable[:MOST_SHOWN]:
        yield f"  lost: {loss.user}: {loss.detail}"
    for repeat in outcome.verdict.unexplained[:MOST_SHOWN]:
        yield f"  presented again: {repeat.presentation.user}: {repeat.detail}"


def _name(plan: Plan) -> str:
    return " ".join(
        part
        for part in (plan.mode.value, plan.personality.value, plan.mutant or "")
        if part not in ("", "dex")
    )


def _counted(counter: Counter[LossCause] | Counter[RepeatCause]) -> str:
    counts: list[tuple[StrEnum, int]] = sorted(counter.items())
    return ", ".join(f"{name.value} {count}" for name, count in counts if count) or "none"

"""What a proof measured, beside what it had to be; one line of a table for each proof.

It must not know what was measured.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """One measured number and whether it is what it had to be."""

    told: str
    is_met: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Proved:
    """What came of one proof.

    Attributes:
        size: How much was done.
        goals: What was judged.
    """

    size: str
    goals: tuple[Goal, ...]

    @property
    def is_met(self) -> bool:
        """Whether every goal was."""
        return all(goal.is_met for goal in self.goals)


def exactly(what: str, measured: int, wanted: int) -> Goal:
    """Return a goal that is met by one number alone."""
    return Goal(told=f"{what} {measured:,} (goal {wanted:,})", is_met=measured == wanted)


def at_most(what: str, measured: float, most: float, *, unit: str = "") -> Goal:
    """Return a goal that is met by a number up to `most`."""
    told = f"{what} {_shown(measured)}{unit} (goal ≤ {_shown(most)}{unit})"
    return Goal(told=told, is_met=measured <= most)


def at_least(what: str, measured: float, least: float) -> Goal:
    """Return a goal that is met by a number from `least` on."""
    told = f"{what} {_shown(measured)} (goal ≥ {_shown(least)})"
    return Goal(told=told, is_met=measured >= least)


def _shown(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:,.2f}"

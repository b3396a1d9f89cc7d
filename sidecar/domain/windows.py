"""Counts of the last while: slices of time, of which the oldest fall off one by one.

It knows neither what is counted nor what the counts mean.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """What ended within one slice of time, and how much of it ended badly.

    Attributes:
        number: Which slice, counted from the clock's beginning.
    """

    number: int
    ended: int
    bad: int


Window = tuple[Slice, ...]
"""Slices, oldest first."""


def counted(window: Window, added: Slice, *, slices: int) -> Window:
    """Return the window with `added` in it, of which only the newest `slices` are kept."""
    kept = {each.number: each for each in window if each.number > added.number - slices}
    same = kept.get(added.number)
    if same is not None:
        added = Slice(number=added.number, ended=same.ended + added.ended, bad=same.bad + added.bad)
    kept[added.number] = added
    return tuple(kept[number] for number in sorted(kept))


def totals(window: Window) -> tuple[int, int]:
    """Return how much ended in the window, and how much of it badly."""
    return sum(each.ended for each in window), sum(each.bad for each in window)

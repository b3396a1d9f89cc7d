"""Decides which lines of a lasting state are written: the first, and the first after a change.

A state is known by its event and by whose it is (a grant, a bank, a piece of work). Lines in
between are left out and counted. A state is over when that is told, or when it was quiet for so
long that it must be; what was left out of it is then reported. Memory is bounded: the state that
was quiet for longest makes room.

It has no clock, and does not know what a line says.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Final, final

QUIET_S: Final = 1800.0
"""More than the longest pause between two lines of one state: a sweep or a backoff, 600 s each."""

MOST_STATES: Final = 8192


@dataclass(frozen=True, slots=True)
class Whose:
    """Which line of a repeated kind it is.

    Attributes:
        event: Its name.
        of: Whose state it tells.
    """

    event: str
    of: tuple[Hashable, ...]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What was left out of the states of one event that are over."""

    states: int = 0
    lines: int = 0


@dataclass(slots=True)
class _Seen:
    state: Hashable
    at_s: float
    left_out: int = 0


@final
class Edges:
    """The states that last; to be used by one thread at a time."""

    def __init__(self, *, most_states: int = MOST_STATES) -> None:
        self._most_states = most_states
        self._seen: OrderedDict[Whose, _Seen] = OrderedDict()
        self._over: dict[str, LeftOut] = {}

    def see(self, whose: Whose, state: Hashable, now_s: float) -> int | None:
        """Take note of one line.

        Returns:
            ``None`` if it is to be left out, otherwise how many were left out before it.
        """
        seen = self._seen.get(whose)
        if seen is not None and seen.state == state and now_s - seen.at_s < QUIET_S:
            seen.at_s = now_s
            seen.left_out += 1
            self._seen.move_to_end(whose)
            return None
        self._seen[whose] = _Seen(state, now_s)
        self._seen.move_to_end(whose)
        if len(self._seen) > self._most_states:
            self._forget(next(iter(self._seen)))
        return 0 if seen is None else seen.left_out

    def end(self, whose: Whose) -> None:
        """Take note that a state is over: the next line of it is written."""
        if whose in self._seen:
            self._forget(whose)

    def report(self, now_s: float, *, is_last: bool = False) -> Mapping[str, LeftOut]:
        """Return what was left out of states that are over and was not reported yet.

        If this report `is_last`, the states that last are over too.
        """
        while self._seen:
            whose, seen = next(iter(self._seen.items()))
            if not is_last and now_s - seen.at_s < QUIET_S:
                break
            self._forget(whose)
        over, self._over = self._over, {}
        return over

    def _forget(self, whose: Whose) -> None:
        left_out = self._seen.pop(whose).left_out
        if left_out:
            before = self._over.get(whose.event, LeftOut())
            self._over[whose.event] = LeftOut(before.states + 1, before.lines + left_out)

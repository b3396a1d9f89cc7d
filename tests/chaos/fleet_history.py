"""Questions about the past of a fleet that the oracle asks: who lived when, who could be reached.

Pure functions of the evidence; it must not know tokens or what follows from an answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import final

from tests.chaos.evidence import Evidence, Life, Span, StoreRestart


@final
class FleetHistory:
    """The lives of all sidecars and of the store."""

    def __init__(self, evidence: Evidence) -> None:
        self._by_pid = {life.pid: life for life in evidence.lives}
        self._lives: dict[str, list[Life]] = {}
        for life in sorted(evidence.lives, key=lambda life: life.started_s):
            self._lives.setdefault(life.sidecar, []).append(life)
        self._holes = evidence.holes
        self._beat_s = evidence.rules.beat_s
        self._restarts = sorted(evidence.restarts, key=lambda restart: restart.up_s)

    def life_of(self, pid: int) -> Life | None:
        """Return the life of a process, if it is one of ours."""
        return self._by_pid.get(pid)

    def has_successor(self, life: Life, by_s: float) -> bool:
        """Whether `life` had ended, and another process had taken its spool, by an instant."""
        ended_s = life.ended_s
        return ended_s is not None and any(
            ended_s <= other.started_s <= by_s for other in self._lives[life.sidecar]
        )

    def restart_before(self, instant_s: float) -> StoreRestart | None:
        """Return the last restart of the store that was over by an instant."""
        over = [restart for restart in self._restarts if restart.up_s <= instant_s]
        return over[-1] if over else None

    def has_predecessor(self, life: Life) -> bool:
        """Whether another process had the spool of `life` before it."""
        return any(other.started_s < life.started_s for other in self._lives[life.sidecar])

    def next_restart_s(self, instant_s: float) -> float:
        """Return when the store was killed that came back next after an instant, or infinity."""
        coming = (restart.down_s for restart in self._restarts if restart.up_s >= instant_s)
        return min(coming, default=inf)

    def forgot_between(self, from_s: float, to_s: float) -> bool:
        """Whether the store lost writes at some time in a stretch."""
        return any(
            restart.forgets and restart.down_s >= from_s and restart.up_s <= to_s
            for restart in self._restarts
        )

    def reachable_s(self, sidecar: str, from_s: float, to_s: float) -> float:
        """Return the longest time for which a sidecar ran and reached the store, in a stretch.

        Time is what the loop of its claims had of it, as with `ran_s`.
        """
        longest_s, at_s = 0.0, from_s
        for trouble in sorted(self._troubles(sidecar, to_s), key=lambda span: span.from_s):
            longest_s = max(longest_s, self._ran_s(sidecar, at_s, min(trouble.from_s, to_s)))
            at_s = max(at_s, trouble.to_s)
        return max(longest_s, self._ran_s(sidecar, at_s, to_s))

    def ran_s(self, life: Life, from_s: float, to_s: float) -> float:
        """Return for how long a process ran within a stretch.

        The wall's time less its stops, but never more than the loop of its claims came round:
        on a crowded machine a process may wait for a core, and what waits does nothing.
        """
        wall_s = to_s - from_s - life.stopped_within(from_s, to_s)
        return max(0.0, min(wall_s, life.beats_within(from_s, to_s) * self._beat_s))

    def _ran_s(self, sidecar: str, from_s: float, to_s: float) -> float:
        lives = self._lives.get(sidecar, [])
        return max((self.ran_s(life, from_s, to_s) for life in lives), default=0.0)

    def _troubles(self, sidecar: str, end_s: float) -> Iterator[Span]:
        """Yield when a sidecar was dead, starting, stopped or cut off."""
        dead_from_s = -inf
        for life in self._lives.get(sidecar, []):
            over_s = end_s if life.ended_s is None else life.ended_s
            yield Span(from_s=dead_from_s, to_s=over_s if life.ready_s is None else life.ready_s)
            yield from life.stops
            dead_from_s = over_s
        yield Span(from_s=dead_from_s, to_s=end_s)
        yield from self._holes.get(sidecar, ())

"""Bounds on numbers that come from outside: a peer, another version, a clock that stepped.

A number that somebody else wrote may be anything. Here is, in one place, how far each is believed;
who reads one asks here first. What is beyond a bound is cut down to it where less is safe, and
ignored where it is not. This module must not know where a number came from.
"""

from __future__ import annotations

from typing import Final

LONGEST_WAIT_S: Final = 600.0
"""The longest backoff, hold, or healing time in the protocol. Nothing that somebody else wrote
keeps a grant waiting for longer."""
LONGEST_WAIT_MS: Final = int(LONGEST_WAIT_S * 1000)

EARLIEST_INSTANT_S: Final = 1_000_000_000
"""September 2001. An instant before it is no instant of a live token."""

LATEST_INSTANT_S: Final = 10_000_000_000
"""Year 2286: refuses instants in milliseconds, which would make a consent newer than any other."""

LONGEST_TOLD_LIFE_S: Final = 10 * 366 * 86_400
"""A told life beyond ten years is a mistake of the teller and is not believed."""

FUTURE_MAX_S: Final = 300
"""How far ahead of our clock a consent may lie. One from further ahead could not be replaced by
an import until then."""

LARGEST_NUMBER: Final = 2**53 - 1
"""What a script of the store can count to exactly; no number of ours comes near it."""


def bounded_wait_s(told_s: float | None) -> float | None:
    """Return the wait that a peer asks for, from 0 to `LONGEST_WAIT_S`; ``None``: it asks for none.

    What is no number asks for none.
    """
    if told_s is None or told_s != told_s:  # noqa: PLR0124 - only NaN is unlike itself
        return None
    return min(max(told_s, 0.0), LONGEST_WAIT_S)


def bounded_until_ms(until_ms: int, *, now_ms: int) -> int:
    """Return an instant that keeps a grant waiting, at most `LONGEST_WAIT_S` from now.

    A record of another version, or one from before the store's clock stepped back, may name one
    that lies years ahead.
    """
    return min(until_ms, now_ms + LONGEST_WAIT_MS)


def is_running(until_ms: int, *, now_ms: int, longest_ms: int) -> bool:
    """Whether a span that is `longest_ms` at most, and ends at `until_ms`, still runs.

    One that would end later than that was not begun on this clock, so it does not count.
    """
    return now_ms < until_ms <= now_ms + longest_ms

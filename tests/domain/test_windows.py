from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from sidecar.domain.windows import Slice, Window, counted, totals

SLICES = 3
_counts = st.tuples(st.integers(0, 9), st.integers(0, 9))
_histories = st.lists(st.tuples(st.integers(0, 12), _counts), max_size=30)


def _after(history: Sequence[tuple[int, tuple[int, int]]]) -> Window:
    window: Window = ()
    for number, (ended, bad) in history:
        window = counted(window, Slice(number=number, ended=ended, bad=bad), slices=SLICES)
    return window


@given(history=_histories)
def test_time_that_goes_on_is_counted_to_the_last_slice(
    history: list[tuple[int, tuple[int, int]]],
) -> None:
    """Exactly what ended in the newest slices counts, however it was spread over them."""
    history.sort(key=lambda each: each[0])

    found = totals(_after(history))

    newest = history[-1][0] if history else 0
    recent = [counts for number, counts in history if number > newest - SLICES]
    assert found == (sum(ended for ended, _ in recent), sum(bad for _, bad in recent))


@given(history=_histories)
def test_a_window_never_grows_and_stays_in_order(
    history: list[tuple[int, tuple[int, int]]],
) -> None:
    """Whatever comes, also of a clock that is behind: the slices ascend, each once."""
    numbers = [each.number for each in _after(history)]

    assert numbers == sorted(set(numbers))


def test_an_old_slice_falls_off_when_a_new_one_begins() -> None:
    """What was bad a window ago is forgotten in the moment in which its slice is too old."""
    window = _after([(1, (9, 9)), (3, (1, 0))])

    assert totals(window) == (10, 9)
    assert totals(counted(window, Slice(number=4, ended=1, bad=1), slices=SLICES)) == (2, 1)

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.domain.outcomes import Obstacle, Postponed
from sidecar.domain.policy import ProtocolTimes
from sidecar.domain.waiting import RETRY_AFTER_LIMIT_S, retry_after_s, worth_waiting_s

TIMES = ProtocolTimes()
FRACTIONS = st.floats(0, 1, exclude_max=True)


def postponed(obstacle: Obstacle, *, age_s: float = 0.0) -> Postponed:
    return Postponed(obstacle=obstacle, retry_in_s=60.0, age_s=age_s)


@pytest.mark.parametrize(
    ("obstacle", "age_s", "worth_s"),
    [
        (Obstacle.BUSY, 0.0, math.inf),
        (Obstacle.BUSY, 9.0, math.inf),
        (Obstacle.HELD, 0.0, math.inf),
        (Obstacle.HELD, 2 * TIMES.keep_every_s, math.inf),
        (Obstacle.HELD, 2 * TIMES.keep_every_s + 0.1, 0.0),
        (Obstacle.IN_DOUBT, 0.0, 2.0),
        (Obstacle.IN_DOUBT, 1.5, 0.5),
        (Obstacle.IN_DOUBT, 2.0, 0.0),
        (Obstacle.IN_DOUBT, 500.0, 0.0),
        (Obstacle.QUARANTINED, 0.5, 1.5),
        (Obstacle.QUARANTINED, 5.0, 0.0),
    ],
)
def test_a_wait_is_known_once_its_obstacle_is_old(
    obstacle: Obstacle, age_s: float, worth_s: float
) -> None:
    """A peer at work is waited for; a doubt or a quarantine only while it is young."""
    assert worth_waiting_s(postponed(obstacle, age_s=age_s), TIMES) == pytest.approx(worth_s)


@pytest.mark.parametrize(
    "obstacle",
    sorted(set(Obstacle) - {Obstacle.BUSY, Obstacle.HELD, Obstacle.IN_DOUBT, Obstacle.QUARANTINED}),
)
def test_no_peer_lifts_any_other_obstacle(obstacle: Obstacle) -> None:
    """Backoffs, breakers, the brake and faults of ours are told at once, however new they are."""
    assert worth_waiting_s(postponed(obstacle), TIMES) == 0


@given(remaining_s=st.floats(-10, 1e9), fraction=FRACTIONS)
def test_a_retry_after_is_never_too_early_and_never_more_than_a_fifth_late(
    remaining_s: float, fraction: float
) -> None:
    """Whole seconds, never 0: at least what remains, up to two minutes, at most a fifth more."""
    bounded_s = min(max(remaining_s, 0.0), RETRY_AFTER_LIMIT_S)

    told_s = retry_after_s(remaining_s, fraction)

    assert isinstance(told_s, int)
    assert max(1, bounded_s) <= told_s <= max(1, math.ceil(bounded_s * 1.2))


def test_callers_that_are_refused_together_come_back_one_after_another() -> None:
    """The jitter uses its whole range."""
    told = {retry_after_s(590.0, step / 1000) for step in range(1000)}

    assert told == set(range(120, 144))

"""How long a call waits for a token, and what it is told instead.

Some obstacles a peer may lift at any moment: they are waited out. Others are known to last: waiting
for them would only hold a slot, so their callers are told at once when to come again. Pure rules;
nothing here reads a clock or knows who waits.
"""

from __future__ import annotations

import math
from typing import Final

from sidecar.domain.outcomes import Obstacle, Postponed
from sidecar.domain.policy import ProtocolTimes

YOUNG_S: Final = 2.0
"""A doubt or a quarantine this young may end at once: the pair that ends it is on its way."""

KEEPS_MISSED: Final = 2
"""An owner that renewed its hold so many times too seldom no longer keeps it."""

SOON_S: Final = 1.0
"""When to ask again where nothing tells how long it will take."""

RETRY_AFTER_LIMIT_S: Final = 120.0
RETRY_AFTER_JITTER: Final = 0.2


def worth_waiting_s(outcome: Postponed, times: ProtocolTimes) -> float:
    """Return how long a peer may still lift an obstacle at any moment; 0: it is known to last."""
    match outcome.obstacle:
        case Obstacle.BUSY:
            return math.inf
        case Obstacle.HELD:
            is_kept = outcome.age_s <= KEEPS_MISSED * times.keep_every_s
            return math.inf if is_kept else 0.0
        case Obstacle.IN_DOUBT | Obstacle.QUARANTINED:
            return max(0.0, YOUNG_S - outcome.age_s)
        case _:
            return 0.0


def retry_after_s(remaining_s: float, fraction: float) -> int:
    """Return ``Retry-After`` in whole seconds: what remains, bounded, a little later for some.

    Args:
        remaining_s: How long the obstacle is known to last.
        fraction: Chance in [0, 1): callers who were refused together come back one after another.
    """
    bounded_s = min(max(remaining_s, 0.0), RETRY_AFTER_LIMIT_S)
    return max(1, math.ceil(bounded_s) + int(bounded_s * RETRY_AFTER_JITTER * fraction))

"""T0: random histories of commands, applied by the scripts of Redis and by Python.

It must not know how many steps are enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any, Final, cast

from redis import Redis

from tests.support.two_stores import TwoStores

HISTORY: Final = 2_500
"""Steps after which both sides start afresh."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What came of a comparison.

    Attributes:
        doubled: Steps that were taken twice.
        differences: Histories that the two sides did not tell alike.
    """

    steps: int
    doubled: int
    differences: int


def compare_scripts(*, redis_url: str, steps: int) -> Compared:
    """Take so many steps on both sides; the seed of a history is its number."""
    differences = 0
    connect = cast("Any", Redis).from_url  # whose types are partly unknown
    with connect(redis_url, protocol=2) as client:
        stores = TwoStores(client, "proof")
        for seed in range(steps // HISTORY):
            rng = Random(seed)  # noqa: S311 - repeatable on purpose
            stores.start_afresh()
            try:
                for _ in range(HISTORY):
                    stores.live_on(rng)
                stores.compare_notices()
            except AssertionError as difference:
                differences += 1
                print(f"seed {seed}: {difference}")  # noqa: T201 - a command line
    return Compared(steps=stores.steps, doubled=stores.doubled, differences=differences)

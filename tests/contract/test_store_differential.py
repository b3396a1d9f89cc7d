"""The Lua scripts and the Python transitions are one protocol."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any, ClassVar, Final, cast, get_args

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,  # pyright: ignore[reportUnknownVariableType]
)
from redis import Redis

from sidecar.domain.commands import (
    AcquireVerdict,
    CommitVerdict,
    DenyVerdict,
    Incarnation,
    Leased,
    Missing,
    ProbeWithheld,
    RevokeBeginVerdict,
)
from sidecar.domain.record import GrantId, GrantState, RunId
from tests.support.random_commands import (
    GRANTS,
    RUNS,
    TIME_STEPS_MS,
)
from tests.support.records import (
    HOLD_MS,
    MINE,
    QUARANTINE_MS,
    START,
    THEIRS,
    acquire,
    live,
    mark,
    pair,
    release,
)
from tests.support.strategies import chances
from tests.support.two_stores import TwoStores

SOAK_STEPS: Final = 3_000
LONGEST_SOAK_STEPS: Final = 4 * SOAK_STEPS
"""A history goes on for as long while it has not met everything."""
LANDMARKS: Final = {
    "probe",
    "orphan",
    "a probe given back",
    "an orphan given back",
    "settled",
    "settled after a clean denial",
    "healed by a commit",
    "gap",
    "bounded by Acquire",
    "bounded by BeginRevocation",
    "bounded by Purge",
    "overridden",
    "ordered too soon",
    "mark repeated in a quarantine",
    *(state.value for state in GrantState),
    *(
        verdict.__name__
        for union in (AcquireVerdict, CommitVerdict, DenyVerdict, RevokeBeginVerdict)
        for verdict in get_args(union)
        if verdict is not Missing
    ),
}


class Steps(RuleBasedStateMachine):
    """Lets Hypothesis choose, and shrink, what happens to two stores."""

    stores: ClassVar[TwoStores]

    @initialize()
    def start_afresh(self) -> None:
        self.stores.start_afresh()

    @rule(step_ms=st.sampled_from(TIME_STEPS_MS))
    def time_passes(self, step_ms: int) -> None:
        moment = self.stores.moment
        self.stores.move_to(replace(moment, now_ms=moment.now_ms + step_ms))

    @rule(run_id=st.sampled_from(RUNS))
    def store_restarts(self, run_id: RunId) -> None:
        self.stores.move_to(replace(self.stores.moment, run_id=run_id))

    @rule(rng=chances, grant=st.sampled_from(GRANTS), steps=st.integers(1, 4))
    def commands_come(self, rng: Random, grant: GrantId, steps: int) -> None:
        for _ in range(steps):
            self.stores.step(rng, grant)

    def teardown(self) -> None:
        self.stores.compare_notices()


@pytest.fixture
def client(redis_url: str) -> Iterator[Any]:
    connect = cast("Any", Redis).from_url  # whose types are partly unknown
    with connect(redis_url, protocol=2) as connected:
        yield connected


@pytest.fixture
def stores(client: Any, redis_prefix: str) -> TwoStores:
    return TwoStores(client, redis_prefix)


def test_every_script_does_what_its_transition_does(stores: TwoStores) -> None:
    """Whatever is asked, at any moment, once or twice, Redis and Python agree to the last field."""

    class Compared(Steps):
        pass

    Compared.stores = stores

    run_state_machine_as_test(
        Compared, settings=settings(max_examples=60, stateful_step_count=40, deadline=None)
    )


def test_a_probe_stays_one_on_both_sides_through_a_restart_and_a_release(
    stores: TwoStores,
) -> None:
    """The rarest of what random histories meet: a restart in the lease of a probe."""
    stores.start_afresh()
    start = stores.moment
    met = Incarnation(run_id=RUNS[1], met_at_ms=start.now_ms + HOLD_MS)
    stores.apply(live(pair(0), None))
    stores.apply(acquire(START, met=Incarnation(run_id=RUNS[0], met_at_ms=0)))
    stores.apply(mark(START))
    stores.move_to(replace(start, now_ms=start.now_ms + HOLD_MS))
    stores.apply(acquire(START, THEIRS))

    stores.move_to(replace(start, now_ms=start.now_ms + HOLD_MS, run_id=RUNS[1]))
    stores.apply(acquire(START, MINE, met))
    stores.move_to(replace(stores.moment, now_ms=start.now_ms + HOLD_MS + QUARANTINE_MS))
    withheld = stores.apply(replace(acquire(START, MINE, met), may_probe=False))
    stores.apply(acquire(START, MINE, met))
    stores.apply(replace(release(MINE), is_orphan=True))
    went_on = stores.apply(replace(acquire(START, MINE, met), may_probe=False, may_go_on=True))

    assert withheld == ProbeWithheld()
    assert isinstance(went_on, Leased)
    assert went_on.record.is_probe


@pytest.mark.parametrize("seed", range(4))
def test_long_histories_agree_and_reach_every_corner(stores: TwoStores, seed: int) -> None:
    """Thousands of steps on one history agree too, and meet every state and verdict there is."""
    rng = Random(seed)  # noqa: S311 - repeatable on purpose
    stores.start_afresh()

    steps = 0
    while steps < SOAK_STEPS or (LANDMARKS - set(stores.reached) and steps < LONGEST_SOAK_STEPS):
        stores.live_on(rng)
        steps += 1
    stores.compare_notices()

    assert set(stores.reached) >= LANDMARKS, LANDMARKS - set(stores.reached)
    assert steps / 3 < stores.doubled < steps * 2 / 3, "I18: half of all steps run twice"

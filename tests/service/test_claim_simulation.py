from __future__ import annotations

import asyncio
import os

import pytest

from tests.support.simulation import Simulation
from tests.support.virtual_time import VirtualLoop

SEEDS = int(os.environ.get("SIDECAR_TEST_SEEDS", "40"))  # noqa: TID251 - of the tests


def story(seed: int, *, has_faults: bool = True) -> Simulation:
    """Return the story of a seed, lived through."""

    async def live() -> Simulation:
        simulation = Simulation(seed, has_faults=has_faults)
        await simulation.run()
        return simulation

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(live())


@pytest.mark.parametrize("seed", range(SEEDS))
def test_no_order_of_faults_breaks_an_invariant(seed: int) -> None:
    """I1, I4, I6, I8, I9, I11, I12: whatever happened, once all is well the grants are too."""
    simulation = story(seed)

    assert simulation.violations == [], "\n".join(simulation.told)


@pytest.mark.parametrize("seed", range(3))
def test_without_a_fault_each_token_is_presented_once(seed: int) -> None:
    """I2: attempts are successes, and there is one for each generation."""
    simulation = story(seed, has_faults=False)

    presented = [entry.token for entry in simulation.fleet.idp.refreshes()]
    assert simulation.violations == []
    assert len(presented) == len(set(presented)) > 10
    assert all(entry.is_success for entry in simulation.fleet.idp.refreshes())


def test_a_seed_tells_the_same_story_again() -> None:
    """A failing seed can be looked at: every presentation comes at the same instant."""
    assert story(7).fleet.idp.ledger == story(7).fleet.idp.ledger

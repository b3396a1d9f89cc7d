"""The stories show what a mutation costs, and cost nothing with the sidecar as it is."""

from __future__ import annotations

from tests.chaos.stories import Ending, tell


def test_a_sidecar_that_does_not_ask_its_own_disk_presents_what_it_has_a_successor_of() -> None:
    """Invariant 4 stands and falls with the look at the own disk before a claim."""
    assert tell("no_drain", is_grafted=False) == Ending(claims=1, lost=0, unexplained=0)
    assert tell("no_drain", is_grafted=True) == Ending(claims=1, lost=0, unexplained=1)


def test_a_death_that_nothing_heals_loses_what_a_holder_brings_back() -> None:
    """A state that is final throws away the only live pair when it turns up."""
    assert tell("final_reauth", is_grafted=False) == Ending(claims=1, lost=0, unexplained=0)
    assert tell("final_reauth", is_grafted=True) == Ending(claims=1, lost=1, unexplained=0)

from __future__ import annotations

import asyncio
from typing import Final

import pytest

from tests.crash_points import within
from tests.crash_points.rig import crash_rig
from tests.crash_points.table import CASES, REAL, STEPS, Case, Fault, Store, expected
from tests.support.virtual_time import VirtualLoop

KILL, STOP = Fault.KILL, Fault.STOP
SOME: Final = {
    Store.OK: ((KILL, 2), (KILL, 9), (STOP, 7), (STOP, 12)),
    Store.AWAY: ((KILL, 4), (KILL, 11), (STOP, 6), (STOP, 8)),
    Store.ROLLED_BACK: ((STOP, 1), (KILL, 3), (STOP, 5), (KILL, 10), (KILL, 13)),
}
"""Of the cases with real processes: each step once; `make crash-points` plays them all."""


def test_the_table_has_each_step_with_each_fault_and_each_fate_of_the_store() -> None:
    """156 cases, of which the quick form plays each step with a real process."""
    played = {step for cases in SOME.values() for _, step in cases}

    assert len(set(CASES)) == len(STEPS) * len(Fault) * len(Store) == 156
    assert played == set(STEPS)


@pytest.mark.parametrize("case", [case for case in CASES if case.fault not in REAL], ids=str)
def test_a_fault_within_a_process_at_any_step_costs_what_the_table_says(case: Case) -> None:
    """An exception, or the end of the drain's time: the grant's end and each presentation."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        found = runner.run(within.play(case))

    assert found.is_as(expected(case)), f"{found} is not {expected(case)}"


@pytest.mark.timeout(400)
@pytest.mark.parametrize("store", Store)
async def test_a_kill_or_a_stop_at_any_step_costs_what_the_table_says(store: Store) -> None:
    """Real processes, killed or stopped past their hold: state, ledger and metrics agree."""
    cases = [Case(step=step, fault=fault, store=store) for fault, step in SOME[store]]

    async with crash_rig(cases) as (rig, users):
        found = {case: await rig.play(case, user) for case, user in zip(cases, users, strict=True)}

    wrong = {str(case): came for case, came in found.items() if not came.is_as(expected(case))}
    assert wrong == {}

"""`make crash-points`: every step of a claim, by what hits it, by what happens to the store.

156 cases: 78 with real processes, in three series beside one another (one for each fate of the
store), and 78 within one process in virtual time. Prints a line for each; exits 1 where a case did
not come to what the table says.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence

from tests.crash_points import within
from tests.crash_points.rig import crash_rig
from tests.crash_points.table import CASES, REAL, Case, Found, Store, expected
from tests.support.virtual_time import VirtualLoop


def tell(case: Case, found: Found | str, *, took_s: float) -> bool:
    """Print how a case went; return whether it came to what it must."""
    wanted = expected(case)
    is_right = isinstance(found, Found) and found.is_as(wanted)
    wrong = "" if is_right else f"\n     found {found}\n     not   {wanted}"
    sys.stdout.write(
        f"{'ok' if is_right else 'WRONG':<6}{case}: {wanted.state.value}, "
        f"{wanted.attempts} presented, {wanted.why} ({took_s:.1f} s){wrong}\n"
    )
    sys.stdout.flush()
    return is_right


async def series(cases: Sequence[Case]) -> list[bool]:
    """Play cases with real processes, one after the other."""
    came_right: list[bool] = []
    async with crash_rig(cases) as (rig, users):
        for case, user in zip(cases, users, strict=True):
            started_s = time.monotonic()
            found = await rig.play(case, user)
            came_right.append(tell(case, found, took_s=time.monotonic() - started_s))
    return came_right


async def real() -> list[bool]:
    """Play every case that needs real processes."""
    by_store = [[case for case in CASES if case.store is s and case.fault in REAL] for s in Store]
    played = await asyncio.gather(*(series(cases) for cases in by_store))
    return [is_right for results in played for is_right in results]


def virtual() -> list[bool]:
    """Play every case that happens within one process."""
    came_right: list[bool] = []
    for case in CASES:
        if case.fault not in REAL:
            started_s = time.monotonic()
            with asyncio.Runner(loop_factory=VirtualLoop) as runner:
                found = runner.run(within.play(case))
            came_right.append(tell(case, found, took_s=time.monotonic() - started_s))
    return came_right


def main() -> int:
    """Play all."""
    started_s = time.monotonic()
    came_right = [*virtual(), *asyncio.run(real())]
    took_s = time.monotonic() - started_s
    sys.stdout.write(f"{sum(came_right)} of {len(CASES)} cases as the table says, {took_s:.0f} s\n")
    return 0 if all(came_right) and len(came_right) == len(CASES) else 1


if __name__ == "__main__":
    raise SystemExit(main())

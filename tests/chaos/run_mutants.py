"""`make chaos-mutants`: lets the same chaos loose on what others do, and prints it beside ours.

Ends with status 1 if a mutant did not lose a grant, nor present a token without a right, in a mode
in which it must; or if ours did. What a mutation takes away that no short chaos can be sure to
show is held by stories in virtual time: see `tests/chaos/test_mutants.py`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from tests.chaos.plan import USUAL_WAY, Goals, Mode, Plan
from tests.chaos.report import Outcome, findings
from tests.chaos.run import carry_out

FORM: Final = Plan(
    mode=Mode.NOREDIS,
    users=600,
    seconds=40.0,
    slowness=0.02,
    goals=Goals(claims=1, kills=1),
)
FAILS_IN: Final[Sequence[tuple[str, Mode]]] = (
    (USUAL_WAY, Mode.NOREDIS),
    (USUAL_WAY, Mode.NORMAL),
    (USUAL_WAY, Mode.LOSSY),
    ("no_spool", Mode.NORMAL),
    ("fenced_commit", Mode.NOREDIS),
    ("dropped_on_acknowledgement", Mode.LOSSY),
    ("read_timer", Mode.NOREDIS),
    ("no_quarantine", Mode.LOSSY),
)
"""Each mutant with a mode in which a minute is enough to show it."""

COLUMNS: Final = (
    "mutant", "mode", "claims", "avoidable losses", "ours", "unexplained presentations", "ours",
)  # fmt: skip


def main(argv: Sequence[str]) -> int:
    """Run ours in each mode, then each mutant."""
    parser = argparse.ArgumentParser(prog="make chaos-mutants", description=__doc__)
    parser.add_argument("--mutant", action="append", help="default: all")
    parser.add_argument("--users", type=int, default=FORM.users)
    parser.add_argument("--seconds", type=float, default=FORM.seconds)
    parser.add_argument("--seed", type=int, default=FORM.seed)
    given = parser.parse_args(argv)
    form = replace(FORM, users=given.users, seconds=given.seconds, seed=given.seed)
    wanted = [
        (mutant, mode)
        for mutant, mode in FAILS_IN
        if given.mutant is None or mutant in given.mutant
    ]
    return _compare(form, wanted)


def _compare(form: Plan, wanted: Sequence[tuple[str, Mode]]) -> int:
    modes = [mode for mode in Mode if any(mode is one for _, one in wanted)]
    ours = {mode: carry_out(replace(form, mode=mode)) for mode in modes}
    _write(f"| {' | '.join(COLUMNS)} |")
    _write(f"| {' | '.join('---' for _ in COLUMNS)} |")
    caught: list[bool] = []
    for mutant, mode in wanted:
        outcome = carry_out(replace(form, mode=mode, mutant=mutant))
        _write(_row(outcome, ours[mode]))
        caught.append(bool(outcome.verdict.avoidable or outcome.verdict.unexplained))
    for outcome in ours.values():
        for finding in findings(outcome):
            _write(f"ours: {finding}")
    is_well = not any(outcome.misses for outcome in ours.values())
    return 0 if is_well and all(caught) else 1


def _row(mutant: Outcome, ours: Outcome) -> str:
    cells = (
        mutant.plan.mutant or "",
        mutant.plan.mode.value,
        f"{mutant.verdict.claims:,}",
        *(str(len(one.verdict.avoidable)) for one in (mutant, ours)),
        *(str(len(one.verdict.unexplained)) for one in (mutant, ours)),
    )
    return f"| {' | '.join(cells)} |"


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

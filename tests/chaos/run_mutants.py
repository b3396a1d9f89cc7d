"""`make chaos-mutants`: lets the same chaos loose on what others do, and prints it beside ours.

What a mutation takes away and no short chaos is sure to show is told as a story in virtual time.
Ends with status 1 if a mutant neither lost a grant nor presented a token without a right, or if
ours did or met too little trouble.
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
from tests.chaos.stories import STORIES, Ending, tell

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
    """Let ours and each mutant go through the same, and tell what came of it."""
    parser = argparse.ArgumentParser(prog="make chaos-mutants", description=__doc__)
    mutants = [*dict.fromkeys(mutant for mutant, _ in FAILS_IN), *STORIES]
    parser.add_argument("--mutant", choices=mutants, action="append", help="default: all")
    parser.add_argument("--users", type=int, default=FORM.users)
    parser.add_argument("--seconds", type=float, default=FORM.seconds)
    parser.add_argument("--seed", type=int, default=FORM.seed)
    given = parser.parse_args(argv)
    form = replace(FORM, users=given.users, seconds=given.seconds, seed=given.seed)
    wanted = given.mutant or mutants
    _write(f"| {' | '.join(COLUMNS)} |")
    _write(f"| {' | '.join('---' for _ in COLUMNS)} |")
    is_well = [
        _in_stories([mutant for mutant in STORIES if mutant in wanted]),
        _under_chaos(form, [(mutant, mode) for mutant, mode in FAILS_IN if mutant in wanted]),
    ]
    return 0 if all(is_well) else 1


def _in_stories(wanted: Sequence[str]) -> bool:
    """Tell each mutant's story, with ours too; return whether ours held and all were caught."""
    is_well: list[bool] = []
    for mutant in wanted:
        ours, theirs = (tell(mutant, is_grafted=is_grafted) for is_grafted in (False, True))
        _write_row(mutant, "story", theirs, beside=ours)
        is_well.append(theirs.is_bad and not ours.is_bad)
    return all(is_well)


def _under_chaos(form: Plan, wanted: Sequence[tuple[str, Mode]]) -> bool:
    """Run ours in each mode, then each mutant; return whether ours held and all were caught."""
    modes = [mode for mode in Mode if any(mode is one for _, one in wanted)]
    ours = {mode: carry_out(replace(form, mode=mode)) for mode in modes}
    is_well = [not outcome.misses for outcome in ours.values()]
    for mutant, mode in wanted:
        theirs = _ending(carry_out(replace(form, mode=mode, mutant=mutant)))
        _write_row(mutant, mode.value, theirs, beside=_ending(ours[mode]))
        is_well.append(theirs.is_bad)
    for outcome in ours.values():
        for finding in findings(outcome):
            _write(f"ours: {finding}")
    return all(is_well)


def _ending(outcome: Outcome) -> Ending:
    verdict = outcome.verdict
    return Ending(
        claims=verdict.claims,
        lost=len(verdict.avoidable),
        unexplained=len(verdict.unexplained),
    )


def _write_row(mutant: str, mode: str, theirs: Ending, *, beside: Ending) -> None:
    counts = (theirs.lost, beside.lost, theirs.unexplained, beside.unexplained)
    _write(f"| {' | '.join((mutant, mode, f'{theirs.claims:,}', *map(str, counts)))} |")


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`make proofs`: the long forms of the test plan, one line of a table each.

``make proofs ARGS="t5 t6"`` runs some of them, without arguments all. Exits 1 where a goal was
missed.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.proofs.long_forms import PROOFS


def main(arguments: list[str]) -> int:
    """Run the proofs that were named."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*PROOFS, []], metavar="name", help=_names())
    names = parser.parse_args(arguments).names or list(PROOFS)
    print("| proof | size | measured | seconds | |\n| --- | --- | --- | --- | --- |")  # noqa: T201
    are_met = [_run(name) for name in names]
    return 0 if all(are_met) else 1


def _run(name: str) -> bool:
    """Run one proof, print its line and return whether every goal was met."""
    began_s = time.monotonic()
    proved = PROOFS[name]()
    took_s = time.monotonic() - began_s
    told = "; ".join(goal.told for goal in proved.goals)
    verdict = "met" if proved.is_met else "**missed**"
    line = f"| {name.upper()} | {proved.size} | {told} | {took_s:,.0f} | {verdict} |"
    print(line, flush=True)  # noqa: T201 - a command line
    return proved.is_met


def _names() -> str:
    return "; ".join(
        f"{name}: {(run.__doc__ or '').partition(': ')[2]}" for name, run in PROOFS.items()
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""``make model``: every run of the model, beside what is expected of it.

Prints one line a run and exits with 1 where a search found something else than the table says, or
was cut short. With ``--trail NAME`` it tells the story that a run found, step by step.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.model.runs import Run, read_runs
from tests.model.search import Found, search
from tests.model.trail import tell


def main(arguments: list[str]) -> int:
    """Do what the command line asks; return the exit status."""
    parser = argparse.ArgumentParser(prog="make model", description="Check the model.")
    parser.add_argument("names", nargs="*", help="runs, or beginnings of their names")
    parser.add_argument("--trail", metavar="NAME", help="tell what this run finds, step by step")
    asked = parser.parse_args(arguments)
    runs = read_runs()
    if asked.trail:
        return _tell([run for run in runs if run.name == asked.trail])
    wanted = tuple(asked.names)
    return _check([run for run in runs if not wanted or run.name.startswith(wanted)])


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _check(runs: list[Run]) -> int:
    width = max((len(run.name) for run in runs), default=0)
    _say(f"{'run':{width}}  {'expected':10}  {'found':10}  {'states':>9}  seconds")
    wrong: list[str] = []
    # The largest first, or the last one would run alone.
    order = sorted(runs, key=lambda run: -run.states)
    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        pending = {run.name: pool.submit(_search, run) for run in order}
        for run in runs:
            found = pending[run.name].result()
            verdict = "cut short" if found.verdict is None else str(found.verdict)
            _say(
                f"{run.name:{width}}  {run.expected!s:10}  {verdict:10}  "
                f"{found.states:9,}  {found.seconds:7.1f}"
            )
            if found.verdict != run.expected:
                wrong.append(run.name)
    _say(f"{len(runs) - len(wrong)} of {len(runs)} as expected")
    for name in wrong:
        _say(f"not as expected: {name}; see its story with: make model ARGS='--trail {name}'")
    return 1 if wrong or not runs else 0


def _search(run: Run) -> Found:
    with tempfile.TemporaryDirectory(prefix="model-") as folder:
        return search(run, Path(folder))


def _tell(runs: list[Run]) -> int:
    for run in runs:
        with tempfile.TemporaryDirectory(prefix="model-") as folder:
            found = search(run, Path(folder))
            if found.verdict is None or not found.verdict.broken:
                _say(found.output)
            else:
                _say(f"{run.name} {found.verdict}:")
                _say(tell(run, Path(folder)))
    return 0 if runs else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""One search of the model by spin: compile it with a run's switches, and try every interleaving."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.model.runs import MODEL, SOURCE, Run, Verdict

DEPTH: Final = 100_000
MEMORY_MIB: Final = 6_000
LONGEST_S: Final = 900

COMPILE: Final = ("gcc", "-O1", "-w", "-DSAFETY", "-DNOREDUCE", f"-DMEMLIM={MEMORY_MIB}")
"""Every step touches what all share, so there is nothing that a partial order could reduce."""

ERRORS: Final = re.compile(r"errors: (\d+)")
STATES: Final = re.compile(r"^\s*([\d.e+]+) states, stored", re.MULTILINE)
BROKEN: Final = re.compile(r"assertion violated .*?\bi(\d+)\)? \(at depth", re.MULTILINE)
CUT_SHORT: Final = re.compile(r"max search depth too small|-DMEMLIM|out of memory")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What came of a search.

    Attributes:
        verdict: ``None``: the search was cut short, so that it says nothing.
        states: How many different states it visited.
        seconds: How long it took, compilation included.
        output: What the checker printed, for whoever asks why.
    """

    verdict: Verdict | None
    states: int
    seconds: float
    output: str


def search(run: Run, folder: Path) -> Found:
    """Search all that the run allows; `folder` is left with the trail of what was found."""
    started_s = time.monotonic()
    shutil.copy(MODEL / SOURCE, folder)  # its trail is written beside it
    _do(["spin", "-a", *run.defines, SOURCE], folder)
    _do([*COMPILE, "-o", "pan", "pan.c"], folder)
    output = _do(["./pan", "-E", f"-m{DEPTH}", "-n"], folder)
    states = STATES.search(output)
    return Found(
        verdict=read_verdict(output),
        states=int(float(states[1])) if states else 0,
        seconds=time.monotonic() - started_s,
        output=output,
    )


def read_verdict(output: str) -> Verdict | None:
    """Return what the checker printed in the end, or ``None`` where that proves nothing."""
    errors = ERRORS.search(output)
    if errors is None or CUT_SHORT.search(output):
        return None
    if errors[1] == "0":
        return Verdict()
    broken = BROKEN.search(output)
    return Verdict(broken=f"I{broken[1]}") if broken else None


def _do(command: list[str], folder: Path) -> str:
    ended = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=LONGEST_S, check=False
    )
    output = ended.stdout + ended.stderr
    if ended.returncode != 0:
        raise RuntimeError(f"{command[0]} failed:\n{output}")
    return output

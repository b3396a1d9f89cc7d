"""Tells the story that a search found: who did what, and how the world looked afterwards."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

from tests.model.runs import MODEL, SOURCE, Run

STEP: Final = re.compile(r"\s*(\d+):\s+proc\s+(\d+) \((:?\w+):\d+\) \S*refresh\.pml:(\d+) ")
VALUE: Final = re.compile(r"\s+(\w+(?:\[\d+\])?) = (\d+)$")

STATES: Final = (
    "active", "leased", "sending", "in_doubt", "reauth_required", "revoking", "revoked",
)  # fmt: skip
PLACES: Final = (
    "idle", "taken", "marked", "sent", "got", "kept", "tried", "denied", "telling", "told", "down",
)  # fmt: skip

Values = dict[str, int]


def tell(run: Run, folder: Path) -> str:
    """Replay the trail that lies in `folder` and return it as text."""
    replay = subprocess.run(
        ["spin", "-t", "-p", "-g", *run.defines, SOURCE],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    source = (MODEL / SOURCE).read_text("utf-8").splitlines()
    values: Values = {}
    before = ""
    told: list[str] = []
    for who, line, changes in _steps(replay.stdout):
        values.update(changes)
        world = _world(values, sidecars=run.switches.get("N", 2))
        if who and world != before:
            told += [f"{who}: {source[line - 1].strip()}", world]
        before = world
    return "\n".join(told)


def _steps(output: str) -> list[tuple[str, int, Values]]:
    """Return (who, line of the model, what changed) of each step; one step may fill many lines."""
    steps: list[tuple[str, int, Values]] = []
    number = ""
    for text in output.splitlines():
        if found := STEP.match(text):
            if found[1] != number:
                number = found[1]
                steps.append((_name(int(found[2]), found[3]), int(found[4]), {}))
        elif (found := VALUE.match(text)) and steps:
            steps[-1][2][found[1]] = int(found[2])
    return steps


def _name(process: int, kind: str) -> str:
    if kind == "Sidecar":
        return f"sidecar {process - 1}"
    return "" if kind.startswith(":") else kind


def _world(values: Values, *, sidecars: int) -> str:
    def value(name: str, default: int = 0) -> int:
        return values.get(name, default)

    def pair(name: str, index: str = "", default: int = 0) -> str:
        consent = value(f"{name}_consent{index}", default)
        return f"({consent},{value(f'{name}_gen{index}', default)})"

    lines = [
        f"    store {pair('store', default=1)} {STATES[value('store_state')]}"
        f" claim {value('store_claim')}"
        f", replica {pair('replica', default=1)} {STATES[value('replica_state')]}"
        + (", quarantine" if value("quarantine") else ""),
        "    Akoya "
        + ", ".join(
            f"({consent},{value(f'current[{consent}]', 1)}) "
            + ("lives" if value(f"alive[{consent}]", 1) else "is dead")
            for consent in range(1, value("newest", 1) + 1)
        ),
    ]
    for k in range(sidecars):
        index = f"[{k}]"
        lines.append(
            f"    sidecar {k} {PLACES[value('at' + index)]} claims {pair('claim', index)}"
            f" has on disk {pair('spool', index)}, order {value('order' + index)}"
        )
    return "\n".join(lines)

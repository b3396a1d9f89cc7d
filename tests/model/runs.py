"""The runs of the model: what each asks, and what is expected of it.

They are read from the table in ``docs/explanation/model/runs.md``, which is where people read them
too. Knows nothing of spin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MODEL: Final = Path(__file__).parent.parent.parent / "docs" / "explanation" / "model"
SOURCE: Final = "refresh.pml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a search says: the first invariant that it found broken, or none."""

    broken: str = ""

    def __str__(self) -> str:
        return f"breaks {self.broken}" if self.broken else "holds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One search.

    Attributes:
        name: Begins with the invariant it is about, or with the hole it puts back.
        asks: The invariants that are checked.
        switches: Sizes of the world, faults and holes, as the model's head comment explains them.
        expected: Its verdict.
        states: How many states it visited when the table was written.
    """

    name: str
    asks: tuple[str, ...]
    switches: Mapping[str, int]
    expected: Verdict
    states: int

    @property
    def defines(self) -> list[str]:
        """The switches as spin takes them."""
        checks = [f"-DCHECK_{invariant}" for invariant in self.asks]
        return checks + [f"-D{name}={value}" for name, value in self.switches.items()]


def read_runs() -> list[Run]:
    """Return the runs of the table, in its order."""
    rows = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (MODEL / "runs.md").read_text("utf-8").splitlines()
        if line.startswith("| `")
    )
    return [_run(*row) for row in rows]


def _run(name: str, _says: str, asks: str, switches: str, expected: str, states: str) -> Run:
    return Run(
        name=name.strip("`"),
        asks=tuple(asks.split()),
        switches=dict(_switch(word.strip("`")) for word in switches.split()),
        expected=Verdict(broken=expected.removeprefix("breaks ").removeprefix("holds")),
        states=int(states.replace(",", "")),
    )


def _switch(word: str) -> tuple[str, int]:
    name, _, value = word.partition("=")
    return name, int(value or "1")

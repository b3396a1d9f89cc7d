"""The failure model and the correctness page: complete, and true to the tests and mutations."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.mutants.mutation import ROOT, CodeMoved, Mutation, all_mutations

SCENARIOS: Final = range(1, 45)
"""Those that broke somebody else; what we met ourselves is counted on from there."""

INVARIANTS: Final = range(1, 19)
COLUMNS: Final = 6
TEST: Final = re.compile(r"`(tests/[\w/]+\.py::\w+)`")
CODE: Final = re.compile(r"`(\w+)`")
MUTATIONS: Final = all_mutations()


@dataclass(frozen=True, kw_only=True)
class Row:
    number: int
    tests: frozenset[str]
    stays: str
    mutations: frozenset[str]


def cells(page: str) -> list[list[str]]:
    """Return the rows of a page's tables that begin with a number."""
    text = (ROOT / f"docs/explanation/{page}.md").read_text("utf-8")
    rows = re.findall(r"^\| (\d+ \|.*) \|$", text, re.MULTILINE)
    return [[cell.strip() for cell in row.split(" | ")] for row in rows]


def failure_model() -> list[Row]:
    rows: list[Row] = []
    for row in cells("failure-model"):
        assert len(row) == COLUMNS, row
        number, _, _, tests, stays, mutations = row
        rows.append(
            Row(
                number=int(number),
                tests=frozenset(TEST.findall(tests)),
                stays=stays,
                mutations=frozenset(CODE.findall(mutations)),
            )
        )
    return rows


ROWS: Final = failure_model()


def test_every_scenario_has_one_row() -> None:
    """None of the scenarios that broke others is left out, and no number comes twice."""
    numbers = sorted(row.number for row in ROWS)

    assert numbers == list(range(1, len(numbers) + 1))
    assert set(numbers) >= set(SCENARIOS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row.number))
def test_a_row_has_a_test_and_a_mutation_that_it_notices(row: Row) -> None:
    """A reader can run what shows a row, and see it fail."""
    assert row.tests
    assert row.stays
    assert row.mutations or row.number not in SCENARIOS
    known = {mutation.name for mutation in MUTATIONS if mutation.scenario == row.number}
    assert row.mutations <= known


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_applies_and_names_the_test_of_its_row(mutation: Mutation) -> None:
    """What `make mutants` will change is there, is small, and stays a program."""
    changed = mutation.applied(ROOT)

    rows = [row for row in ROWS if mutation.name in row.mutations]
    assert [row.number for row in rows] == [mutation.scenario]
    assert mutation.test in rows[0].tests
    assert mutation.name.startswith(f"{mutation.scenario:02}_")
    assert mutation.file.startswith(("sidecar/", "config/"))
    assert mutation.text.count("\n") <= 8
    assert mutation.failure
    if mutation.file.endswith(".py"):
        compile(changed, mutation.file, "exec")


def test_a_mutation_whose_code_moved_says_what_to_do(tmp_path: Path) -> None:
    """Whoever rewrites a line that a mutation changes is told which one to renew."""
    mutation = Mutation(
        name="01_example",
        scenario=1,
        failure="it fails",
        file="moved.py",
        text="before\n",
        replacement="after\n",
        killed_by="tests/test_example.py::test_example",
    )

    for source in ("now\n", "before\nbefore\n"):
        (tmp_path / "moved.py").write_text(source)
        with pytest.raises(CodeMoved, match=r"renew tests/mutants/01_example\.toml"):
            mutation.applied(tmp_path)


def test_every_invariant_has_a_test() -> None:
    """Each of the protocol's invariants has a row of its own that names a test."""
    rows = cells("correctness")

    assert {int(row[0]) for row in rows} == set(INVARIANTS)
    assert all(TEST.search(row[2]) for row in rows)


def test_the_invariants_are_those_of_the_protocol() -> None:
    """The numbers of the correctness page are those of the list that it points to."""
    text = (ROOT / "docs/explanation/refresh-protocol.md").read_text("utf-8")
    section = text.partition("\n## Invariants\n")[2].partition("\n## ")[0]

    assert [int(number) for number in re.findall(r"^(\d+)\. ", section, re.MULTILINE)] == list(
        INVARIANTS
    )

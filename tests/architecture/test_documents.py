from __future__ import annotations

import ast
import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from sidecar.__main__ import COMMANDS, PASSED_ON

ROOT: Final = Path(__file__).parent.parent.parent
MADE: Final = frozenset(
    {
        ".git", ".venv", ".hypothesis", ".import_linter_cache", ".mypy_cache", ".pytest_cache",
        ".ruff_cache", "__pycache__", "build", "dist", "secrets",
    }
)  # fmt: skip
PRIVATE: Final = frozenset({".env", "sidecar.env"})

PAGES: Final = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LOCKS: Final = sorted(ROOT.glob("requirements*.lock"))

TEST_REFERENCE: Final = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
HOLE: Final = re.compile(r"^(\| (\d+) \| .*\|)$", re.MULTILINE)
TEST_OF_HOLE: Final = re.compile(r"test_h(\d+)_")
RUN: Final = re.compile(r"^\| `([hi]\d+_\w+)` \|", re.MULTILINE)
RUN_IN_ROW: Final = re.compile(r"`([hi]\d+_\w+)`")
LINK: Final = re.compile(r"\]\((?!https?://|mailto:)([^)\s#]*)(?:#([^)\s]+))?\)")
HEADING: Final = re.compile(r"^#+ +(.+)$", re.MULTILINE)
MAKE_VERB: Final = re.compile(r"(?:^|`|\$ |&& )make ([a-z-]+)", re.MULTILINE)
PROGRAM: Final = re.compile(r"(?:python -m sidecar|akoya-sidecar) ([a-z-]+)")
REGISTRY_HOST: Final = re.compile(
    "|".join(
        rf"{name}\.(?:{ends})"
        for name, ends in (
            ("pypi", "org|python"), ("pythonhosted", "org"), ("npmjs", "org|com"),
            ("docker", "io"), ("ghcr", "io"), ("quay", "io"), ("gcr", "io"), ("debian", "org"),
        )
    )
)  # fmt: skip
MACHINE_PATH: Final = re.compile(r"(?<![\w./}])/(?:home|root|work|Users)/\w")


def _names(pages: list[Path]) -> list[str]:
    return [str(page.relative_to(ROOT)) for page in pages]


def _files() -> Iterator[tuple[Path, str]]:
    for folder, folders, names in os.walk(ROOT):
        folders[:] = set(folders) - MADE
        for path in (Path(folder) / name for name in names if name not in MADE | PRIVATE):
            with contextlib.suppress(UnicodeDecodeError):
                yield path.relative_to(ROOT), path.read_text("utf-8")


def _tests_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, functions)}


def _holes() -> str:
    text = (ROOT / "docs/explanation/refresh-protocol.md").read_text("utf-8")
    return text.partition("\n## Holes of a straightforward design\n")[2].partition("\n## ")[0]


def _slug(heading: str) -> str:
    words = re.sub(r"[^\w\- ]", "", heading.lower().replace("`", ""))
    return words.strip().replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=_names(PAGES))
def test_every_link_leads_somewhere(page: Path) -> None:
    """A relative link names a file of the repository, and its anchor a heading of that file."""
    text = page.read_text("utf-8")

    for target, anchor in LINK.findall(text):
        aim = (page.parent / target).resolve() if target else page
        assert aim.exists(), target
        if anchor:
            headings = HEADING.findall(aim.read_text("utf-8"))
            assert anchor in {_slug(heading) for heading in headings}, f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=_names(PAGES))
def test_every_named_test_exists(page: Path) -> None:
    """Who reads that a test shows something can run that test."""
    for file, name in TEST_REFERENCE.findall(page.read_text("utf-8")):
        assert (ROOT / file).is_file(), file
        if name:
            assert name in _tests_of(ROOT / file), f"{file}::{name}"


def test_the_failure_model_and_the_correctness_page_name_tests() -> None:
    """The pages that claim things say what shows them."""
    for page, least in (("failure-model", 30), ("correctness", 15)):
        text = (ROOT / f"docs/explanation/{page}.md").read_text("utf-8")
        assert len(TEST_REFERENCE.findall(text)) >= least, page


def test_every_hole_has_tests_and_every_test_of_a_hole_its_row() -> None:
    """What a straightforward design leaves open is listed whole, with what shows it closed."""
    rows = {int(number): row for row, number in HOLE.findall(_holes())}
    of_holes = {
        (int(match[1]), f"{path.relative_to(ROOT)}::{name}")
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in _tests_of(path)
        if (match := TEST_OF_HOLE.match(name))
    }

    assert list(rows) == list(range(1, 32))
    assert [number for number, row in rows.items() if not TEST_REFERENCE.search(row)] == []
    assert [test for number, test in of_holes if f"`{test}`" not in rows[number]] == []


def test_every_run_of_the_model_that_puts_a_hole_back_is_in_its_row() -> None:
    """A hole that the model can show is shown, and nothing is named that it does not run."""
    runs = set(RUN.findall((ROOT / "docs/explanation/model/runs.md").read_text("utf-8")))
    named = {
        (int(number), run)
        for row, number in HOLE.findall(_holes())
        for run in RUN_IN_ROW.findall(row)
    }

    assert {run for _, run in named} <= runs
    assert {(int(run[1:].partition("_")[0]), run) for run in runs if run[0] == "h"} <= named


@pytest.mark.parametrize("page", PAGES, ids=_names(PAGES))
def test_every_command_of_a_page_exists(page: Path) -> None:
    """A verb of make and a command of the program are there where a page tells to use them."""
    verbs = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    commands = {*COMMANDS, *PASSED_ON, "reference"}
    text = page.read_text("utf-8")

    assert set(MAKE_VERB.findall(text)) <= verbs
    assert set(PROGRAM.findall(text)) <= commands


def test_every_document_is_on_the_map() -> None:
    """Nobody has to guess which pages there are: each is linked, or the folder it lies in."""
    docs = ROOT / "docs"
    linked = {
        (docs / target).resolve()
        for target, _ in LINK.findall((docs / "README.md").read_text("utf-8"))
        if target
    }

    unmapped = [
        str(page.relative_to(docs))
        for page in docs.rglob("*.md")
        if not {page, page.parent} & linked
    ]
    assert unmapped == ["README.md"]


def test_no_file_names_a_registry_or_a_path_of_one_machine() -> None:
    """Users install from an index of their own, on machines of their own."""
    found = [
        f"{path}: {match.group()}"
        for path, text in _files()
        for match in (*REGISTRY_HOST.finditer(text), *MACHINE_PATH.finditer(text))
    ]

    assert found == []


@pytest.mark.parametrize("lock", LOCKS, ids=_names(LOCKS))
def test_a_lock_has_a_hash_for_everything_and_no_address(lock: Path) -> None:
    """What is installed is what was resolved, wherever it is fetched from."""
    text = lock.read_text("utf-8")
    entries = re.split(r"^(?=\S)", text.replace("\\\n", ""), flags=re.MULTILINE)
    pins = [entry for entry in entries if entry.strip() and not entry.startswith("#")]

    assert pins
    assert all(re.match(r"[\w.\-\[\]]+==[\w.]+", pin) for pin in pins)
    assert all("--hash=sha256:" in pin for pin in pins)
    assert "://" not in text


def test_the_smaller_locks_are_parts_of_the_large_one() -> None:
    """The image runs what the tests ran."""
    pinned = {
        lock.name: set(
            re.findall(r"^([\w.\-\[\]]+==[\w.]+)", lock.read_text("utf-8"), re.MULTILINE)
        )
        for lock in LOCKS
    }
    large = pinned.pop("requirements.lock")

    assert set(pinned) == {
        "requirements.build.lock",
        "requirements.runtime.lock",
        "requirements.traced.lock",
    }
    for name, pins in pinned.items():
        assert pins <= large, name

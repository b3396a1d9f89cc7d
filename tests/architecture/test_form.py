from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent.parent
MODULES: Final = sorted((ROOT / "sidecar").rglob("*.py"))
TESTS: Final = sorted((ROOT / "tests").rglob("test_*.py"))

LONGEST_FILE: Final = 400
LONGEST_RULE_FILE: Final = 300
LONGEST_FUNCTION: Final = 40
MOST_PARAMETERS: Final = 5
LONG_TABLES: Final = frozenset({"domain/commands.py", "domain/events.py"})
"""Lists of values, one after the other, in which nothing is decided."""

VAGUE_NAMES: Final = frozenset({"utils", "helpers", "common", "manager", "handler", "misc"})
COMMAND_LINES: Final = ("__main__.py", "app/__init__.py", "console/", "sandbox/", "demo")
"""Who may write to the terminal; `app` only to say why it could not start."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT / "sidecar"))


def functions_of(path: Path) -> Iterator[Function]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, Function):
            yield node


def called_names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def sleeps_of(path: Path) -> Iterator[str]:
    """Yield the calls that let real time pass.

    To sleep for 0 only lets others run, and in virtual time a sleep costs nothing.
    """
    source = path.read_text()
    is_virtual = "from tests.support.virtual_time import" in source
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "sleep":
            call = ast.unparse(node)
            if not (call.startswith("asyncio.") and (is_virtual or call.endswith("(0)"))):
                yield f"line {node.lineno}: {call}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_says_what_it_is_for_and_stays_small(path: Path) -> None:
    """Each module can be read in one sitting, and its first line says why it exists."""
    name = name_of(path)
    lines = path.read_text().count("\n") + 1
    is_rule = name.startswith(("domain/", "service/")) and name not in LONG_TABLES
    limit = LONGEST_RULE_FILE if is_rule else LONGEST_FILE

    assert ast.get_docstring(ast.parse(path.read_text()))
    assert lines <= limit or name in LONG_TABLES, f"{name} has {lines} lines"
    assert path.stem not in VAGUE_NAMES


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_function_stays_small_and_takes_few_things(path: Path) -> None:
    """No function hides a second one, and none takes more than five things."""
    for function in functions_of(path):
        given = function.args
        positional = [a for a in given.posonlyargs + given.args if a.arg not in {"self", "cls"}]
        count = len(positional) + len(given.kwonlyargs)
        length = (function.end_lineno or function.lineno) - function.lineno + 1

        assert length <= LONGEST_FUNCTION, f"{function.name} has {length} lines"
        assert count <= MOST_PARAMETERS or function.name == "__init__", function.name


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_prints_but_the_command_line(path: Path) -> None:
    """What the sidecar has to say goes through the observer, where it is counted and masked."""
    calls = set(called_names(path))

    assert not calls & {"print", "breakpoint", "asyncio.create_task"}
    assert name_of(path).startswith(COMMAND_LINES) or not calls & {
        "sys.stdout.write",
        "sys.stderr.write",
    }


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT / "tests")))
def test_a_test_waits_for_what_it_wants_and_never_sleeps(path: Path) -> None:
    """No test is slow or flaky because it guessed how long something takes."""
    assert list(sleeps_of(path)) == []


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT / "tests")))
def test_a_test_says_its_promise(path: Path) -> None:
    """Every test has the promise it holds as its docstring."""
    silent = [
        function.name
        for function in functions_of(path)
        if function.name.startswith("test_") and not ast.get_docstring(function)
    ]

    assert silent == []


def test_the_layers_hold() -> None:
    """Imports go down only; each library has its one importer, as `pyproject.toml` says."""
    program = Path(sys.executable).with_name("lint-imports")

    done = subprocess.run(
        [program, "--no-cache"],
        cwd=ROOT,
        env={"PATH": os.defpath},
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )

    assert done.returncode == 0, done.stdout


LIBRARIES: Final = {
    "aiohttp": ("http/", "adapters/http_idp", "app", "sandbox/", "demo"),
    "redis": ("adapters/redis_", "sandbox/", "demo"),
    "cryptography": ("adapters/sealing.py", "sandbox/"),
    "structlog": ("telemetry/",),
    "prometheus_client": ("telemetry/",),
    "orjson": ("telemetry/", "sandbox/"),
    "opentelemetry": ("telemetry/spans.py",),
    "requests": ("telemetry/spans.py",),
}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_each_library_has_one_importer(path: Path) -> None:
    """A library can be replaced by rewriting one place."""
    imported: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])

    for library in imported & LIBRARIES.keys():
        assert name_of(path).startswith(LIBRARIES[library]), f"{name_of(path)} imports {library}"

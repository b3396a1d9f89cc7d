"""What a test must have so that it can fail, as far as that can be seen without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
TESTS: Final = sorted(ROOT.rglob("test_*.py"))
Function = ast.FunctionDef | ast.AsyncFunctionDef
Loop = ast.For | ast.AsyncFor | ast.While
With = ast.With | ast.AsyncWith
EXPECTING: Final = ("pytest.raises", "pytest.warns", "pytest.fail")


def is_checked(body: Sequence[ast.stmt]) -> bool:
    """Whether something is asserted on every way through these statements.

    A loop counts as run: what it runs over is mostly written beside it.
    """
    return any(map(_is_check, body))


def _is_check(node: ast.stmt) -> bool:
    match node:
        case ast.Assert() | ast.Raise():
            return True
        case ast.If():
            return is_checked(node.body) and is_checked(node.orelse)
        case ast.Match():
            return all(is_checked(case.body) for case in node.cases)
        case ast.With() | ast.AsyncWith():
            expected = (ast.unparse(item.context_expr) for item in node.items)
            return any(text.startswith(EXPECTING) for text in expected) or is_checked(node.body)
        case ast.For() | ast.AsyncFor() | ast.While():
            return is_checked(node.body) or is_checked(node.orelse)
        case ast.Try():
            return is_checked([*node.body, *node.finalbody])
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            return is_checked(node.body)  # it is called: nothing unused passes the linter
        case ast.Expr(value=ast.Call() | ast.Await()):
            # Some leave the assertion to a helper, which says so by its name.
            called = ast.unparse(node.value).removeprefix("await ").partition("(")[0]
            return "assert" in called or called in EXPECTING
        case _:
            return False


def asserts_of(function: Function) -> Iterator[ast.Assert]:
    return (node for node in ast.walk(function) if isinstance(node, ast.Assert))


def every_test(source: str) -> Iterator[Function]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, Function) and node.name.startswith("test_"):
            yield node


def doubtful(source: str) -> list[str]:
    """Return the tests that have assertions, and a way through on which none is reached."""
    return [
        f"line {test.lineno}: {test.name}"
        for test in every_test(source)
        if any(asserts_of(test)) and not is_checked(test.body)
    ]


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_test_asserts_something_on_every_way_through_it(path: Path) -> None:
    """An assertion that stands only in an `if` shows nothing where the condition never holds.

    Of a property, `assume` what it is about, or count how often that was met.
    """
    assert doubtful(path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("body", "is_doubtful"),
    [
        ("if a:\n  assert b", True),
        ("if a:\n  assert b\nelse:\n  pass", True),
        ("if a:\n  assert b\nelse:\n  assert c", False),
        ("for a in b:\n  if a:\n    assert c", True),
        ("for a in b:\n  assert c", False),
        ("try:\n  a()\nexcept B:\n  assert c", True),
        ("match a:\n  case 1:\n    assert b\n  case _:\n    pass", True),
        ("with pytest.raises(A):\n  b()\nif c:\n  assert d", False),
        ("if a:\n  assert b\nassert_met(c)", False),
        ("async with a:\n  assert b", False),
    ],
)
def test_what_is_doubtful_about_a_test(body: str, *, is_doubtful: bool) -> None:
    """The rule sees through loops, branches and handlers."""
    source = "async def test_x():\n" + "".join(f"  {line}\n" for line in body.splitlines())

    assert bool(doubtful(source)) is is_doubtful

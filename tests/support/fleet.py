"""Real sidecar processes beside a sandbox and a store, which a test may stop, kill and continue."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, final

import aiohttp

from sidecar.domain.record import GrantId
from sidecar.sandbox import Sandbox
from tests.support.pipes import Outputs
from tests.support.wait import eventually, until

REPOSITORY = Path(__file__).resolve().parents[2]
CONTROL_KEY = "control-key-of-the-tests-0123456789abcdef"
HASH_KEY = base64.b64encode(b"h" * 32).decode()
ENCRYPTION_KEYS = "k1:" + base64.b64encode(b"e" * 32).decode()
COME_AGAIN = 503
REDIRECT_URI = "http://127.0.0.1:9999/callback"
BANK = "mikomo"
LISTENING = re.compile(
    r"""address(?:=|":")(?P<address>[^\s"]+)\W+listener(?:=|":")(?P<listener>\w+)"""
    r"""|listener(?:=|":")(?P<named>\w+)\W+address(?:=|":")(?P<at>[^\s"]+)"""
)
"""The line of an open listener, as JSON or for people."""


@dataclass(kw_only=True)
class FleetPlace:
    """Where sidecars of one fleet find each other.

    Attributes:
        spec: More of what only tests may choose; see `sidecar_main`.
    """

    directory: Path
    redis_url: str
    redis_prefix: str
    sandbox: Sandbox
    times: Mapping[str, float] = field(default_factory=dict[str, float])
    environ: Mapping[str, str] = field(default_factory=dict[str, str])
    spec: Mapping[str, Any] = field(default_factory=dict[str, Any])


@final
class SidecarProcess:
    """One `run` in a process of its own; its log is kept in `place.directory`.

    Attributes:
        outputs: What it writes to, if not right into its log.
    """

    def __init__(
        self,
        place: FleetPlace,
        *,
        name: str,
        dies_after: str | None = None,
        clock_ahead_s: float = 0.0,
        outputs: Outputs | None = None,
    ) -> None:
        self.name = name
        self.outputs = outputs
        self._place = place
        self._spec: dict[str, Any] = {
            "times": dict(place.times),
            "dies_after": dies_after,
            "clock_ahead_s": clock_ahead_s,
            **place.spec,
            **({} if outputs is None else outputs.spec),
        }
        self._log_path = place.directory / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._addresses: dict[str, str] = {}
        self._log_from = 0

    def will_stop_at(self, steps: Mapping[GrantId, int]) -> None:
        """Have the next start stop once at such a step of a grant's claim; see `failpoints`."""
        self._spec["stops_at"] = dict(steps)

    @property
    def is_running(self) -> bool:
        """Whether there is a process, stopped or not."""
        return not self._has_ended

    async def start(self) -> Self:
        """Start the process and return once it says that it is ready."""
        self._log_from = self._log_path.stat().st_size if self._log_path.exists() else 0
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - starting takes a millisecond
                [sys.executable, "-m", "tests.support.sidecar_main", json.dumps(self._spec)],
                cwd=REPOSITORY,
                env=self.environ(),
                stdout=log if self.outputs is None else self.outputs.stdout.into,
                stderr=log if self.outputs is None else self.outputs.stderr.into,
            )
        if self.outputs is not None:
            self.outputs.copy_to(self._log_path)
        await until(
            lambda: b"lifecycle.ready" in self._recent or self._has_ended,
            within_s=40,
            what=f"{self.name} to be ready",
        )
        assert not self._has_ended, self._log_path.read_text()
        for line in LISTENING.finditer(self._recent.decode()):
            name, address = line["listener"] or line["named"], line["address"] or line["at"]
            self._addresses[name] = address
        return self

    @property
    def proxy_url(self) -> str:
        """The proxy listener's URL."""
        return f"http://{self._addresses['proxy']}"

    @property
    def control_url(self) -> str:
        """The control listener's URL."""
        return f"http://{self._addresses['control']}"

    @property
    def metrics_url(self) -> str:
        """The metrics listener's URL."""
        return f"http://{self._addresses['metrics']}"

    @property
    def connect_address(self) -> str:
        """Host and port of the connect listener, where there is one."""
        return self._addresses["connect"]

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> list[dict[str, Any]]:
        """The lines since the last start that are JSON objects."""
        lines = self._recent.splitlines(keepends=True)
        whole = (line for line in lines if line.endswith(b"\n"))
        return [json.loads(line) for line in whole if line.startswith(b"{")]

    @property
    def events(self) -> set[str]:
        """The names of the events logged since the last start."""
        return {line["event"] for line in self.log}

    @property
    def raw_log(self) -> bytes:
        """Everything the process ever wrote."""
        return self._log_path.read_bytes()

    @property
    def _recent(self) -> bytes:
        return self.raw_log[self._log_from :]

    @property
    def _has_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it and wait for its end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def ended(self, *, within_s: float = 40) -> int:
        """Return the exit code once the process has ended."""
        await until(lambda: self._has_ended, within_s=within_s, what=f"{self.name} to end")
        assert self._process is not None
        return self._process.returncode

    def environ(self) -> dict[str, str]:
        """Return the environment that the process starts with."""
        sandbox = self._place.sandbox
        inherited = {
            name: value
            for name, value in os.environ.items()  # noqa: TID251 - handed on to a process
            if not name.startswith(("SIDECAR_", "OTEL_"))
        }
        return inherited | {
            "SIDECAR_AKOYA_CLIENT_ID": sandbox.settings.client_id,
            "SIDECAR_AKOYA_CLIENT_SECRET": sandbox.settings.client_secret,
            "SIDECAR_IDP_URL": sandbox.url,
            "SIDECAR_PRODUCTS_URL": sandbox.url,
            "SIDECAR_REDIRECT_URI": REDIRECT_URI,
            "SIDECAR_REDIS_URL": self._place.redis_url,
            "SIDECAR_REDIS_PREFIX": self._place.redis_prefix,
            "SIDECAR_ENCRYPTION_KEYS": ENCRYPTION_KEYS,
            "SIDECAR_HASH_KEY": HASH_KEY,
            "SIDECAR_CONTROL_KEYS": f"test:{CONTROL_KEY}",
            "SIDECAR_SPOOL_DIR": str(self._place.directory / f"spool-{self.name}"),
            "SIDECAR_PROXY_LISTEN": "127.0.0.1:0",
            "SIDECAR_CONTROL_LISTEN": "127.0.0.1:0",
            "SIDECAR_METRICS_LISTEN": "127.0.0.1:0",
            **self._place.environ,
        }


@final
class App:
    """A microservice: calls the proxy without tokens and the grants API with a key."""

    def __init__(self, session: aiohttp.ClientSession, sandbox: Sandbox) -> None:
        self._session = session
        self._sandbox = sandbox

    def consent(self, user: str, *, provider: str = BANK) -> str:
        """Have `user` consent at the sandbox and return the code."""
        return self._sandbox.consent(user, provider=provider, redirect_uri=REDIRECT_URI)

    async def onboard(
        self, sidecar: SidecarProcess, user: str, *, provider: str = BANK
    ) -> dict[str, Any]:
        """Have `user` consent at the sandbox and hand the code to a sidecar."""
        code = self.consent(user, provider=provider)
        body = {"user": user, "provider": provider, "code": code}
        async with self.control(sidecar, "POST", "/grants", json=body) as answer:
            assert answer.status == 201, await answer.text()
            grant: dict[str, Any] = await answer.json()
            return grant

    def control(
        self, sidecar: SidecarProcess, method: str, path: str, **options: Any
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Call the grants API."""
        headers = {"Authorization": f"Bearer {CONTROL_KEY}"}
        return self._session.request(
            method, f"{sidecar.control_url}{path}", headers=headers, **options
        )

    async def refresh(self, sidecar: SidecarProcess, user: str, *, provider: str = BANK) -> int:
        """Have the grant refreshed now; return the status."""
        path = f"/grants/{provider}/{user}/refresh"
        async with self.control(sidecar, "POST", path) as answer:
            await answer.read()
            return answer.status

    async def show(
        self, sidecar: SidecarProcess, user: str, *, provider: str = BANK
    ) -> dict[str, Any]:
        """Return the grant as the API shows it."""
        async with self.control(sidecar, "GET", f"/grants/{provider}/{user}") as answer:
            assert answer.status == 200, await answer.text()
            grant: dict[str, Any] = await answer.json()
            return grant

    async def fetch(self, sidecar: SidecarProcess, user: str) -> tuple[int, str]:
        """Read the user's accounts through a sidecar; return the status and `Sidecar-Error`."""
        url = f"{sidecar.proxy_url}/accounts-info/v2/mikomo"
        async with self._session.get(url, headers={"Sidecar-User": user}) as answer:
            await answer.read()
            return answer.status, answer.headers.get("Sidecar-Error", "")

    async def fetch_many(
        self, sidecars: list[SidecarProcess], user: str, *, calls: int
    ) -> list[tuple[int, str]]:
        """Read the accounts `calls` times at once, in turn through each sidecar."""
        return await asyncio.gather(
            *(self.fetch(sidecars[turn % len(sidecars)], user) for turn in range(calls))
        )

    async def served(self, sidecar: SidecarProcess, user: str) -> tuple[int, str]:
        """Read the user's accounts, again while it is told to come again; return the last answer.

        On a busy machine a sidecar may miss an answer of the store and say so.
        """
        return await eventually(
            lambda: self.fetch(sidecar, user),
            lambda answer: answer[0] != COME_AGAIN,
            within_s=20,
            what=f"{user} to be served by {sidecar.name}",
        )

    async def metric(self, sidecar: SidecarProcess, series: str) -> float:
        """Return the value of a series as `/metrics` shows it; 0 where it is absent."""
        async with self._session.get(f"{sidecar.metrics_url}/metrics") as answer:
            for line in (await answer.text()).splitlines():
                if line.startswith(f"{series} "):
                    return float(line.rpartition(" ")[2])
        return 0.0

"""Sidecar processes that are killed, stopped and started again, and the record of their lives."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, final

import aiohttp

from tests.chaos.evidence import Life, Span
from tests.chaos.nursery import Birth, Child, Nursery
from tests.chaos.witness import Testimony, now_s
from tests.support.fleet import CONTROL_KEY, ENCRYPTION_KEYS, HASH_KEY, REDIRECT_URI

READY_WITHIN_S: Final = 120.0
DRAINS_WITHIN_S: Final = 20
LISTENERS: Final = ("proxy", "control", "metrics")


@dataclass(frozen=True, kw_only=True)
class SidecarPlan:
    """What all sidecars of a run have in common.

    Attributes:
        program: The module that a process runs; gets `spec` as JSON.
        spec: Times, the witness' directory, a mutant.
    """

    directory: Path
    nursery: Nursery
    idp_url: str
    program: str
    spec: Mapping[str, object]
    prefix: str = "chaos"


@dataclass(slots=True, kw_only=True)
class _Lived:
    """A life as it goes on."""

    pid: int
    started_s: float
    ready_s: float | None = None
    ended_s: float | None = None
    stops: list[Span] = field(default_factory=list[Span])


@final
class ChaosSidecar:
    """One sidecar: its address and its spool stay, its processes come and go."""

    def __init__(self, plan: SidecarPlan, *, name: str, redis_url: str) -> None:
        self.name = name
        self.spool = plan.directory / f"spool-{name}"
        self.is_stopped = False
        self._plan = plan
        self._redis_url = redis_url
        self._ports = dict(zip(LISTENERS, _free_ports(len(LISTENERS)), strict=True))
        self._process: Child | None = None
        self._lives: list[_Lived] = []
        self._stopped_s = 0.0

    @property
    def control_url(self) -> str:
        """Where its grants API is."""
        return f"http://127.0.0.1:{self._ports['control']}"

    @property
    def proxy_url(self) -> str:
        """Where its proxy is."""
        return f"http://127.0.0.1:{self._ports['proxy']}"

    @property
    def is_alive(self) -> bool:
        """Whether a process runs, stopped or not."""
        return self._process is not None

    def start(self) -> None:
        """Start a process; `ready` waits for it."""
        birth = Birth(
            program=self._plan.program,
            spec=self._plan.spec,
            environ=self._environ(),
            log=str(self._plan.directory / f"{self.name}.log"),
        )
        self._process = self._plan.nursery.bear(birth)
        self._lives.append(_Lived(pid=self._process.pid, started_s=now_s()))

    async def ready(self, session: aiohttp.ClientSession) -> bool:
        """Return once the process that runs has read its spool and serves, or was killed.

        Raises:
            AssertionError: It ended by itself, or took too long.
        """
        life, process = self._lives[-1], self._process
        async with asyncio.timeout(READY_WITHIN_S):
            while self._process is process and process is not None:
                assert not process.has_ended, f"{self.name} ended by itself; see its log"
                if await self._is_ready(session) and self._process is process:
                    life.ready_s = now_s()
                    return True
                await asyncio.sleep(0.05)
        return False

    async def _is_ready(self, session: aiohttp.ClientSession) -> bool:
        url = f"http://127.0.0.1:{self._ports['metrics']}/readyz"
        try:
            async with session.get(url, timeout=aiohttp.ClientTimeout(total=1)) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    def kill(self) -> None:
        """End the process where it stands."""
        assert self._process is not None
        self._process.kill()
        self._process = None
        self._lives[-1].ended_s = now_s()
        if self.is_stopped:
            self._note_stop()

    def stop(self) -> None:
        """Stop the process where it stands; it does not notice."""
        assert self._process is not None
        self._stopped_s, self.is_stopped = now_s(), True
        self._process.send(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let a stopped process go on."""
        if self._process is not None and self.is_stopped:
            self._process.send(signal.SIGCONT)
            self._note_stop()

    def _note_stop(self) -> None:
        self.is_stopped = False
        self._lives[-1].stops.append(Span(from_s=self._stopped_s, to_s=now_s()))

    async def end(self) -> None:
        """Ask the process to end, and wait until it has."""
        if self._process is not None:
            self._process.send(signal.SIGTERM)
            await asyncio.to_thread(self._process.ends_within, 2.0 * DRAINS_WITHIN_S)
            self._process.kill()
            self._process = None

    def kill_if_alive(self) -> None:
        """Leave no process behind."""
        if self._process is not None:
            self.kill()

    def lives(self, testimony: Testimony) -> Sequence[Life]:
        """Return every life so far."""
        return [
            Life(
                sidecar=self.name,
                pid=life.pid,
                started_s=life.started_s,
                ready_s=life.ready_s,
                ended_s=life.ended_s,
                stops=tuple(life.stops),
                beats=testimony.beats.get(life.pid, ()),
            )
            for life in self._lives
        ]

    def _environ(self) -> dict[str, str]:
        inherited = {
            name: value
            for name, value in os.environ.items()  # noqa: TID251 - handed on to a process
            if not name.startswith("SIDECAR_")
        }
        return inherited | {
            "SIDECAR_AKOYA_CLIENT_ID": "sandbox-client",
            "SIDECAR_AKOYA_CLIENT_SECRET": "sandbox-secret",
            "SIDECAR_IDP_URL": self._plan.idp_url,
            "SIDECAR_PRODUCTS_URL": self._plan.idp_url,
            "SIDECAR_REDIRECT_URI": REDIRECT_URI,
            "SIDECAR_REDIS_URL": self._redis_url,
            "SIDECAR_REDIS_PREFIX": self._plan.prefix,
            "SIDECAR_ENCRYPTION_KEYS": ENCRYPTION_KEYS,
            "SIDECAR_HASH_KEY": HASH_KEY,
            "SIDECAR_CONTROL_KEYS": f"test:{CONTROL_KEY}",
            "SIDECAR_SPOOL_DIR": str(self.spool),
            "SIDECAR_REFRESH_WAIT_S": "1",
            "SIDECAR_DRAIN_TIMEOUT_S": str(DRAINS_WITHIN_S),
            "SIDECAR_BRAKE_LIMIT": "1000000",  # the losses that it would stop are what is counted
            "SIDECAR_LOG_LEVEL": "error",
            **{
                f"SIDECAR_{listener.upper()}_LISTEN": f"127.0.0.1:{port}"
                for listener, port in self._ports.items()
            },
        }


def _free_ports(count: int) -> list[int]:
    """Return ports that nobody has now, all different."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()

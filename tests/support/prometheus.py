"""A private Prometheus that scrapes sidecars and evaluates rules, and answers what it knows."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar, final

import aiohttp

from tests.support.redis_server import free_port
from tests.support.wait import eventually

JOB: Final = "akoya-sidecar"
"""The name of the scrape job that the alerts expect."""

PATIENCE_S: Final = 30.0

AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One series of an answer and its value."""

    labels: Mapping[str, str]
    value: float


@final
class Prometheus:
    """One server process with its data in `directory`; runs inside `async with`.

    Attributes:
        url: Its address, without a path.
    """

    def __init__(self, directory: Path, *, rules: Mapping[str, str], interval_ms: int) -> None:
        """Take the rule files by name; it evaluates every `interval_ms` and scrapes half as often.

        So a busy machine has some time to answer a scrape before it counts as down.
        """
        self.url = ""
        self._directory = directory
        self._targets = directory / "targets.json"
        self._interval_ms = interval_ms
        self._rules = rules
        self._process: subprocess.Popen[bytes] | None = None
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._write_configuration()
        self._session = aiohttp.ClientSession()
        with (self._directory / "prometheus.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - starting takes a millisecond
                [
                    "prometheus",
                    f"--config.file={self._directory / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self._directory / 'data'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                stdout=log,
                stderr=log,
            )
        await eventually(self._is_ready, bool, within_s=PATIENCE_S, what="Prometheus to be ready")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def watch(self, addresses: Iterable[str]) -> None:
        """Scrape these `host:port` from now on, and no others; heard of within five seconds."""
        told = json.dumps([{"targets": list(addresses)}])
        fresh = self._targets.with_suffix(".new")
        fresh.write_text(told)
        fresh.rename(self._targets)

    async def query(self, expression: str) -> list[Sample]:
        """Return what an expression is now.

        Raises:
            AssertionError: Prometheus does not take it for one.
        """
        parameters = {"query": expression}
        async with self._session.get(f"{self.url}/api/v1/query", params=parameters) as answer:
            document: Any = await answer.json()
        assert document["status"] == "success", f"{expression}: {document}"
        result = document["data"]["result"]
        return [Sample(labels=each["metric"], value=float(each["value"][1])) for each in result]

    async def value(self, expression: str) -> float:
        """Return the value of an expression with one series; 0 where there is none."""
        samples = await self.query(expression)
        return samples[0].value if samples else 0.0

    async def has_fired(self) -> set[str]:
        """Return the names of the alerts that fired at any time."""
        ever = 'count by (alertname) (last_over_time(ALERTS{alertstate="firing"}[1d]))'
        return {sample.labels["alertname"] for sample in await self.query(ever)}

    async def fires(self, *alerts: str, within_s: float) -> None:
        """Return once each of these alerts has fired."""
        await self._sees(
            self.has_fired, set(alerts).issubset, within_s=within_s, what=f"{alerts} to fire"
        )

    async def shows(self, expression: str, *, above: float, within_s: float) -> None:
        """Return once an expression with one series is above a level."""
        await self._sees(
            lambda: self.value(expression),
            lambda value: value > above,
            within_s=within_s,
            what=f"{expression} to be above {above}",
        )

    async def _sees(
        self,
        ask: Callable[[], Awaitable[AnswerT]],
        is_right: Callable[[AnswerT], bool],
        *,
        within_s: float,
        what: str,
    ) -> None:
        """Ask as often as there can be something new."""

        async def after_a_while() -> AnswerT:
            await asyncio.sleep(self._interval_ms / 2000)
            return await ask()

        await eventually(after_a_while, is_right, within_s=within_s, what=what)

    async def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._directory / "prometheus.log").read_text()
        try:
            async with self._session.get(f"{self.url}/-/ready") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    def _write_configuration(self) -> None:
        self._directory.mkdir(exist_ok=True)
        self.watch(())
        for name, text in self._rules.items():
            (self._directory / name).write_text(text)
        interval, scrape = f"{self._interval_ms}ms", f"{2 * self._interval_ms}ms"
        (self._directory / "prometheus.yml").write_text(
            json.dumps(  # which is YAML too
                {
                    "global": {
                        "scrape_interval": scrape,
                        "scrape_timeout": scrape,
                        "evaluation_interval": interval,
                    },
                    "rule_files": list(self._rules),
                    "scrape_configs": [
                        {"job_name": JOB, "file_sd_configs": [{"files": [self._targets.name]}]}
                    ],
                }
            )
        )

"""The sidecar's `run` with what only tests may choose: short times, a death, a wrong clock.

All are composed here, in test code; production reads none of them from anywhere.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import pytest

from sidecar import app
from sidecar.adapters.file_spool import FileSpool
from sidecar.adapters.signals import ProcessSignals
from sidecar.adapters.system import SystemClock
from sidecar.app.serving_side import ServingSide
from sidecar.domain.events import Event, RequestCompleted
from sidecar.domain.policy import ProtocolTimes
from sidecar.domain.spooled import PairReceived, SpoolEntry
from sidecar.service.reconciler import Reconciler
from sidecar.settings import Settings, load
from sidecar.telemetry import line_writer
from sidecar.telemetry.line_writer import Room
from sidecar.telemetry.observer import TelemetryObserver
from tests.support.failpoints import Failpoints
from tests.support.loop_turns import measured_turns
from tests.support.stores import have_patience

LONG_TURN_S: Final = 0.001


def main(spec: dict[str, Any]) -> int:
    """Run a sidecar on the process environment.

    ``spec``: ``times``, ``dies_after``, ``clock_ahead_s``, ``stops_at``, ``loop`` (``asyncio``
    where uvloop is not wanted), ``tells_turns`` (both loops tell their long turns),
    ``is_patient`` (an answer of the store may take as long as a busy machine needs), ``nofile``
    (soft and hard limit of open files), ``log_lines`` (how many may wait to be written) and
    ``talks`` (on stderr, at each request).
    """
    if spec.get("loop") == "asyncio":
        sys.modules["uvloop"] = None  # type: ignore[assignment]  # so that importing it fails
    if spec.get("is_patient"):
        have_patience(pytest.MonkeyPatch())
    if spec.get("tells_turns"):
        _tell_turns()
    if spec.get("log_lines"):
        line_writer.ORDINARY = Room(lines=spec["log_lines"], size_bytes=1024 * 1024)  # type: ignore[misc]
    if spec.get("talks"):
        _talk_at_each_request()
    if spec.get("dies_after") == "spooled":
        _die_once_a_pair_is_on_disk()
    if spec.get("clock_ahead_s"):
        _set_wall_clock(spec["clock_ahead_s"])
    if "stops_at" in spec:
        Failpoints(spec["stops_at"]).install()
    if spec.get("nofile"):
        resource.setrlimit(resource.RLIMIT_NOFILE, spec["nofile"])
    environ = dict(os.environ)  # noqa: TID251 - this is the command line of the test process
    signals = ProcessSignals.caught()
    settings = load(environ)
    if not isinstance(settings, Settings):
        for problem in settings:
            sys.stderr.write(f"{problem}\n")
        return 78
    return app.main(
        settings, ProtocolTimes(**spec.get("times", {})), environ=environ, signals=signals
    )


def _tell_turns() -> None:
    """Write a line of each turn of a loop that took its thread long, in CPU time."""

    def measured(name: str, work: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        def tell(turn_s: float) -> None:
            if turn_s > LONG_TURN_S:
                line = {"event": "test.turn", "loop": name, "at_s": time.time(), "cpu_s": turn_s}  # noqa: TID251 - compared with the test's
                os.write(1, f"{json.dumps(line)}\n".encode())  # past the log, whose lines wait

        async def run(*args: Any) -> None:
            with measured_turns(tell):
                await work(*args)

        return run

    ServingSide.keep = measured("serving", ServingSide.keep)  # type: ignore[assignment,method-assign]
    Reconciler.run = measured("lane", Reconciler.run)  # type: ignore[assignment,method-assign]


def _die_once_a_pair_is_on_disk() -> None:
    write = FileSpool.write

    def write_and_die(self: FileSpool, entry: SpoolEntry, *, durable: bool) -> None:
        write(self, entry, durable=durable)
        if isinstance(entry, PairReceived) and entry.claim_id is not None:
            os.kill(os.getpid(), signal.SIGKILL)

    FileSpool.write = write_and_die  # type: ignore[method-assign]


def _set_wall_clock(ahead_s: float) -> None:
    now_s = SystemClock.now_s

    def skewed_s(self: SystemClock) -> float:
        return now_s(self) + ahead_s

    SystemClock.now_s = skewed_s  # type: ignore[method-assign]


def _talk_at_each_request() -> None:
    """Write to stderr in each way that a library has, on the event loop's thread."""
    observe = TelemetryObserver.observe

    def observe_and_talk(self: TelemetryObserver, event: Event) -> None:
        observe(self, event)
        if isinstance(event, RequestCompleted):
            sys.stderr.write("a library prints " * 60 + "\n")
            sys.stderr.flush()
            logging.getLogger("a.library").error("a library logs %s", event.request_id)
            with suppress(BlockingIOError):
                os.write(2, b"the interpreter reports" * 40 + b"\n")

    TelemetryObserver.observe = observe_and_talk  # type: ignore[method-assign]


if __name__ == "__main__":
    raise SystemExit(main(json.loads(sys.argv[1])))

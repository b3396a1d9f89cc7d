"""No signal ends a sidecar without a drain, from its first moment to its last."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest

from sidecar.sandbox import Fault, Sandbox
from tests.promises.conftest import StartSidecar
from tests.support.fleet import REPOSITORY, App, FleetPlace, SidecarProcess
from tests.support.wait import until

USER = "mikomo_10"
LOOPS = ("uvloop", "asyncio")
STOPPING: Final = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}
CRASHES: Final = {
    *(signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL),
    *(signal.SIGABRT, signal.SIGSYS, signal.SIGTRAP),
}
NOT_CAUGHT: Final = {signal.SIGKILL, signal.SIGSTOP}
ENDING_NOTHING: Final = {
    *(signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH),
    *(signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU),
}
UNTOLD: Final = {signal.SIGPIPE, signal.SIGXFSZ}
"""They come of the process's own writes, whose errors are told."""
IGNORED: Final = (
    signal.valid_signals() - STOPPING - CRASHES - NOT_CAUGHT - ENDING_NOTHING - {signal.SIGHUP}
)


async def _claim_in_flight(
    sandbox: Sandbox, app: App, sidecar: SidecarProcess
) -> asyncio.Future[tuple[int, str]]:
    """Return a call that waits for a claim, which has reached the token service."""
    await app.onboard(sidecar, USER)
    sandbox.grants.expire_id_tokens(user=USER, provider=None)
    sandbox.faults.add(Fault(operation="refresh", kind="slow_after", delay_s=1.0))
    caller = asyncio.ensure_future(app.fetch(sidecar, USER))
    await until(lambda: len(sandbox.ledger) == 1, within_s=30, what="the claim to reach the IdP")
    return caller


@pytest.mark.parametrize("loop", LOOPS)
async def test_no_stray_signal_ends_a_claim_in_flight(
    place: FleetPlace, sandbox: Sandbox, start: StartSidecar, app: App, loop: str
) -> None:
    """Every signal whose default ends a process is told by its name, and changes nothing."""
    place.spec = {"loop": loop}
    sidecar = await start("busy")
    caller = await _claim_in_flight(sandbox, app, sidecar)

    for number in sorted(IGNORED):
        os.kill(sidecar.pid, number)

    told = IGNORED - UNTOLD
    await until(lambda: len(_ignored_by(sidecar)) == len(told), within_s=20, what="every line")
    assert await caller == (200, "")
    assert len(told) >= 40
    assert {"SIGUSR1", "SIGUSR2", "SIGALRM", "SIGRTMIN", "SIGRTMIN+2"} <= set(_ignored_by(sidecar))
    assert sidecar.is_running
    assert len(sandbox.ledger) == 1


def _ignored_by(sidecar: SidecarProcess) -> list[str]:
    return [line["signal"] for line in sidecar.log if line["event"] == "signal.ignored"]


@pytest.mark.parametrize(
    ("number", "loop"),
    [(signal.SIGTERM, "asyncio"), (signal.SIGINT, "uvloop"), (signal.SIGQUIT, "uvloop")],
)
async def test_what_stops_a_sidecar_drains_it_whatever_comes_meanwhile(
    place: FleetPlace, start: StartSidecar, app: App, number: signal.Signals, loop: str
) -> None:
    """The claim in flight is kept and its caller served, under a hail of SIGHUP to the last."""
    place.spec = {"loop": loop}
    sidecar = await start("leaving")
    caller = await _claim_in_flight(place.sandbox, app, sidecar)

    sidecar.signal(number)
    await until(lambda: "lifecycle.draining" in sidecar.events, within_s=30, what="the drain")

    def hails() -> bool:
        sidecar.signal(signal.SIGHUP)
        return not sidecar.is_running

    await until(hails, within_s=40, what="the end")

    stopped = next(line for line in sidecar.log if line["event"] == "lifecycle.stopped")
    assert await sidecar.ended() == 0
    assert await caller == (200, "")
    assert (stopped["parked"], stopped["drained"]) == (0, True)


@pytest.fixture
def starting(place: FleetPlace) -> Generator[Starting]:
    """A sidecar that was started a moment ago, by its real command."""
    process = Starting(place)
    yield process
    process.end()


class Starting:
    """`akoya-sidecar run` as it starts; its client secret is a pipe that the test fills."""

    def __init__(self, place: FleetPlace) -> None:
        self._secret = place.directory / "secret"
        os.mkfifo(self._secret)
        self._text = place.sandbox.settings.client_secret
        environ = SidecarProcess(place, name="early").environ()
        del environ["SIDECAR_AKOYA_CLIENT_SECRET"]
        environ["SIDECAR_AKOYA_CLIENT_SECRET_FILE"] = str(self._secret)
        self._log_path = place.directory / "early.log"
        with self._log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sidecar", "run"],
                cwd=REPOSITORY,
                env=environ,
                stdout=log,
                stderr=log,
            )

    @property
    def log(self) -> str:
        """What it wrote."""
        return self._log_path.read_text()

    def has_ended(self) -> bool:
        """Whether it has ended."""
        return self.process.poll() is not None

    def catches(self, number: int) -> bool:
        """Whether the process has a handler of a signal."""
        for line in self._proc("status").splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (number - 1) & 1)
        return False

    def has_loaded(self, library: str) -> bool:
        """Whether a library is in its memory."""
        return library in self._proc("maps")

    def go_on(self) -> None:
        """Fill the pipe, and put a file in its place."""
        with self._secret.open("w") as pipe:
            pipe.write(self._text)
        file = self._secret.with_suffix(".file")
        file.write_text(self._text)
        file.rename(self._secret)

    def end(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()

    def _proc(self, name: str) -> str:
        return Path(f"/proc/{self.process.pid}/{name}").read_text()


async def test_signals_of_the_first_moment_are_kept_and_told(starting: Starting) -> None:
    """Before the settings are read, and before any library is loaded, no signal ends it."""
    await until(lambda: starting.catches(signal.SIGHUP), within_s=20, what="the first moment")
    assert not starting.has_loaded("uvloop")
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGHUP):
        starting.process.send_signal(number)

    starting.go_on()
    await until(
        lambda: "lifecycle.ready" in starting.log or starting.has_ended(),
        within_s=30,
        what="it to be ready",
    )
    await until(lambda: "configuration.reloaded" in starting.log, within_s=20, what="the reload")

    assert '"signal":"SIGUSR1"' in starting.log
    assert starting.log.count("configuration.reloaded") == 1
    starting.process.send_signal(signal.SIGTERM)
    await until(starting.has_ended, within_s=30, what="the end")
    assert starting.process.returncode == 0


async def test_a_hail_of_sighup_harms_no_start_and_no_end(starting: Starting) -> None:
    """SIGHUP at any moment between the first and the last: the sidecar serves, and ends with 0."""
    await until(lambda: starting.catches(signal.SIGHUP), within_s=20, what="the first moment")
    starting.go_on()

    def hails() -> bool:
        starting.process.send_signal(signal.SIGHUP)
        return starting.has_ended()

    await until(
        lambda: hails() or "lifecycle.ready" in starting.log, within_s=40, what="it to be ready"
    )
    assert not starting.has_ended(), starting.log
    starting.process.send_signal(signal.SIGTERM)
    await until(hails, within_s=40, what="the end")

    assert starting.process.returncode == 0
    assert "lifecycle.stopped" in starting.log


async def test_an_end_that_is_asked_for_at_the_first_moment_comes_before_the_serving(
    starting: Starting,
) -> None:
    """SIGTERM while the settings are read: no listener opens, and the code is 0."""
    await until(lambda: starting.catches(signal.SIGTERM), within_s=20, what="the first moment")
    starting.process.send_signal(signal.SIGTERM)

    starting.go_on()
    await until(starting.has_ended, within_s=30, what="the end")

    assert starting.process.returncode == 0
    assert "lifecycle.listening" not in starting.log


async def test_a_crash_stays_a_crash(start: StartSidecar) -> None:
    """What asks for a core dump gets its default action."""
    sidecar = await start("crashing")

    sidecar.signal(signal.SIGABRT)

    assert await sidecar.ended() == -signal.SIGABRT

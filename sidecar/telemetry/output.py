"""What a serving process writes: its log on stdout, its last words on stderr, and never a wait.

Everything else that would write there becomes a line of the log: libraries that log or print,
warnings, and the interpreter's reports of exceptions that no one caught. The one exception is what
the interpreter writes to descriptor 2 while it dies of a fault in C: it must get out without help,
so the descriptor gets a description of its own that does not wait.

It changes the process and is for its whole life: what the interpreter writes after the end of the
log must not wait either. It must not know what the process is for.
"""

from __future__ import annotations

import io
import logging
import os
import stat
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, final

from sidecar.telemetry.line_writer import LAST_WORDS_S, LineWriter
from sidecar.telemetry.logging import (
    ForeignHandler,
    Level,
    Log,
    LogFormat,
    constant_part,
    name_error,
)

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

STDIN: Final = 0
STDOUT: Final = 1
STDERR: Final = 2
LONGEST_PARTIAL_LINE: Final = 4096


def say(text: str, *, within_s: float = LAST_WORDS_S) -> None:
    """Write text for people to stderr, but wait no longer than `within_s` for a reader.

    For whoever ends the process before, or without, a `ProcessOutput`.
    """
    writer = LineWriter(STDERR)
    writer.start()
    writer.put(text.removesuffix("\n").encode(), level="error", is_kept=True)
    writer.close(until_s=monotonic() + within_s)


@final
class ProcessOutput:
    """The output of this process, from `__enter__` to `__exit__`.

    `__exit__` spends a second at most on what was not written yet.

    Attributes:
        log: The log on stdout.
    """

    def __init__(
        self, *, least: Level, log_format: LogFormat, dropped: Callable[[str, str], None]
    ) -> None:
        """Prepare a log.

        Args:
            least: The lowest level that is written.
            log_format: Its form.
            dropped: Called for each line that is dropped, from any thread, with its level and why.
        """
        reserve_descriptors()
        self._stdout = LineWriter(STDOUT, dropped=dropped)
        self._stderr = LineWriter(STDERR)
        self._ends_at_s: float | None = None
        self.log = Log(self._stdout, least=least, log_format=log_format)

    def __enter__(self) -> Self:
        """Take over what this process writes."""
        guard_stderr()
        self._stdout.start(gap_line=self.log.gap_line)
        self._stderr.start()
        sys.stdout = StrayText(self.log, name="stdout")
        sys.stderr = StrayText(self.log, name="stderr")
        _adopt_hooks(self.log, say_last=self._say_last)
        adopt_library_loggers(self.log)
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Write what is left, as long as that takes no more than a second."""
        self._ends_at_s = monotonic() + LAST_WORDS_S
        self.log.finish()
        self._stderr.close(until_s=self._ends_at_s)
        self._stdout.close(until_s=self._ends_at_s)

    def say(self, text: str) -> None:
        """Write text for people to stderr; never waits."""
        self._stderr.put(text.removesuffix("\n").encode(), level="error", is_kept=True)

    def _say_last(self, text: str) -> None:
        if self._ends_at_s is None:
            self.say(text)
        else:
            say(text, within_s=self._ends_at_s - monotonic())


def reserve_descriptors() -> None:
    """Open each closed standard descriptor on the null device.

    Otherwise the next file or socket would get its number, and the log be written into that.
    """
    for number in (STDIN, STDOUT, STDERR):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)


def guard_stderr() -> None:
    """Give descriptor 2 a description of its own that does not wait, where that can be had.

    The flag must not be set on the one that was inherited: other processes share it. A pipe and a
    terminal can be opened again on Linux. A file does not wait, and a socket cannot be opened
    again: what the interpreter writes to that at its death may wait.
    """
    if not (stat.S_ISFIFO(os.fstat(STDERR).st_mode) or os.isatty(STDERR)):
        return
    flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    with suppress(OSError):  # of another user, without a reader, or not Linux
        own = os.open(f"/proc/self/fd/{STDERR}", flags)
        os.dup2(own, STDERR)
        os.close(own)


@final
class StrayText(io.TextIOBase):
    """Stands for stdout and stderr, and makes a line of the log of each line written to it.

    What a library prints may hold anything, so the rules for what libraries log hold for it too.
    """

    def __init__(self, log: Log, *, name: str) -> None:
        super().__init__()
        self._log = log
        self._name = name
        self._lock = threading.RLock()
        self._partial = ""

    def writable(self) -> bool:
        """Return that it is."""
        return True

    def fileno(self) -> int:
        """Return stderr's descriptor: only there raw bytes tear no line."""
        return STDERR

    def write(self, text: str) -> int:
        """Log each whole line; the rest of the text waits for its end."""
        with self._lock:
            *lines, partial = (self._partial + text).split("\n")
            self._partial = partial[:LONGEST_PARTIAL_LINE]
        for line in lines:
            # The frames of a traceback quote code, and the lines between them say nothing.
            if line and not line[0].isspace() and (message := _first_words(line)):
                fields = {"logger": self._name, "message": message}
                self._log.write_foreign(Level.WARNING, fields)
        return len(text)


def _first_words(line: str) -> str:
    """Return a printed line up to the first sign that a value may follow."""
    return constant_part(line.partition(":")[0].partition("=")[0])


def adopt_library_loggers(log: Log) -> None:
    """Let every logger of the standard library write into `log`, from warning on.

    Their access logs and chatter stay off: `request.completed` is the one line of a request.
    """
    root, handler = logging.getLogger(), ForeignHandler(log)
    root.handlers[:] = [handler]
    root.setLevel(max(log.least, Level.WARNING))
    logging.raiseExceptions = False
    logging.lastResort = handler  # for loggers that do not pass on to the root
    logging.captureWarnings(capture=True)


def _adopt_hooks(log: Log, *, say_last: Callable[[str], None]) -> None:
    def tell(level: Level, message: str, error: BaseException | None) -> None:
        fields = {"logger": "python", "message": message}
        if error is not None:
            fields["error"] = name_error(error)
        log.write_foreign(level, fields)

    def uncaught(
        _kind: type[BaseException], error: BaseException, _trace: TracebackType | None
    ) -> None:
        tell(Level.ERROR, "uncaught exception", error)
        say_last(f"the process failed: {name_error(error)}")

    def thread_failed(failed: threading.ExceptHookArgs) -> None:
        if failed.exc_type is not SystemExit:
            tell(Level.ERROR, "a thread failed", failed.exc_value)

    def unraisable(ignored: UnraisableHookArgs) -> None:
        tell(Level.WARNING, "exception ignored", ignored.exc_value)

    sys.excepthook, threading.excepthook, sys.unraisablehook = uncaught, thread_failed, unraisable

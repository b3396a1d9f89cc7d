"""The signals of the process: none that can be caught ends it without a drain.

Caught from the first moment to the last, the time before and after the event loop included. Those
that arrive before the loop takes them over are kept for it. The `SignalDuties` decide what a signal
means for the sidecar; crashes (SIGSEGV and the like) keep their default.
"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Self, final

QUIET_S: Final = 60.0
"""After a signal that is ignored was told, more of its kind are counted for so long."""

STOPS: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})
RELOADS: Final = signal.SIGHUP

_CRASHES: Final = frozenset(
    {
        signal.SIGSEGV,
        signal.SIGBUS,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGABRT,
        signal.SIGSYS,
        signal.SIGTRAP,
    }
)
_UNCATCHABLE: Final = frozenset({signal.SIGKILL, signal.SIGSTOP})
_HARMLESS: Final = frozenset(
    {
        signal.SIGCHLD,
        signal.SIGCONT,
        signal.SIGURG,
        signal.SIGWINCH,
        signal.SIGTSTP,
        signal.SIGTTIN,
        signal.SIGTTOU,
    }
)
"""Their default ends no process."""
_OWN_WRITES: Final = frozenset({signal.SIGPIPE, signal.SIGXFSZ})
"""Each write to a closed connection or past a limit makes one: errors of the write tell it."""

CAUGHT: Final = frozenset(
    signal.valid_signals() - _CRASHES - _UNCATCHABLE - _HARMLESS - _OWN_WRITES
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalDuties:
    """What is done about signals, on the loop that took them over.

    Attributes:
        ignored: Told the name of a signal that changes nothing, and how often it came.
    """

    stop: Callable[[], None]
    reload: Callable[[], None]
    ignored: Callable[[str, int], None]


@final
class ProcessSignals:
    """The signals of this process; made in its main thread."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._duties: SignalDuties | None = None
        self._is_stop_asked = False
        self._is_reload_asked = False
        self._ignored: Counter[int] = Counter()
        self._quiet: set[int] = set()

    @classmethod
    def caught(cls) -> Self:
        """Catch every signal that could end the process, from now to its end."""
        signals = cls()
        for number in _OWN_WRITES:
            signal.signal(number, signal.SIG_IGN)
        for number in CAUGHT:
            signal.signal(number, signals._arrived)
            signal.siginterrupt(number, False)  # noqa: FBT003 - the standard library's signature
        return signals

    @property
    def is_stop_asked(self) -> bool:
        """Whether a signal asked for the end, taken over or not."""
        return self._is_stop_asked

    def take_over(self, duties: SignalDuties) -> None:
        """Have the running loop act on signals, those that came before first."""
        self._duties = duties
        self._loop = asyncio.get_running_loop()
        self._act()

    def let_go(self) -> None:
        """Act on no signal any more; the loop is about to end."""
        self._loop = None

    @staticmethod
    def ignore() -> None:
        """Ignore them in the last steps of the process, which restores no default then."""
        for number in CAUGHT:
            signal.signal(number, signal.SIG_IGN)

    def _arrived(self, number: int, _frame: object) -> None:
        """Note a signal between two steps of the main thread: no lock, no log, no I/O here."""
        if number in STOPS:
            self._is_stop_asked = True
        elif number == RELOADS:
            self._is_reload_asked = True
        else:
            self._ignored[number] += 1
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # it has just been closed
                loop.call_soon_threadsafe(self._act)

    def _act(self) -> None:
        duties = self._duties
        if duties is None or self._loop is None:
            return
        if self._is_stop_asked:
            duties.stop()
        if self._is_reload_asked:
            self._is_reload_asked = False
            duties.reload()
        for number in set(self._ignored) - self._quiet:
            self._quiet.add(number)
            self._loop.call_later(QUIET_S, self._speak_again, number)
            duties.ignored(_name_of(number), self._ignored.pop(number))

    def _speak_again(self, number: int) -> None:
        self._quiet.discard(number)
        self._act()


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal between the first and the last
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"

"""Time and chance of the machine; the only importer of ``time``, ``random`` and ``secrets``.

It must not know what an instant or a number is for.
"""

from __future__ import annotations

import random
import secrets
import time
from typing import Final, final

_ID_BYTES: Final = 16
_IDS_AT_ONCE: Final = 256


@final
class SystemClock:
    """The machine's clocks; implements `sidecar.ports.Clock`."""

    def __init__(self) -> None:
        # CLOCK_MONOTONIC stands still while the machine sleeps: a send window measured by it would
        # be open again after hours. Only Linux has the other one.
        self._clock_id = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

    def now_s(self) -> float:
        """Wall clock in seconds since the epoch; may step."""
        return time.time()  # noqa: TID251 - this is the clock that everybody else is given

    def elapsed_s(self) -> float:
        """Seconds since some fixed instant; never steps, goes on through a suspend on Linux."""
        return time.clock_gettime(self._clock_id)


@final
class SystemEntropy:
    """The machine's source of chance; implements `sidecar.ports.Entropy`."""

    def __init__(self) -> None:
        self._random = random.SystemRandom()
        self._ids: list[str] = []

    def new_id(self) -> str:
        """Return 128 unpredictable bits as 32 hex digits; may be called from any thread.

        The kernel is asked for many at a time, since every request takes one.
        """
        while True:
            try:
                return self._ids.pop()
            except IndexError:
                drawn = secrets.token_bytes(_ID_BYTES * _IDS_AT_ONCE).hex()
                self._ids += [
                    drawn[at : at + 2 * _ID_BYTES] for at in range(0, len(drawn), 2 * _ID_BYTES)
                ]

    def fraction(self) -> float:
        """Return a number in [0, 1)."""
        return self._random.random()


def pause(seconds: float) -> None:
    """Stop this thread for a while; for command lines, never where a loop runs."""
    time.sleep(seconds)

"""A Redis that keeps what it confirmed, or comes back as it was a while ago.

It appends each write to a file before it answers, so a SIGKILL loses nothing. To forget, the file
is cut to the length that it had at an earlier instant: what a failover to a replica that lagged
behind, or a restart from a copy, does to a data set.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final, final

from tests.chaos.evidence import StoreRestart
from tests.chaos.witness import now_s
from tests.support.redis_server import RedisServer

LONGEST_MEMORY_S: Final = 10.0
CONFIGURATION: Final = """\
save ""
appendonly yes
appendfsync everysec
auto-aof-rewrite-percentage 0
aof-load-truncated yes
aof-use-rdb-preamble no
"""


@final
class ForgetfulRedis:
    """A server process in `directory`.

    Attributes:
        restarts: Each time that it was killed and came back.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        config = directory / "redis.conf"
        config.write_text(CONFIGURATION)
        self.server = RedisServer(directory, config=config)
        self.restarts: list[StoreRestart] = []
        self._directory = directory
        self._lengths: deque[tuple[float, int]] = deque()
        self._down_s = 0.0
        self._forgot = False

    def note_length(self) -> None:
        """Remember how much is on the disk now; call it a few times a second."""
        at_s = now_s()
        self._lengths.append((at_s, self._log.stat().st_size))
        while self._lengths and self._lengths[0][0] < at_s - LONGEST_MEMORY_S:
            self._lengths.popleft()

    def kill(self, *, forgets_s: float) -> None:
        """Kill it, and have it forget its last writes, or none (0)."""
        self._down_s, self._forgot = now_s(), forgets_s > 0
        self.server.kill()
        if self._forgot:
            known = [length for at_s, length in self._lengths if at_s <= self._down_s - forgets_s]
            self._forgot = bool(known)
            if known:
                os.truncate(self._log, known[-1])
        self._lengths.clear()

    def start_again(self) -> None:
        """Let it come back; returns when it answers."""
        self.server.start()
        self.restarts.append(StoreRestart(down_s=self._down_s, up_s=now_s(), forgets=self._forgot))

    @property
    def _log(self) -> Path:
        return max(self._logs(), key=lambda path: path.name)

    def _logs(self) -> Iterator[Path]:
        yield from (self._directory / "appendonlydir").glob("*.incr.aof")

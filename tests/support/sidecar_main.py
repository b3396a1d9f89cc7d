"""The sidecar's `run` with what only tests may choose: short times, a death, a wrong clock.

All are composed here, in test code; production reads none of them from anywhere.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from sidecar import app
from sidecar.adapters.file_spool import FileSpool
from sidecar.adapters.signals import ProcessSignals
from sidecar.adapters.system import SystemClock
from sidecar.domain.policy import ProtocolTimes
from sidecar.domain.spooled import PairReceived, SpoolEntry
from sidecar.settings import Settings, load
from tests.support.failpoints import Failpoints


def main(spec: dict[str, Any]) -> int:
    """Run a sidecar on the process environment.

    ``spec``: ``times``, ``dies_after``, ``clock_ahead_s`` and ``stops_at``.
    """
    if spec.get("dies_after") == "spooled":
        _die_once_a_pair_is_on_disk()
    if spec.get("clock_ahead_s"):
        _set_wall_clock(spec["clock_ahead_s"])
    if "stops_at" in spec:
        Failpoints(spec["stops_at"]).install()
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


if __name__ == "__main__":
    raise SystemExit(main(json.loads(sys.argv[1])))

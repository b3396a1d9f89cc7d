"""The sidecar's `run` with what only tests may choose: short protocol times and a point to die at.

Both are composed here, in test code; production reads neither from anywhere.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from sidecar import app
from sidecar.adapters.file_spool import FileSpool
from sidecar.domain.policy import ProtocolTimes
from sidecar.domain.spooled import PairReceived, SpoolEntry
from sidecar.settings import Settings, load


def main(spec: dict[str, Any]) -> int:
    """Run a sidecar on the process environment; ``spec``: ``times`` and ``dies_after``."""
    if spec.get("dies_after") == "spooled":
        _die_once_a_pair_is_on_disk()
    settings = load(os.environ)  # noqa: TID251 - this is the command line of the test process
    if not isinstance(settings, Settings):
        for problem in settings:
            sys.stderr.write(f"{problem}\n")
        return 78
    return app.main(settings, ProtocolTimes(**spec.get("times", {})))


def _die_once_a_pair_is_on_disk() -> None:
    write = FileSpool.write

    def write_and_die(self: FileSpool, entry: SpoolEntry, *, durable: bool) -> None:
        write(self, entry, durable=durable)
        if isinstance(entry, PairReceived) and entry.claim_id is not None:
            os.kill(os.getpid(), signal.SIGKILL)

    FileSpool.write = write_and_die  # type: ignore[method-assign]


if __name__ == "__main__":
    raise SystemExit(main(json.loads(sys.argv[1])))

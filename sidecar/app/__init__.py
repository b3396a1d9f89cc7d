"""The composition root: settings in, a running sidecar out; nothing else knows every class."""

from __future__ import annotations

import asyncio
import sys
from typing import Final

from sidecar.app.event_loop import new_event_loop
from sidecar.app.sidecar import WRONG_CONFIGURATION, Sidecar
from sidecar.domain.policy import ProtocolTimes
from sidecar.ports import SpoolError
from sidecar.settings import Settings
from sidecar.telemetry.tracing import TracesRefused

SPOOL_UNUSABLE: Final = 74


def main(settings: Settings, times: ProtocolTimes | None = None) -> int:
    """Serve until SIGTERM or SIGINT, then drain; return the exit code.

    Args:
        settings: What the operator decided.
        times: The protocol's constants; tests of real processes shorten them here.
    """
    try:
        sidecar = Sidecar(settings=settings, times=times or ProtocolTimes())
    except SpoolError as error:
        sys.stderr.write(
            f"SIDECAR_SPOOL_DIR: the spool cannot be used ({error.errno_name}); it must be a "
            "directory that this user can write and that outlives the process\n"
        )
        return SPOOL_UNUSABLE
    except TracesRefused as refused:
        sys.stderr.write(f"SIDECAR_TRACES: {refused}\n")
        return WRONG_CONFIGURATION
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(sidecar.serve())

"""The composition root: settings in, a running sidecar out; nothing else knows every class."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from typing import Final

from sidecar.adapters.signals import ProcessSignals
from sidecar.app.event_loop import new_event_loop
from sidecar.app.files import TlsFiles, read_tls_files
from sidecar.app.sidecar import STOPPED, WRONG_CONFIGURATION, Sidecar, Surroundings
from sidecar.domain.policy import ProtocolTimes
from sidecar.ports import SpoolError
from sidecar.settings import Settings
from sidecar.telemetry.tracing import TracesRefused

SPOOL_UNUSABLE: Final = 74


def main(
    settings: Settings,
    times: ProtocolTimes | None = None,
    *,
    environ: Mapping[str, str],
    signals: ProcessSignals,
) -> int:
    """Serve until SIGTERM, SIGINT or SIGQUIT, then drain; return the exit code.

    Args:
        settings: What the operator decided.
        times: The protocol's constants; tests of real processes shorten them here.
        environ: What `settings` were read from; SIGHUP reads it again.
        signals: Those of this process, caught already.
    """
    files = read_tls_files(settings)
    if not isinstance(files, TlsFiles):
        sys.stderr.writelines(f"{problem}\n" for problem in files)
        return WRONG_CONFIGURATION
    surroundings = Surroundings(environ=environ, files=files, signals=signals)
    try:
        sidecar = Sidecar(
            settings=settings, times=times or ProtocolTimes(), surroundings=surroundings
        )
    except SpoolError as error:
        sys.stderr.write(
            f"SIDECAR_SPOOL_DIR: the spool cannot be used ({error.errno_name}); it must be a "
            "directory that this user can write and that outlives the process\n"
        )
        return SPOOL_UNUSABLE
    except TracesRefused as refused:
        sys.stderr.write(f"SIDECAR_TRACES: {refused}\n")
        return WRONG_CONFIGURATION
    if signals.is_stop_asked:
        return STOPPED
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            return runner.run(sidecar.serve())
    finally:
        signals.ignore()

"""The composition root: settings in, a running sidecar out; nothing else knows every class."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from sidecar import __version__
from sidecar.adapters.signals import ProcessSignals
from sidecar.app.base import Telemetry
from sidecar.app.event_loop import new_event_loop
from sidecar.app.files import TlsFiles, read_tls_files
from sidecar.app.sidecar import STOPPED, WRONG_CONFIGURATION, Sidecar, Surroundings
from sidecar.domain.policy import ProtocolTimes
from sidecar.ports import SpoolError
from sidecar.settings import Settings
from sidecar.telemetry.logging import Level, name_error
from sidecar.telemetry.metrics import Metrics
from sidecar.telemetry.output import ProcessOutput
from sidecar.telemetry.tracing import TracesRefused

FAULT: Final = 1
SPOOL_UNUSABLE: Final = 74


def main(
    settings: Settings,
    times: ProtocolTimes | None = None,
    *,
    environ: Mapping[str, str],
    signals: ProcessSignals,
) -> int:
    """Serve until SIGTERM, SIGINT or SIGQUIT, then drain; return the exit code.

    A fault of the sidecar itself ends in the exit code 1, and in one line on stderr.

    Args:
        settings: What the operator decided.
        times: The protocol's constants; tests of real processes shorten them here.
        environ: What `settings` were read from; SIGHUP reads it again.
        signals: Those of this process, caught already.
    """
    metrics = Metrics(version=__version__)
    output = ProcessOutput(
        least=Level[settings.log_level.upper()],
        log_format=settings.log_format,
        dropped=metrics.log_lines_dropped.add,
    )
    with output:
        files = read_tls_files(settings)
        if not isinstance(files, TlsFiles):
            output.say("\n".join(map(str, files)))
            return WRONG_CONFIGURATION
        surroundings = Surroundings(
            environ=environ,
            files=files,
            signals=signals,
            telemetry=Telemetry(metrics, output.log),
        )
        return _served(settings, times or ProtocolTimes(), surroundings, output)


def _served(
    settings: Settings, times: ProtocolTimes, surroundings: Surroundings, output: ProcessOutput
) -> int:
    """Serve; say in one line why it could not, or what failed, and return the exit code."""
    try:
        return _serve(settings, times, surroundings)
    except SpoolError as error:
        output.say(
            f"SIDECAR_SPOOL_DIR: the spool cannot be used ({error.errno_name}); it must be a "
            "directory that this user can write and that outlives the process"
        )
        return SPOOL_UNUSABLE
    except TracesRefused as refused:
        output.say(f"SIDECAR_TRACES: {refused}")
        return WRONG_CONFIGURATION
    except Exception as error:  # noqa: BLE001 - a traceback may carry values; the place is enough
        output.say(f"the sidecar failed: {name_error(error)}")
        return FAULT


def _serve(settings: Settings, times: ProtocolTimes, surroundings: Surroundings) -> int:
    signals = surroundings.signals
    sidecar = Sidecar(settings=settings, times=times, surroundings=surroundings)
    if signals.is_stop_asked:
        return STOPPED
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            return runner.run(sidecar.serve())
    finally:
        signals.ignore()

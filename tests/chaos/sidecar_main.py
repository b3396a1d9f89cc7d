"""The sidecar's `run` with what only a chaos run may choose: times, a witness, and a mutant.

All of it is composed here, in test code; production reads none of it from anywhere.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from sidecar import app
from sidecar.adapters.signals import ProcessSignals
from sidecar.domain.policy import ProtocolTimes
from sidecar.settings import Settings, load
from tests.chaos.mutants.grafts import MUTATIONS
from tests.chaos.witness import Witness, attach


def main(spec: dict[str, Any]) -> int:
    """Run a sidecar; ``spec``: ``times``, ``witness`` (a directory) and ``mutant`` (or none)."""
    environ = dict(os.environ)  # noqa: TID251 - this is the command line of the test process
    signals = ProcessSignals.caught()
    settings = load(environ)
    if not isinstance(settings, Settings):
        for problem in settings:
            sys.stderr.write(f"{problem}\n")
        return 78
    attach(Witness(Path(spec["witness"])))
    if spec["mutant"] is not None:
        MUTATIONS[spec["mutant"]](setattr)
    return app.main(settings, ProtocolTimes(**spec["times"]), environ=environ, signals=signals)

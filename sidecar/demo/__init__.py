"""The main job on real parts: a store, the sandbox and two sidecars, walked through on a screen.

It starts processes and talks to them as an app would; it shares no code with what it shows.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sidecar.demo.failure import WalkFailed
from sidecar.demo.processes import Stage
from sidecar.demo.screen import Screen
from sidecar.demo.walk import Walk

FAILED = 1


def main(argv: Sequence[str]) -> int:
    """Walk through the main job, then stay up; return 0 if everything that was shown held."""
    parser = argparse.ArgumentParser(
        prog="akoya-sidecar demo", description="Show the sidecar at work on real parts."
    )
    parser.add_argument("--exit", action="store_true", help="end after the walk")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="akoya-sidecar-demo-") as directory:
        return asyncio.run(_demo(Path(directory), stays=not options.exit))


async def _demo(directory: Path, *, stays: bool) -> int:
    screen = Screen(sys.stdout)
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with Stage(directory) as stage:
        try:
            async with Walk(stage=stage, screen=screen) as walk:
                if not await _walked(walk, stopping):
                    return FAILED
                if stays:
                    walk.say_what_to_try()
                    await stopping.wait()
        except WalkFailed as failure:
            screen.fail(str(failure))
            screen.quote(stage.last_words())
            return FAILED
    return 0


async def _walked(walk: Walk, stopping: asyncio.Event) -> bool:
    """Walk to the end; ``False`` if somebody asked to stop on the way."""
    walking = asyncio.ensure_future(walk.run())
    stopped = asyncio.ensure_future(stopping.wait())
    await asyncio.wait([walking, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not walking.done():
        walking.cancel()
        return False
    await walking
    return True

"""An encryption key is replaced and the client secret is changed while a fleet is at work.

Each as the documentation has it: a key in three rounds of restarts, one sidecar after the other;
the secret at Akoya and in its file, without a restart. It must not know what is judged.
"""

from __future__ import annotations

import asyncio
import base64
import signal
from typing import Final

from tests.operations.watched_fleet import WatchedFleet
from tests.support.fleet import ENCRYPTION_KEYS, SidecarProcess
from tests.support.wait import until

OLD: Final = ENCRYPTION_KEYS
NEW: Final = "k2:" + base64.b64encode(b"n" * 32).decode()
NEW_SECRET: Final = "another-secret-of-this-app"
STEPS: Final = 7
QUIET_SWEEPS: Final = 3
WITHIN_S: Final = 200.0


async def rotate(fleet: WatchedFleet, *, until_s: float) -> None:
    """Take every step of both rotations, spread evenly until an instant of the loop."""
    pace_s = max(0.0, until_s - asyncio.get_running_loop().time()) / STEPS
    await _restart_each(fleet, f"{OLD},{NEW}", pace_s=pace_s)
    await _restart_each(fleet, f"{NEW},{OLD}", pace_s=pace_s)
    await _pause(pace_s)
    fleet.secret.write_text(NEW_SECRET)
    fleet.world.sandbox.rotate_secret(NEW_SECRET)
    await until(
        lambda: _is_sealed_anew(fleet),
        within_s=WITHIN_S,
        what="sweeps that find nothing under the old key",
    )
    await _restart_each(fleet, NEW, pace_s=pace_s)
    await pause_until(until_s)


async def pause_until(until_s: float) -> None:
    """Return at an instant of the loop."""
    await _pause(max(0.0, until_s - asyncio.get_running_loop().time()))


async def _pause(pause_s: float) -> None:
    await asyncio.sleep(pause_s)


async def _restart_each(fleet: WatchedFleet, keys: str, *, pace_s: float) -> None:
    """Give each sidecar other keys, one after the other, as a roll-out does."""
    fleet.world.place.environ = {
        **fleet.world.place.environ,
        "SIDECAR_ENCRYPTION_KEYS": keys,
    }
    for sidecar in list(fleet.sidecars):
        await _pause(pace_s)
        await _restart(fleet, sidecar)


async def _restart(fleet: WatchedFleet, sidecar: SidecarProcess) -> None:
    """End a sidecar that gets no more calls, and give it calls again once it is ready."""
    fleet.sidecars.remove(sidecar)
    sidecar.signal(signal.SIGTERM)
    assert await sidecar.ended(within_s=WITHIN_S) == 0
    await sidecar.start()
    fleet.watch()
    fleet.sidecars.append(sidecar)


def _is_sealed_anew(fleet: WatchedFleet) -> bool:
    """Whether the old key can go: the last sweeps, and looks at the spools, found nothing of it."""
    lines = [line for sidecar in fleet.sidecars for line in sidecar.log]
    sweeps = [line for line in lines if line["event"] == "store.swept"]
    sweeps.sort(key=lambda line: str(line["timestamp"]))
    last = sweeps[-QUIET_SWEEPS:]
    resealed = [line for line in lines if line["event"] == "spool.resealed"]
    return (
        len(last) == QUIET_SWEEPS
        and not any(line["resealed"] for line in last)
        and all(line["timestamp"] < last[0]["timestamp"] for line in resealed)
    )

"""`make soak`: an hour of normal load on two sidecars under the rules of the project, as they are.

Nothing is made to fail; with `--rotation` an encryption key is replaced and the client secret is
changed meanwhile. Exits 1 where a goal was missed: an alert fired, a call was not served, a grant
was lost, memory or open files grew.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from tests.operations.rotation import pause_until, rotate
from tests.operations.traffic import Grant
from tests.operations.watched_fleet import Plan, WatchedFleet, watched_fleet
from tests.proofs.goals import Goal, at_least, at_most, exactly
from tests.proofs.terminations import is_lost
from tests.support.deployment import presented_again, refreshes
from tests.support.wait import eventually

USUAL_MINUTES: Final = 60.0
ROTATION_MINUTES: Final = 10.0
SHORT_LIFE_S: Final = 120
"""So each grant is refreshed about once a minute, when it is due and without anybody asking."""

REAL_TIME: Final = Plan(
    factor=1, interval_ms=2_500, id_token_life_s=SHORT_LIFE_S, is_refreshing=False
)
SWEEP_EVERY_S: Final = 20.0
"""Instead of ten minutes, so that an old key can go before a rotation of ten minutes is over."""

ROTATING: Final = replace(REAL_TIME, times={"sweep_every_s": SWEEP_EVERY_S, "sweep_poll_s": 1.0})
WITHIN_S: Final = 15.0
WARM_SHARE: Final = 0.2
"""Of the time: what memory is compared with is its level after that."""

MOST_GROWTH: Final = 10.0
"""In per cent."""

MIB: Final = 1 << 20
RESIDENT: Final = "process_resident_memory_bytes"
OPEN_FILES: Final = "process_open_fds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A level of the fleet at the beginning and at the end."""

    first: float
    last: float

    @property
    def growth(self) -> float:
        """How much larger the end is, as a share of the beginning."""
        return self.last / self.first - 1


def main(arguments: list[str]) -> int:
    """Run the soak that was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.operations.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, help="how long; an hour, ten with --rotation")
    parser.add_argument("--rotation", action="store_true", help="replace a key and the secret")
    options = parser.parse_args(arguments)
    usual = ROTATION_MINUTES if options.rotation else USUAL_MINUTES
    minutes = options.minutes or usual
    with tempfile.TemporaryDirectory(prefix="sidecar-soak-") as directory:
        goals = asyncio.run(soak(Path(directory), minutes=minutes, rotates=options.rotation))
    print(f"\n{minutes:g} minutes, two sidecars\n\n| measured | |\n| --- | --- |")  # noqa: T201
    for goal in goals:
        print(f"| {goal.told} | {'met' if goal.is_met else '**missed**'} |")  # noqa: T201
    return 0 if all(goal.is_met for goal in goals) else 1


async def soak(directory: Path, *, minutes: float, rotates: bool) -> list[Goal]:
    """Have a fleet at work for so long; return what was judged."""
    until_s = asyncio.get_running_loop().time() + minutes * 60
    async with watched_fleet(directory, ROTATING if rotates else REAL_TIME) as fleet:
        await (rotate(fleet, until_s=until_s) if rotates else pause_until(until_s))
        flat = [] if rotates else await _flatness(fleet, minutes=minutes)
        fired = await fleet.prometheus.has_fired()
        return [
            Goal(told=f"alerts that fired: {', '.join(sorted(fired)) or 'none'}", is_met=not fired),
            *await _service(fleet, minutes=minutes),
            *flat,
        ]


async def _service(fleet: WatchedFleet, *, minutes: float) -> list[Goal]:
    load, sandbox = fleet.load, fleet.world.sandbox
    reasons = "".join(f", {count} {what}" for what, count in load.not_served.items())
    lost = [grant for grant in fleet.grants if not await _is_alive(fleet, grant)]
    return [
        exactly(f"calls served {load.served:,}{reasons}; not served", load.not_served.total(), 0),
        at_least("refreshes", refreshes(sandbox), (minutes - 1) * len(fleet.grants) / 2),
        exactly("tokens presented twice", presented_again(sandbox), 0),
        exactly(f"grants {len(fleet.grants)}; lost", len(lost), 0),
    ]


async def _is_alive(fleet: WatchedFleet, grant: Grant) -> bool:
    """Whether a grant is active with Akoya's newest pair, once no refresh of it is under way."""
    try:
        await eventually(
            partial(is_lost, fleet.world, fleet.sidecars[0], *grant),
            lambda is_gone: not is_gone,
            within_s=WITHIN_S,
            what="the newest pair to be stored",
        )
    except AssertionError:
        return False
    return True


async def _flatness(fleet: WatchedFleet, *, minutes: float) -> list[Goal]:
    memory = await _level(fleet, RESIDENT, minutes=minutes)
    files = await _level(fleet, OPEN_FILES, minutes=minutes)
    return [
        at_most(
            f"memory ({memory.first / MIB:,.0f} to {memory.last / MIB:,.0f} MiB) grew by",
            memory.growth * 100,
            MOST_GROWTH,
            unit=" %",
        ),
        at_most(
            f"open files ({files.first:,.0f} to {files.last:,.0f}) grew by",
            files.growth * 100,
            MOST_GROWTH,
            unit=" %",
        ),
    ]


async def _level(fleet: WatchedFleet, metric: str, *, minutes: float) -> Level:
    """Return the mean over the fleet in an early and in the last part of the time."""
    span_s = max(15, int(minutes * 60 * WARM_SHARE))
    mean = f"avg(avg_over_time({metric}{{job='akoya-sidecar'}}[{span_s}s]"
    early_s = max(0, int(minutes * 60) - 2 * span_s)
    return Level(
        first=await fleet.prometheus.value(f"{mean} offset {early_s}s))"),
        last=await fleet.prometheus.value(f"{mean}))"),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

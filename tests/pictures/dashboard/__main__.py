"""Takes the picture of the dashboard: a fleet at work, one of whose banks fails for a while.

`python -m tests.pictures.dashboard` lets two sidecars work under a real Prometheus and writes
`docs/images/dashboard.png`. Grafana's own panel library, which npm fetches, draws the dashboard
file (`panels.jsx`): no Grafana has to be at hand.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from aiohttp import web
from aiohttp.test_utils import TestServer

from sidecar.adapters.system import SystemClock
from sidecar.reference.dashboard import dashboard
from tests.operations import troubles
from tests.operations.soak import REAL_TIME
from tests.operations.watched_fleet import WatchedFleet, watched_fleet
from tests.support.phone import Login, Screen, phone
from tests.support.wait import eventually

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[2]
PICTURE: Final = ROOT / "docs" / "images" / "dashboard.png"
WORKSHOP: Final = ROOT / "build" / "dashboard-picture"
"""Where npm puts what draws."""

MINUTES: Final = 15.0
ROWS: Final = 2
STEP_S: Final = 2 * REAL_TIME.interval_ms // 1000
"""Between two scrapes, and between two points of a line."""

CALM: Final = 0.5
"""Share of the time before the bank fails; it fails for half of what is left."""

DRAWN_WITHIN_S: Final = 60.0
DESKTOP: Final = Screen(width=1632, height=900, scale=1, is_mobile=False, runs_scripts=True)


def build() -> Path:
    """Return a directory with the page that draws."""
    WORKSHOP.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json", ".npmrc", "panels.jsx"):
        shutil.copy(HERE / name, WORKSHOP)
    for command in (["npm", "ci"], ["npm", "run", "--silent", "build"]):
        subprocess.run(command, cwd=WORKSHOP, check=True)
    page = WORKSHOP / "page"
    shutil.copy(HERE / "index.html", page)
    (page / "dashboard.json").write_text(dashboard())
    return page


async def live(fleet: WatchedFleet, *, seconds: float) -> None:
    """Let the time pass, and in the middle of it a bank fail."""
    await asyncio.sleep(seconds * CALM)
    await troubles.data_calls_fail(fleet)
    await troubles.a_bank_is_sick(fleet)
    await asyncio.sleep(seconds * (1 - CALM) / 2)
    fleet.world.sandbox.faults.delete()
    await asyncio.sleep(seconds * (1 - CALM) / 2)


async def photograph(url: str, profile: Path) -> bytes:
    """Return what a desktop shows of a page once it says that everything is drawn."""
    async with phone(profile, login=Login(name="", password=""), screen=DESKTOP) as page:
        await page.open(url)
        await eventually(
            lambda: page.value("document.title"),
            lambda title: title != "drawing",
            within_s=DRAWN_WITHIN_S,
            what="the dashboard to be drawn",
        )
        assert (title := await page.value("document.title")) == "drawn", title
        return await page.picture()


async def take(directory: Path, page: Path, *, minutes: float) -> bytes:
    """Return the picture of so many minutes."""
    (directory / "fleet").mkdir()
    (directory / "profile").mkdir()
    seconds = minutes * 60
    app = web.Application()
    app.router.add_static("/", page)
    async with watched_fleet(directory / "fleet", REAL_TIME) as fleet, TestServer(app) as server:
        await live(fleet, seconds=seconds)
        end_s = int(SystemClock().now_s())
        url = server.make_url("/index.html").with_query(
            prometheus=fleet.prometheus.url,
            start=end_s - int(seconds),
            end=end_s,
            step=STEP_S,
            rows=ROWS,
        )
        return await photograph(str(url), directory / "profile")


def main(arguments: list[str]) -> int:
    """Write the picture."""
    parser = argparse.ArgumentParser(prog="make picture-dashboard", description=__doc__)
    parser.add_argument("--minutes", type=float, default=MINUTES, help="of which it shows")
    minutes = parser.parse_args(arguments).minutes
    page = build()
    with tempfile.TemporaryDirectory(prefix="sidecar-picture-") as directory:
        picture = asyncio.run(take(Path(directory), page, minutes=minutes))
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_bytes(picture)
    sys.stdout.write(f"{PICTURE.name}: {len(picture)} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

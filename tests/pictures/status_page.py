"""Takes the picture of the status page that the documents show, of a real sidecar with trouble.

`python -m tests.pictures.status_page` writes `docs/images/status-page.png`.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.support.fleet import CONTROL_KEY
from tests.support.phone import Login, phone
from tests.support.troubled import troubled_sidecar

PICTURE: Final = Path(__file__).parents[2] / "docs" / "images" / "status-page.png"


async def take(directory: Path) -> bytes:
    """Return the picture."""
    for name in ("profile", "deployment"):
        (directory / name).mkdir()
    login = Login(name="operator", password=CONTROL_KEY)
    async with (
        troubled_sidecar(directory / "deployment") as sidecar,
        phone(directory / "profile", login=login) as page,
    ):
        await page.open(f"{sidecar.control_url}/")
        return await page.picture()


def main() -> int:
    """Write the picture."""
    with tempfile.TemporaryDirectory(prefix="sidecar-picture-") as directory:
        picture = asyncio.run(take(Path(directory)))
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_bytes(picture)
    sys.stdout.write(f"{PICTURE.name}: {len(picture)} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

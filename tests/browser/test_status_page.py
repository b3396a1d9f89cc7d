"""The status page in a real browser of the size of a phone, with script turned off."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.fleet import CONTROL_KEY
from tests.support.phone import WIDTH, Login, phone
from tests.support.troubled import USERS, troubled_sidecar

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

LEAST_LETTER_PX = 14
LETTERS = "[...document.querySelectorAll('body *')].filter(e => e.innerText)"


async def test_the_page_is_readable_on_a_phone_without_script(tmp_path: Path) -> None:
    """A person is asked for a key once, and reads everything without zooming or side-scrolling."""
    (tmp_path / "profile").mkdir()
    (tmp_path / "deployment").mkdir()
    login = Login(name="anybody", password=CONTROL_KEY)
    async with (
        troubled_sidecar(tmp_path / "deployment") as sidecar,
        phone(tmp_path / "profile", login=login) as page,
    ):
        await page.open(f"{sidecar.control_url}/")
        text = str(await page.value("document.body.innerText"))
        smallest = await page.value(
            f"Math.min(...{LETTERS}.map(e => parseFloat(getComputedStyle(e).fontSize)))"
        )
        width = await page.content_width()
        colours: list[object] = []
        for theme in ("light", "dark"):
            await page.wear(theme)
            colours.append(await page.value("getComputedStyle(document.body).backgroundColor"))
        loads, statuses = page.heard.loads, list(page.heard.statuses)
        await page.reloaded(after=loads)

    assert f"active\n{USERS - 1}" in text or f"active\n{USERS - 2}" in text
    assert "refresh: refresh_token_claimed, mikomo" in text
    assert "Without one the end user must consent again." in text
    assert "refresh: server_error, bank-2" in text
    assert smallest >= LEAST_LETTER_PX
    assert width <= WIDTH
    assert colours == ["rgb(255, 255, 255)", "rgb(13, 17, 23)"]
    assert statuses[-1] == 200
    assert page.heard.complaints == []
    assert set(page.heard.requests) == {f"{sidecar.control_url}/"}

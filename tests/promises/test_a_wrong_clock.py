"""A sidecar whose clock is five minutes off serves the same tokens, and refreshes them in time."""

from __future__ import annotations

import signal

import pytest

from sidecar.sandbox import Sandbox
from tests.promises.conftest import StartSidecar
from tests.support.deployment import refreshes
from tests.support.fleet import App
from tests.support.wait import eventually

SKEW_S = 300.0
LONG_LIFE_S = 240
"""Shorter than the skew: to a clock that is ahead a fresh token would be long over."""

SHORT_LIFE_S = 12


@pytest.mark.parametrize("ahead_s", [-SKEW_S, SKEW_S])
async def test_a_clock_five_minutes_off_changes_neither_expiry_nor_what_is_served(
    sandbox: Sandbox, start: StartSidecar, app: App, ahead_s: float
) -> None:
    """What either obtains both serve, unrefreshed while it lives and refreshed when it ends."""
    right, wrong = await start("right"), await start("wrong", clock_ahead_s=ahead_s)
    sandbox.tune(id_token_life_s=LONG_LIFE_S)
    for user, sidecar in (("user-of-right", right), ("user-of-wrong", wrong)):
        await app.onboard(sidecar, user)

    served = [
        await app.fetch(sidecar, user)
        for sidecar in (right, wrong)
        for user in ("user-of-right", "user-of-wrong")
    ]
    shown = [
        (await app.show(sidecar, user))["id_token_expires_at"]
        for user in ("user-of-right", "user-of-wrong")
        for sidecar in (right, wrong)
    ]

    assert set(served) == {(200, "")}
    assert refreshes(sandbox) == 0, "nothing was taken for expired"
    assert (shown[0], shown[2]) == (shown[1], shown[3])

    sandbox.tune(id_token_life_s=SHORT_LIFE_S)
    await app.onboard(right, "short-lived")
    answers: set[tuple[int, str]] = set()

    async def fetch() -> int:
        answers.add(await app.fetch(wrong, "short-lived"))
        return refreshes(sandbox)

    await eventually(fetch, lambda count: count > 0, within_s=60, what="a refresh in time")
    assert answers == {(200, "")}
    wrong.signal(signal.SIGTERM)
    assert await wrong.ended() == 0
    assert "healed" not in {line.get("outcome") for line in wrong.log}, "Akoya rejected none"
    assert sandbox.ledger.summary()["presented_twice"] == []

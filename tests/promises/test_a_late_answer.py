"""A bearer whose answer is read late is served to its end, and not as if it were new."""

from __future__ import annotations

import asyncio
import signal
from time import monotonic

from sidecar.sandbox import Fault, Sandbox
from tests.promises.conftest import StartSidecar
from tests.support.deployment import refreshes
from tests.support.fleet import App
from tests.support.wait import eventually, until

USER = "mikomo_10"
SERVED = (200, "")
SHORT_LIFE_S = 2
LIFE_S = 4
PAUSE_S = 5.5
CALLS = 10


async def _passed(span_s: float) -> None:
    since_s = monotonic()
    await until(lambda: monotonic() - since_s > span_s, within_s=60, what="a life to end")


async def test_a_process_stopped_for_longer_than_a_bearer_lives_serves_another_one(
    sandbox: Sandbox, start: StartSidecar, app: App
) -> None:
    """The pair is kept, its bearer has ended in the socket: Akoya is never shown it."""
    sleeper, other = await start("sleeper"), await start("other")
    sandbox.tune(id_token_life_s=SHORT_LIFE_S)
    await app.onboard(sleeper, USER)
    await _passed(SHORT_LIFE_S)
    sandbox.tune(id_token_life_s=LIFE_S)
    sandbox.faults.add(Fault(operation="refresh", kind="slow_after", delay_s=0.5))
    calling = asyncio.ensure_future(app.fetch(sleeper, USER))
    await until(lambda: refreshes(sandbox) == 1, within_s=30, what="the claim to reach Akoya")

    sleeper.signal(signal.SIGSTOP)
    await _passed(PAUSE_S)
    sandbox.tune(id_token_life_s=900)
    sleeper.signal(signal.SIGCONT)
    await eventually(
        lambda: app.show(other, USER),
        lambda grant: grant["generation"] == 1 or grant["generation"] == 2,
        within_s=30,
        what="the late pair to be stored",
    )
    await calling
    answers = [
        await app.served(sidecar, USER) for _ in range(CALLS) for sidecar in (other, sleeper)
    ]

    assert answers == [SERVED] * (2 * CALLS)
    assert refreshes(sandbox) == 2, "the late bearer was replaced, once"
    assert sandbox.ledger.summary()["presented_twice"] == []
    outcomes = {line.get("outcome") for line in (*sleeper.log, *other.log)}
    assert "healed" not in outcomes, "Akoya rejected none"
    assert not {"grant.cooled"} & (sleeper.events | other.events)

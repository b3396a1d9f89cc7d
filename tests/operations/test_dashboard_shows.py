"""Every panel of the dashboard on a real Prometheus that watches real sidecars in trouble."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from sidecar.reference.dashboard import dashboard
from sidecar.sandbox import Fault
from tests.operations import troubles
from tests.operations.traffic import Grant
from tests.operations.watched_fleet import Plan, WatchedFleet, watched_fleet

LIVE: Final = {
    "sweep_every_s": 1.0,
    "sweep_poll_s": 0.2,
    "heal_s": 1.0,
    "quarantine_s": 1.0,
    "ahead_least_s": 0.5,
    "due_poll_s": 0.2,
}
"""What takes minutes elsewhere."""

QUIET: Final = frozenset(
    {
        "Calls under way A",  # none at the instant of a scrape
        "The client B",  # nobody leaves early
        "Banks and Akoya's data APIs B",  # no body breaks off
        "Whose fault C",  # no call meets a fault or a limit of ours
        "Us A",
        "Us B",
        "Us C",
        "Us D",
        "Us E",
        "Banks and Akoya's data APIs C",  # Akoya answers every call
        "Calls refused as overloaded A",  # few call at a time
        "Connections closed by the sidecar A",  # no client is slow, and no listener full
        "Reloads that were refused A",  # nobody asks for one
        "Grants by state B",  # nobody releases the brake
        "Whose fault E",  # Akoya can be reached
        "Refresh tokens sent B",  # no claim wants more than its share of retries
        "Refresh tokens sent C",
        "Close calls A",  # no answer is slow, late, broken or healed
        "Close calls B",
        "Close calls C",
        "Close calls D",
        "A bank's breaker A",  # no bank is sick
        "Redis: calls that failed C",  # Redis refuses all calls or none
        "Brake A",  # few users withdraw
        "Envelopes that did not open A",  # every key is there
        "Starts A",  # none starts again in its place
        "Consents in the browser A",  # that listener is off
    }
)
"""What this day does not bring about, and so is 0 all day."""
TICKS: Final = 2
LOOKS: Final = 3
SHORT_LIFE_S: Final = 6
WITHIN_S: Final = 30.0
CHOSEN: Final[Mapping[str, str]] = {
    "$job": "akoya-sidecar",
    "$instance": ".*",
    "$provider": ".*",
    "$__rate_interval": "2m",
    "$__range": "10m",
}
"""What Grafana puts in for the choices of whoever looks."""

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]


def as_grafana_asks(expression: str) -> str:
    for name, value in CHOSEN.items():
        expression = expression.replace(name, value)
    return expression


async def go_through_a_bad_day(fleet: WatchedFleet) -> None:
    """Let the fleet meet each kind of trouble that leaves it at work."""
    sandbox = fleet.world.sandbox
    sandbox.tune(id_token_life_s=SHORT_LIFE_S)
    await bad_calls(fleet)
    rejected = Fault(operation="data", kind="reject_bearer", times=0, user=fleet.grants[-2][0])
    sandbox.faults.add(rejected)
    await revoke(fleet, fleet.grants[-1])
    await troubles.an_answer_is_lost(fleet)
    await troubles.data_calls_fail(fleet)
    await troubles.refreshes_are_limited(fleet)
    for slow in ("sidecar_grants", "sidecar_due_lateness_seconds_count"):
        await fleet.prometheus.shows(f"sum({slow})", above=0, within_s=WITHIN_S)


async def bad_calls(fleet: WatchedFleet) -> None:
    """Make calls that the sidecar has to answer itself."""
    await fleet.world.app.fetch(fleet.sidecars[0], "nobody-we-know")
    await fleet.world.app.fetch(fleet.sidecars[0], "spaces are no id")


async def revoke(fleet: WatchedFleet, grant: Grant) -> None:
    """Revoke a grant, as an app that offboards a user does."""
    user, provider = grant
    path = f"/grants/{provider}/{user}"
    async with fleet.world.app.control(fleet.sidecars[0], "DELETE", path) as answer:
        await answer.read()


async def answers(fleet: WatchedFleet) -> dict[str, list[float]]:
    """Return the numbers of each query of each panel, by its title and letter."""
    document: dict[str, Any] = json.loads(dashboard())
    asked = {
        f"{panel['title']} {target['refId']}": as_grafana_asks(target["expr"])
        for panel in document["panels"]
        for target in panel.get("targets", ())
    }
    told = await asyncio.gather(*map(fleet.prometheus.query, asked.values()))
    return {
        name: [sample.value for sample in samples if not math.isnan(sample.value)]
        for name, samples in zip(asked, told, strict=True)
    }


async def seen(fleet: WatchedFleet) -> dict[str, list[float]]:
    """Return all that a few looks show: a scrape may be late, and who counts grants may change."""
    looks: list[dict[str, list[float]]] = []
    for _ in range(LOOKS):
        await fleet.evaluated(more=TICKS)
        looks.append(await answers(fleet))
    return {name: [number for look in looks for number in look[name]] for name in looks[0]}


async def go_through_a_bad_night(fleet: WatchedFleet) -> None:
    """Bring Redis back, and let a disk, the client secret and a sidecar fail at once."""
    await troubles.redis_comes_back(fleet)
    await fleet.prometheus.shows("sum(sidecar_store_rollbacks_total)", above=0, within_s=WITHIN_S)
    await troubles.a_disk_takes_nothing(fleet)
    await fleet.prometheus.shows("sum(sidecar_spool_failures_total)", above=0, within_s=WITHIN_S)
    await troubles.the_secret_is_wrong(fleet)
    await fleet.prometheus.shows("max(sidecar_breaker_open)", above=0, within_s=WITHIN_S)


async def test_no_panel_is_empty_and_trouble_is_seen(tmp_path: Path) -> None:
    """Every query of every panel has a number on sidecars at work; in trouble it is not 0."""
    async with watched_fleet(tmp_path, Plan(times=LIVE)) as fleet:
        await go_through_a_bad_day(fleet)
        by_day = await seen(fleet)
        fleet.world.sandbox.faults.delete()
        await troubles.redis_dies_before_it_hears_of_a_pair(fleet)
        in_the_evening = await seen(fleet)
        await go_through_a_bad_night(fleet)
        at_night = await seen(fleet)
        await troubles.a_sidecar_dies(fleet)
        in_the_end = await seen(fleet)

    looks = (by_day, in_the_evening, at_night, in_the_end)
    assert {name for name, numbers in by_day.items() if not numbers} == set()
    assert {name for name in by_day if not any(any(look[name]) for look in looks)} <= QUIET

"""The rules of the project on a real Prometheus that watches real sidecars, in fast motion."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.operations import troubles
from tests.operations.watched_fleet import Plan, WatchedFleet, watched_fleet

ROOT: Final = Path(__file__).parent.parent.parent
AFTERWARDS_TICKS: Final = 6
HEALTHY_TICKS: Final = 24
HEAL_S: Final = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Troubles that come together, and the alert of each of them."""

    troubles: tuple[troubles.Trouble, ...]
    alerts: tuple[str, ...]


STORIES: Final[Mapping[str, tuple[Step, ...]]] = {
    "Redis": (
        Step(
            troubles=(troubles.redis_dies_before_it_hears_of_a_pair,),
            alerts=("SidecarStoreDown", "SidecarSpoolNotEmpty"),
        ),
        Step(troubles=(troubles.redis_comes_back,), alerts=("SidecarStoreForgot",)),
    ),
    "a Redis without room": (
        Step(troubles=(troubles.redis_takes_no_claim,), alerts=("SidecarStoreStrained",)),
    ),
    "us": (
        Step(troubles=(troubles.a_disk_takes_nothing,), alerts=("SidecarSpoolNotWritable",)),
        Step(troubles=(troubles.the_secret_is_wrong,), alerts=("SidecarClientCredentialsRefused",)),
        Step(troubles=(troubles.a_sidecar_dies,), alerts=("SidecarDown",)),
    ),
    "Akoya and the banks": (
        Step(
            troubles=(
                troubles.a_bank_is_sick,
                troubles.refreshes_are_limited,
                troubles.data_calls_fail,
            ),
            alerts=(
                "SidecarProviderBreakerOpen",
                "SidecarRefreshesFailing",
                "SidecarUpstreamErrors",
            ),
        ),
    ),
    "tokens": (
        Step(troubles=(troubles.a_sidecar_has_other_keys,), alerts=("SidecarEnvelopesUnreadable",)),
        Step(troubles=(troubles.an_answer_is_lost,), alerts=("SidecarTokenLost",)),
        Step(
            troubles=(troubles.refusals_have_no_clear_reason,),
            alerts=("SidecarGrantsInDoubtGrowing",),
        ),
        Step(troubles=(troubles.many_users_withdraw,), alerts=("SidecarBrakeOpen",)),
    ),
}

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]


def told_consequences(alert: str) -> set[str]:
    """Return the alerts that its runbook names as those that may fire with it."""
    (page,) = (
        page
        for page in (ROOT / "docs/runbooks").glob("*.md")
        if page.read_text("utf-8").startswith(f"# {alert}\n")
    )
    line = re.search(r"^May fire with it: (.+)$", page.read_text("utf-8"), re.MULTILINE)
    linked = re.findall(r"\]\(([\w-]+\.md)\)", line[1]) if line else []
    heads = [(page.parent / name).read_text("utf-8").partition("\n")[0] for name in linked]
    return {head.removeprefix("# ") for head in heads}


async def has_fired(fleet: WatchedFleet) -> set[str]:
    return await fleet.prometheus.has_fired()


async def test_nothing_fires_while_all_is_well(tmp_path: Path) -> None:
    """Every rule is evaluated on two sidecars under load for a while, and nobody is woken."""
    async with watched_fleet(tmp_path) as fleet:
        await fleet.evaluated(more=HEALTHY_TICKS)
        fired, load = await has_fired(fleet), fleet.load

    assert fired == set()
    assert load.served > 100
    assert load.refreshed > 20


@pytest.mark.parametrize("story", STORIES)
async def test_a_trouble_wakes_with_its_alert_and_those_its_runbook_names(
    story: str, tmp_path: Path
) -> None:
    """Whoever is woken is woken for the cause, and knows from the runbook what else may ring."""
    expected: set[str] = set()
    async with watched_fleet(tmp_path, Plan(times={"heal_s": HEAL_S})) as fleet:
        for step in STORIES[story]:
            assert await has_fired(fleet) <= expected
            for trouble in step.troubles:
                await trouble(fleet)
            await fleet.fires(*step.alerts)
            expected = expected.union(step.alerts, *map(told_consequences, step.alerts))
        await fleet.evaluated(more=AFTERWARDS_TICKS)
        fired = await has_fired(fleet)

    assert fired <= expected

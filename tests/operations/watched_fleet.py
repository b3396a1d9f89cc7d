"""Two sidecars under load, with a Prometheus that watches them by the rules of the project.

It must not know what is tried with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.operations.traffic import Grant, Load, Traffic
from tests.support.deployment import BANKS, Deployment, deployment
from tests.support.fast_rules import faster
from tests.support.fleet import SidecarProcess
from tests.support.prometheus import Prometheus
from tests.support.wait import eventually

RULES: Final = Path(__file__).parent.parent.parent / "config/prometheus"
RULE_FILES: Final = ("alerts.yml", "recording.yml")
SIDECARS: Final = ("first", "second")
GRANTS: Final = 40
FACTOR: Final = 60
"""A minute of the rules is a second of the test."""
INTERVAL_MS: Final = 500
SETTLED_TICKS: Final = 6
WITHIN_S: Final = 60.0
AT_ONCE: Final = 8
CREATED: Final = 201
TICKS: Final = "max(count_over_time(instance:sidecar_overhead_seconds:p99_rate5m[1d]))"
"""How often the rules were evaluated since sidecars are scraped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a fleet is watched and what it does.

    Attributes:
        factor: How much shorter the spans of the rules are.
        interval_ms: How often rules are evaluated; sidecars are scraped half as often.
        times: Times of the protocol that are to be others.
        is_refreshing: Whether tokens are refreshed without being due.
    """

    factor: int = FACTOR
    interval_ms: int = INTERVAL_MS
    times: Mapping[str, float] = field(default_factory=dict[str, float])
    id_token_life_s: float = 86400
    is_refreshing: bool = True

    @property
    def rules(self) -> dict[str, str]:
        """The rule files by name."""
        real = {name: (RULES / name).read_text("utf-8") for name in RULE_FILES}
        if self.factor == 1:
            return real
        return {name: faster(text, factor=self.factor) for name, text in real.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedFleet:
    """A fleet at work.

    Attributes:
        secret: The file from which the sidecars read the app's client secret.
        sidecars: Those that get calls.
    """

    world: Deployment
    prometheus: Prometheus
    load: Load
    secret: Path
    sidecars: list[SidecarProcess] = field(default_factory=list[SidecarProcess])

    @property
    def grants(self) -> list[Grant]:
        """Everybody who consented."""
        return list(self.load.grants)

    def of_bank(self, provider: str) -> list[Grant]:
        """Those who consented at one bank."""
        return [grant for grant in self.load.grants if grant[1] == provider]

    async def start(self, name: str, **environ: str) -> SidecarProcess:
        """Start a sidecar that is scraped, with some variables of its own."""
        usual = self.world.place.environ
        self.world.place.environ = {**usual, **environ}
        try:
            sidecar = await self.world.start(name)
        finally:
            self.world.place.environ = usual
        return sidecar

    def watch(self) -> None:
        """Have every sidecar scraped that was started, those that died too."""
        self.prometheus.watch(
            sidecar.metrics_url.removeprefix("http://") for sidecar in self.world.started
        )

    async def refresh_all(self, sidecar: SidecarProcess, grants: list[Grant]) -> None:
        """Have grants refreshed at once, whatever comes of it."""
        await asyncio.gather(
            *(self.world.app.refresh(sidecar, user, provider=bank) for user, bank in grants)
        )

    async def evaluated(self, *, more: int) -> None:
        """Return once every rule was evaluated so many times more on what was scraped."""
        so_far = await self.prometheus.value(TICKS)
        await self.prometheus.shows(TICKS, above=so_far + more - 1, within_s=WITHIN_S)

    async def fires(self, *alerts: str) -> None:
        """Return once each of these alerts has fired."""
        await self.prometheus.fires(*alerts, within_s=WITHIN_S)


async def _onboard(fleet: WatchedFleet) -> None:
    """Have everybody consent, a few at a time; on a busy machine some must be asked again."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(user: str, provider: str) -> None:
        code = fleet.world.app.consent(user, provider=provider)
        body = {"user": user, "provider": provider, "code": code}

        async def status() -> int:
            call = fleet.world.app.control(fleet.sidecars[0], "POST", "/grants", json=body)
            async with call as answer:
                return answer.status

        async with places:
            await eventually(
                status, lambda it: it == CREATED, within_s=WITHIN_S, what=f"{user} to be linked"
            )

    await asyncio.gather(*(one(user, provider) for user, provider in fleet.grants))


@asynccontextmanager
async def watched_fleet(directory: Path, plan: Plan | None = None) -> AsyncGenerator[WatchedFleet]:
    """Have a fleet at work and every rule evaluated on it."""
    plan = plan or Plan()
    (directory / "world").mkdir()
    async with (
        deployment(directory / "world") as world,
        Prometheus(
            directory / "prometheus", rules=plan.rules, interval_ms=plan.interval_ms
        ) as prometheus,
    ):
        secret = directory / "client-secret"
        secret.write_text(world.sandbox.settings.client_secret)
        world.sandbox.tune(id_token_life_s=plan.id_token_life_s)
        world.place.times = plan.times
        world.place.environ = {
            "SIDECAR_AKOYA_CLIENT_SECRET": "",
            "SIDECAR_AKOYA_CLIENT_SECRET_FILE": str(secret),
        }
        users = [(f"user-{number}", BANKS[number % len(BANKS)]) for number in range(GRANTS)]
        load = Load(grants=users, is_refreshing=plan.is_refreshing)
        fleet = WatchedFleet(world=world, prometheus=prometheus, load=load, secret=secret)
        fleet.sidecars.extend(await asyncio.gather(*map(fleet.start, SIDECARS)))
        fleet.watch()
        await _onboard(fleet)
        async with Traffic(world.app, fleet.sidecars, fleet.load):
            await fleet.evaluated(more=SETTLED_TICKS)
            yield fleet

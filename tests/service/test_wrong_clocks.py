"""Clocks that are wrong, or step: a sidecar's, and Akoya's beside the store's (scenario 35)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import final

import pytest

from sidecar.adapters.memory_spool import MemorySpool
from sidecar.adapters.memory_store import MemoryTokenStore
from sidecar.domain.policy import ProtocolTimes, RefreshAhead, RefreshPolicy
from sidecar.domain.secret import Secret
from sidecar.domain.tokens import TokenLookup
from sidecar.ports import Clock
from tests.support.idp_front import IdpFront, QuietWire
from tests.support.rotating_idp import RotatingIdp
from tests.support.sidecar_parts import KEY, REDIRECT_URI, SidecarParts, World
from tests.support.virtual_fleet import bearer_of
from tests.support.virtual_time import in_virtual_time, story_clock

LIFE_S = 60


@final
class WrongClock:
    """A machine's clock that is `ahead_s` of the true one; time passes as fast as everywhere."""

    def __init__(self, true: Clock, *, ahead_s: float) -> None:
        self._true = true
        self.ahead_s = ahead_s

    def now_s(self) -> float:
        return self._true.now_s() + self.ahead_s

    def elapsed_s(self) -> float:
        return self._true.elapsed_s()


@final
class Place:
    """A store on the true time, and a token service whose clock is wrong."""

    def __init__(self, *, idp_ahead_s: float) -> None:
        self.true = story_clock()
        self.store = MemoryTokenStore(clock=self.true)
        self.idp = RotatingIdp(clock=WrongClock(self.true, ahead_s=idp_ahead_s))
        self.idp.life_s = LIFE_S

    @asynccontextmanager
    async def sidecar(self, name: str, clock: Clock) -> AsyncGenerator[SidecarParts]:
        world = World(
            clock=clock,
            store=self.store,
            idp=IdpFront(service=self.idp, wire=QuietWire(), peer=name),
            times=ProtocolTimes(),
            policy=RefreshPolicy(ahead=RefreshAhead.OFF),
        )
        parts = SidecarParts.build(world, spool=MemorySpool(clock=clock), name=name)
        async with parts.running(keeps_house=True):
            yield parts


async def ask(parts: SidecarParts) -> TokenLookup:
    return parts.broker.peek(KEY) or await parts.broker.token_for(KEY)


async def obtain(parts: SidecarParts, idp: RotatingIdp) -> None:
    code = Secret(idp.new_code(KEY))
    await parts.lane.run(
        lambda: parts.obtainer.obtain(KEY, code, redirect_uri=REDIRECT_URI), where="obtain"
    )


@pytest.mark.parametrize("idp_ahead_s", [-300, 0, 300])
@pytest.mark.parametrize("ahead_s", [-300, 0, 300])
@in_virtual_time
async def test_a_wrong_clock_makes_no_bearer_end_early_or_late(
    ahead_s: float, idp_ahead_s: float
) -> None:
    """Whatever day a sidecar or Akoya believes it is, a bearer is good for its life."""
    place = Place(idp_ahead_s=idp_ahead_s)
    async with (
        place.sidecar("right", place.true) as right,
        place.sidecar("wrong", WrongClock(place.true, ahead_s=ahead_s)) as wrong,
    ):
        await obtain(right, place.idp)
        first = bearer_of(await ask(right))

        await asyncio.sleep(LIFE_S - 10)
        within = bearer_of(await ask(wrong))
        presented = len(place.idp.refreshes())
        await asyncio.sleep(10)
        after = bearer_of(await ask(wrong))
        elsewhere = bearer_of(await ask(right))

    assert (within, presented) == (first, 0)
    assert after == elsewhere != first
    assert len(place.idp.refreshes()) == 1


@pytest.mark.parametrize("step_s", [-86_400, 86_400])
@in_virtual_time
async def test_a_clock_that_steps_changes_nothing(step_s: float) -> None:
    """An operator who sets a clock ends no bearer and revives none."""
    place = Place(idp_ahead_s=0)
    clock = WrongClock(place.true, ahead_s=0)
    async with place.sidecar("a", clock) as parts:
        await obtain(parts, place.idp)
        first = bearer_of(await ask(parts))

        clock.ahead_s = step_s
        await asyncio.sleep(LIFE_S - 10)
        within = bearer_of(await ask(parts))
        await asyncio.sleep(10)
        after = bearer_of(await ask(parts))

    assert within == first
    assert after != first
    assert len(place.idp.refreshes()) == 1


@pytest.mark.parametrize("ahead_s", [-300, 300])
@in_virtual_time
async def test_a_sidecar_with_a_wrong_clock_takes_no_lease_that_runs(ahead_s: float) -> None:
    """Leases and holds end on the store's clock, so that both callers cost one presentation."""
    place = Place(idp_ahead_s=0)
    place.idp.answer_after_s = 5.0
    async with (
        place.sidecar("right", place.true) as right,
        place.sidecar("wrong", WrongClock(place.true, ahead_s=ahead_s)) as wrong,
    ):
        await obtain(right, place.idp)
        await asyncio.sleep(LIFE_S)

        found = await asyncio.gather(ask(right), ask(wrong))

    assert len({bearer_of(lookup) for lookup in found}) == 1
    assert len(place.idp.refreshes()) == 1

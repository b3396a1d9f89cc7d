"""What a person asks of the brake: how it is, whom it holds back, and to let some or all go.

It lives in the claim lane, as the brake does. To let all go, the operator must know how many users
that is: the grants in doubt, which only the records tell. A count looks at each record, so it
serves every caller within a while, and goes on when they leave.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, final

from sidecar.domain.outcomes import Obstacle, Postponed
from sidecar.domain.record import GrantState
from sidecar.domain.throttle import Throttle, is_free, running_trial
from sidecar.domain.windows import totals
from sidecar.ports import StoreUnavailable
from sidecar.service.claim_parts import ClaimParts

PAGE: Final = 256
COUNT_KEPT_S: Final = 10.0
"""A count is as good as new for so long."""

_STORE_AWAY: Final = Postponed(obstacle=Obstacle.STORE_AWAY, retry_in_s=1.0)


class BrakeState(StrEnum):
    """What the brake does now."""

    OFF = "off"
    ON = "on"
    """No claim begins and no doubt is settled."""
    TRIAL = "trial"
    """A release lets some grants go."""
    FREE = "free"
    """A release lets all go; nothing pulls it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrakeView:
    """The brake at one moment; instants are of the store's clock, 0: there is none.

    Attributes:
        since_ms: When it was pulled, or let go.
        cause: Why it was pulled, or ``""``.
        decided: Refreshes that Akoya decided in the five minutes that were counted last.
        denied: Those that it denied.
        trial: Limit, decided and denied grants of the trial that runs, or that pulled it.
        free_until_ms: Until when nothing pulls it.
    """

    state: BrakeState
    since_ms: int = 0
    cause: str = ""
    decided: int = 0
    denied: int = 0
    trial: tuple[int, int, int] | None = None
    free_until_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CountDiffers:
    """Nothing was let go: there are so many grants in doubt, not as many as was said."""

    held_back: int


@final
class BrakeDesk:
    """Answers a person who looks after the brake."""

    def __init__(self, *, parts: ClaimParts) -> None:
        self._parts = parts
        self._brake = parts.restraints.brake
        self._counting = asyncio.Lock()
        self._counted = 0
        self._counted_at_s = float("-inf")

    async def look(self) -> BrakeView | Postponed:
        """Return how the brake is now, as the store has it."""
        try:
            throttle = await self._brake.look()
        except StoreUnavailable:
            return _STORE_AWAY
        return view_of(throttle, self._parts.store_clock.now_ms())

    async def held_back(self) -> int | Postponed:
        """Return how many grants are in doubt."""
        async with self._counting:
            age_s = self._parts.clock.elapsed_s() - self._counted_at_s
            if age_s > COUNT_KEPT_S:
                try:
                    self._counted = await self._count()
                except StoreUnavailable:
                    return _STORE_AWAY
                self._counted_at_s = self._parts.clock.elapsed_s()
            return self._counted

    async def release(self, *, limit: int) -> Postponed | None:
        """Let so many grants go; ``None``: the brake is off now, or was before."""
        try:
            await self._brake.release(limit=limit)
        except StoreUnavailable:
            return _STORE_AWAY
        return None

    async def release_all(self, *, expected: int) -> CountDiffers | Postponed | None:
        """Let all go, if there are as many in doubt as was said; ``None``: the brake is off now."""
        counted = await self.held_back()
        if isinstance(counted, Postponed):
            return counted
        if counted != expected:
            return CountDiffers(held_back=counted)
        self._counted_at_s = float("-inf")
        try:
            await self._brake.release_all()
        except StoreUnavailable:
            return _STORE_AWAY
        return None

    async def _count(self) -> int:
        found: set[str] = set()
        cursor, is_over = "", False
        while not is_over:
            cursor, page = await self._parts.store.scan(cursor, PAGE)
            # By name: a scan may show a record twice.
            found.update(grant for grant, record in page if record.state is GrantState.IN_DOUBT)
            is_over = not cursor
        return len(found)


def view_of(throttle: Throttle, now_ms: int) -> BrakeView:
    """Return what a throttle says of the brake."""
    decided, denied = totals(throttle.decided)
    trial = throttle.trial
    told = None if trial is None else (trial.limit, trial.decided, trial.denied)
    if throttle.is_braked:
        is_by_trial = trial is not None and trial.is_failed
        return BrakeView(
            state=BrakeState.ON,
            since_ms=min(throttle.braked_at_ms, now_ms),
            cause="" if throttle.brake_cause is None else throttle.brake_cause.value,
            decided=decided,
            denied=denied,
            trial=told if is_by_trial else None,
        )
    if is_free(throttle, now_ms):
        until_ms = throttle.free_until_ms
        return BrakeView(
            state=BrakeState.FREE, decided=decided, denied=denied, free_until_ms=until_ms
        )
    if trial is not None and running_trial(throttle, now_ms) is not None:
        return BrakeView(
            state=BrakeState.TRIAL,
            since_ms=trial.began_at_ms,
            decided=decided,
            denied=denied,
            trial=told,
        )
    return BrakeView(state=BrakeState.OFF, decided=decided, denied=denied)

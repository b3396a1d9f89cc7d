"""The brake's side of the grants API: each call is a method whose answer is a value.

It lives on the loop that serves requests; the work is the claim lane's and goes on when the caller
has waited long enough. It does not know how a call came here or what it is answered with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar, final

from sidecar.domain.outcomes import Postponed
from sidecar.service.brake_desk import BrakeDesk, BrakeState, BrakeView, CountDiffers
from sidecar.service.grant_answers import StillRunning
from sidecar.service.lane import ClaimLane

ResultT = TypeVar("ResultT")

BrakeShown = tuple[BrakeView, int | None]
"""The brake, and how many grants it holds back, where that was counted."""


@final
class BrakeCalls:
    """Has the lane carry out what a person asks of the brake."""

    def __init__(self, *, desk: BrakeDesk, lane: ClaimLane, wait_s: float) -> None:
        self._desk = desk
        self._lane = lane
        self._wait_s = wait_s

    async def show(self, *, counts: bool = True) -> BrakeShown | Postponed | StillRunning:
        """Return how the brake is, and whom it holds back; a long count is not waited for."""
        view = await self._done(self._desk.look)
        if not isinstance(view, BrakeView):
            return view
        if view.state is BrakeState.OFF or not counts:
            return view, None
        counted = await self._done(self._desk.held_back)
        return view, counted if isinstance(counted, int) else None

    async def release(self, *, limit: int) -> Postponed | StillRunning | None:
        """Let so many grants go; ``None``: the brake is off now."""
        return await self._done(lambda: self._desk.release(limit=limit))

    async def release_all(self, *, expected: int) -> CountDiffers | Postponed | StillRunning | None:
        """Let all go, if so many are in doubt; ``None``: the brake is off now.

        Nothing is let go by a count that takes too long: the operator may have left.
        """
        counted = await self._done(self._desk.held_back)
        if isinstance(counted, StillRunning):
            return counted
        return await self._done(lambda: self._desk.release_all(expected=expected))

    async def _done(self, work: Callable[[], Awaitable[ResultT]]) -> ResultT | StillRunning:
        try:
            async with asyncio.timeout(self._wait_s):
                return await self._lane.run(work, where="brake")
        except TimeoutError:
            return StillRunning()

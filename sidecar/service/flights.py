"""Single flight: however many callers want a newer pair than one they name, one wish goes out.

A flight is keyed by its wish, which names the rejected generation, so that a caller whose
generation 5 was rejected is never satisfied by a flight that produces generation 5. Callers wait
under their own deadline; a flight goes on when they leave, and a claim when the flight ends. It
waits for a peer while one of its callers may, and ends at once where the wait is known to be long.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Self, final

from sidecar.domain.events import WorkFailed
from sidecar.domain.outcomes import Obstacle, Postponed, RefreshOutcome
from sidecar.domain.record import GrantId
from sidecar.domain.tokens import TokenFailure
from sidecar.domain.waiting import SOON_S, worth_waiting_s
from sidecar.service.claim_parts import RefreshWish
from sidecar.service.lane import LaneWorkFailed
from sidecar.service.serving_parts import ServingParts

Landed = Callable[[GrantId, RefreshOutcome], None]


@final
class Flights:
    """The running flights of one event loop; used as a context, which ends the waiting of all."""

    def __init__(self, *, parts: ServingParts, landed: Landed) -> None:
        self._parts = parts
        self._landed = landed
        self._flights: dict[RefreshWish, asyncio.Task[RefreshOutcome]] = {}
        self._until_s: dict[RefreshWish, float] = {}
        self._heard: dict[RefreshWish, TokenFailure] = {}
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for flight in list(self._flights.values()):
            flight.cancel()
        await self._group.__aexit__(kind, error, trace)

    async def board(self, wish: RefreshWish, *, wait_s: float) -> RefreshOutcome:
        """Return what came of the wish; after `wait_s` the caller goes, the flight does not."""
        flight = self.start(wish, wait_s=wait_s)
        try:
            async with asyncio.timeout(wait_s):
                return await asyncio.shield(flight)
        except TimeoutError:
            return Postponed(
                obstacle=Obstacle.HELD,
                retry_in_s=SOON_S,
                failure=self._heard.get(wish),
                is_cut_short=True,
            )

    def start(self, wish: RefreshWish, *, wait_s: float) -> asyncio.Task[RefreshOutcome]:
        """Start the flight of this wish unless it is under way; it may wait `wait_s` for a peer."""
        until_s = self._parts.clock.elapsed_s() + wait_s
        self._until_s[wish] = max(until_s, self._until_s.get(wish, until_s))
        flight = self._flights.get(wish)
        if flight is None:
            flight = self._group.create_task(self._fly(wish))
            self._flights[wish] = flight
            flight.add_done_callback(lambda _: self._forget(wish))
        return flight

    def _forget(self, wish: RefreshWish) -> None:
        self._flights.pop(wish, None)
        self._until_s.pop(wish, None)
        self._heard.pop(wish, None)

    async def _fly(self, wish: RefreshWish) -> RefreshOutcome:
        try:
            outcome = await self._ask_until_clear(wish)
            self._landed(wish.grant, outcome)
        except LaneWorkFailed:
            return Postponed(obstacle=Obstacle.FAILED, retry_in_s=1.0)
        except Exception as error:  # noqa: BLE001 - reported; one flight must not end the others
            self._parts.observer.observe(WorkFailed(where="flight", error=type(error).__name__))
            return Postponed(obstacle=Obstacle.FAILED, retry_in_s=1.0)
        return outcome

    async def _ask_until_clear(self, wish: RefreshWish) -> RefreshOutcome:
        """Ask again while a peer may lift the obstacle within the callers' patience."""
        times = self._parts.times
        pause_s = times.peer_poll_first_s
        while True:
            outcome = await self._parts.lane.refresh(wish)
            if not isinstance(outcome, Postponed):
                return outcome
            if outcome.failure is not None:  # what Akoya said to the first try explains the rest
                self._heard[wish] = outcome.failure
            outcome = replace(outcome, failure=self._heard.get(wish))
            worth_s = worth_waiting_s(outcome, times)
            left_s = min(worth_s, self._until_s[wish] - self._parts.clock.elapsed_s())
            if left_s <= 0:
                # How long a peer takes is not known, whatever its lease or its hold would allow.
                return replace(outcome, retry_in_s=SOON_S) if math.isinf(worth_s) else outcome
            jittered_s = pause_s * (0.8 + 0.4 * self._parts.entropy.fraction())
            await self._parts.hints.wait(wish.grant, at_most_s=min(jittered_s, left_s))
            pause_s = min(pause_s * times.peer_poll_factor, times.peer_poll_limit_s)

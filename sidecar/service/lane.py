"""The claim lane: where claims, exchanges and revocations run, apart from the clients' requests.

The lane has an event loop of its own (in production a thread's), so that neither proxy load nor a
client that leaves can delay or cancel a claim. Its tasks are its own: each has an outermost
catch-and-report, since in a TaskGroup the first failure would cancel every other claim.

Callers live on any loop; they get a future of theirs and may stop waiting at any time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import TypeVar, final

from sidecar.domain.outcomes import Obstacle, Postponed, RefreshOutcome
from sidecar.ports import Observer
from sidecar.service import faults
from sidecar.service.berths import Berths
from sidecar.service.claim_parts import RefreshWish
from sidecar.service.refresher import Refresher

ResultT = TypeVar("ResultT")

_BANK_UNKNOWN = ""


@final
class ClaimLane:
    """Runs claims to their end, whoever waits for them."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        refresher: Refresher,
        berths: Berths,
        observer: Observer,
    ) -> None:
        self._loop = loop
        self._refresher = refresher
        self._berths = berths
        self._observer = observer
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_open = False
        self._is_shut = False
        self._takes_ahead = True

    @property
    def is_shut(self) -> bool:
        """Whether no claim may start any more, whoever wants it."""
        return self._is_shut

    @property
    def takes_ahead(self) -> bool:
        """Whether a claim may start that no request asks for."""
        return self._is_open and self._takes_ahead

    @property
    def running(self) -> int:
        """How many pieces of work have not ended."""
        return len(self._tasks)

    def open(self) -> None:
        """Let claims start (after the replay of the spool), unless the lane was shut before."""
        self._is_open = not self._is_shut

    @property
    def _closed_by(self) -> Obstacle:
        is_starting = not (self._is_open or self._is_shut)
        return Obstacle.REPLAYING if is_starting else Obstacle.DRAINING

    def serve_callers_only(self) -> None:
        """Let no claim start any more that no request asks for; may be called from any thread."""
        self._takes_ahead = False

    def shut(self) -> None:
        """Let no claim start any more, for good; running ones go on."""
        self._is_shut = True
        self._is_open = False

    async def refresh(self, wish: RefreshWish, *, is_ahead: bool = False) -> RefreshOutcome:
        """Return what came of a wish, as soon as it is known; cancelling ends the waiting only.

        Args:
            wish: What is wanted.
            is_ahead: No request asks for it.
        """

        async def work(answer: Callable[[RefreshOutcome], None]) -> None:
            held_back = self._refresher.held_back(wish.provider) if self._is_open else None
            if held_back is not None:  # known at once, also where its bank has no berth left
                answer(held_back)
                return
            async with self._berths.berth(wish.provider):
                # Asked with the berth in hand: waiting for one takes its time.
                if self.takes_ahead if is_ahead else self._is_open:
                    await self._refresher.refresh(wish, answer)
                else:
                    answer(Postponed(obstacle=self._closed_by, retry_in_s=1.0))

        return await self._submit(work, where="claim")

    async def run(self, work: Callable[[], Awaitable[ResultT]], *, where: str) -> ResultT:
        """Return the result of other work of the lane; cancelling ends the waiting only."""

        async def answered(answer: Callable[[ResultT], None]) -> None:
            answer(await work())

        return await self._submit(answered, where=where)

    def launch(self, work: Callable[[], Awaitable[None]], *, where: str) -> None:
        """Start work of the lane that nobody waits for; may be called from any thread."""

        async def unanswered(answer: Callable[[None], None]) -> None:
            await work()
            answer(None)

        self._loop.call_soon_threadsafe(self._start, unanswered, Future[None](), where)

    def launch_claim(self, work: Callable[[], Awaitable[None]], *, where: str) -> None:
        """Start a claim that nobody waits for, and whose bank is not known yet, in a berth.

        Where the lane was shut meanwhile, it is not started.
        """

        async def berthed() -> None:
            async with self._berths.berth(_BANK_UNKNOWN):
                if not self._is_shut:
                    await work()

        self.launch(berthed, where=where)

    async def drained(self) -> None:
        """Wait, on the lane's loop, until all work has ended."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def abandon(self) -> None:
        """End, on the lane's loop, what still runs; call it while the spool is open.

        A claim that waits for its answer takes what has arrived of it to the disk before it ends.
        """
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(set(self._tasks))

    async def _submit(
        self, work: Callable[[Callable[[ResultT], None]], Awaitable[None]], *, where: str
    ) -> ResultT:
        future: Future[ResultT] = Future()
        future.set_running_or_notify_cancel()
        self._loop.call_soon_threadsafe(self._start, work, future, where)
        return await asyncio.shield(asyncio.wrap_future(future))

    def _start(
        self,
        work: Callable[[Callable[[ResultT], None]], Awaitable[None]],
        future: Future[ResultT],
        where: str,
    ) -> None:
        def end(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if not future.done():  # it failed, or was ended, perhaps before its first step
                future.set_exception(LaneWorkFailed(where))

        task = self._loop.create_task(self._guarded(work, future, where))
        self._tasks.add(task)
        task.add_done_callback(end)

    async def _guarded(
        self,
        work: Callable[[Callable[[ResultT], None]], Awaitable[None]],
        future: Future[ResultT],
        where: str,
    ) -> None:
        def answer(result: ResultT) -> None:
            if not future.done():
                future.set_result(result)

        try:
            await work(answer)
        except Exception as error:  # noqa: BLE001 - the outermost edge: reported, never swallowed
            faults.report(self._observer, where=where, error=error)


class LaneWorkFailed(Exception):
    """A piece of work of the lane ended without a result; it was reported where it failed."""

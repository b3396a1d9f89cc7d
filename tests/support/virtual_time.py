"""An event loop whose clock leaps to the next timer, so that waiting costs nothing.

The loop's time is that of a `FakeClock`; sidecars, stores and providers that are given the same
clock live in the same time. Where nothing is ready and no timer is set, nothing can ever happen any
more: the loop says so instead of hanging.

With a seed, whatever is ready at the same time runs in an order that the seed chooses, the same one
each time. Work can belong to a process, and a process can be stopped as SIGSTOP stops one: nothing
of it runs, its timers fall due unheard, and time goes on. It must not know what runs on it.
"""

from __future__ import annotations

import asyncio
import inspect
import selectors
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from random import Random
from typing import Any, Final, ParamSpec, TypeVarTuple, Unpack, cast, final

from tests.support.fake_clock import FakeClock

StoryP = ParamSpec("StoryP")
ArgumentT = TypeVarTuple("ArgumentT")

HORIZON_S: Final = 86_400.0
"""No story takes a day; one that does waits for what never comes, housekeeping all the while."""

NOWHERE: Final = Context()
"""Where work belongs to no process that could be stopped: the wire, the store, the provider."""

_process: ContextVar[str] = ContextVar("process", default="")


class NothingHappensAnyMore(Exception):
    """Everybody waits for somebody else, or the story is longer than `HORIZON_S`."""


@final
class _LeapingSelector(selectors.SelectSelector):
    """Never asks for a file: no story has one, so time leaps on."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock
        self._ends_s = clock.elapsed_s() + HORIZON_S

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or self._clock.elapsed_s() > self._ends_s:
            raise NothingHappensAnyMore
        if timeout > 0:
            self._clock.advance(timeout)
        return []


@final
class _NumberedTask(asyncio.Task[Any]):
    """A task whose place in a set depends on its number and not on its address."""

    def __init__(self, *args: Any, number: int, **options: Any) -> None:
        self._number = number
        super().__init__(*args, **options)

    def __hash__(self) -> int:
        return self._number


@final
class _ReadyQueue(deque[asyncio.Handle]):
    """The loop's ready queue: hands out in a seeded order, and keeps back what is stopped."""

    def __init__(self, *, order: Random | None, nothing: asyncio.Handle) -> None:
        super().__init__()
        self._draw = None if order is None else order.random
        self._nothing = nothing
        self.stopped: dict[str, list[asyncio.Handle]] = {}

    def popleft(self) -> asyncio.Handle:
        if self._draw is not None and len(self) > 1:
            chosen = int(self._draw() * len(self))
            self[0], self[chosen] = self[chosen], self[0]
        handle = super().popleft()
        if self.stopped:
            process = cast("Any", handle)._context.get(_process)  # the loop's own, long-standing
            if process in self.stopped:
                self.stopped[process].append(handle)
                return self._nothing
        return handle


@final
class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs a story in virtual time.

    Attributes:
        clock: The time of the story.
    """

    def __init__(self, *, seed: int | None = None) -> None:
        self.clock = FakeClock()
        super().__init__(_LeapingSelector(self.clock))
        nothing = asyncio.Handle(_nothing, (), self)
        nothing.cancel()
        order = None if seed is None else Random(seed)  # noqa: S311 - an order, no secret
        self._ready = _ReadyQueue(order=order, nothing=nothing)
        self._tasks_made = 0
        self.set_task_factory(_numbered)

    def time(self) -> float:
        """Return the time of the story."""
        return self.clock.elapsed_s()

    def call_soon_threadsafe(
        self,
        callback: Callable[[Unpack[ArgumentT]], object],
        *args: *ArgumentT,
        context: Context | None = None,
    ) -> asyncio.Handle:
        """Call soon: there is one thread, and nobody sleeps in a selector."""
        return self.call_soon(callback, *args, context=context)

    def next_number(self) -> int:
        """Return the number of a task that is being made."""
        self._tasks_made += 1
        return self._tasks_made

    def is_stopped(self, process: str) -> bool:
        """Whether a process stands still now."""
        return process in self._ready.stopped

    def stop_process(self, process: str) -> None:
        """Let nothing of a process run from its next step on."""
        self._ready.stopped.setdefault(process, [])

    def continue_process(self, process: str) -> None:
        """Let a process go on; whatever fell due meanwhile is ready at once."""
        self._ready.extend(self._ready.stopped.pop(process, ()))


def _numbered(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
    assert isinstance(loop, VirtualLoop)
    return _NumberedTask(coro, loop=loop, number=loop.next_number(), **options)


def _nothing() -> None:
    """Runs in place of what is kept back."""


def process_context(process: str) -> Context:
    """Return a context in which everything belongs to a process."""
    context = copy_context()
    context.run(_process.set, process)
    return context


def story_loop() -> VirtualLoop:
    """Return the loop of the running story."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


def story_clock() -> FakeClock:
    """Return the clock of the running story."""
    return story_loop().clock


def in_virtual_time(
    story: Callable[StoryP, Coroutine[Any, Any, None]],
) -> Callable[StoryP, None]:
    """Make a plain test of a story, which runs on a loop of its own in virtual time."""

    def test(*args: StoryP.args, **kwargs: StoryP.kwargs) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(story(*args, **kwargs))

    test.__name__ = story.__name__
    test.__qualname__ = story.__qualname__
    test.__module__ = story.__module__
    test.__doc__ = story.__doc__
    test.__dict__["__signature__"] = inspect.signature(story)  # pytest asks it for parameters
    return test

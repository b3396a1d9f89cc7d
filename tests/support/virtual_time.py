"""An event loop whose clock leaps to the next timer, so that waiting costs nothing.

The loop's time is that of a `FakeClock`; sidecars, stores and providers that are given the same
clock live in the same time. Where nothing is ready and no timer is set, nothing can ever happen any
more: the loop says so instead of hanging. It must not know what runs on it.
"""

from __future__ import annotations

import asyncio
import inspect
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, Final, ParamSpec, final

from tests.support.fake_clock import FakeClock

StoryP = ParamSpec("StoryP")

HORIZON_S: Final = 86_400.0
"""No story takes a day; one that does waits for what never comes, housekeeping all the while."""


class NothingHappensAnyMore(Exception):
    """Everybody waits for somebody else, or the story is longer than `HORIZON_S`."""


@final
class _LeapingSelector(selectors.SelectSelector):
    """Never waits for a file: with nothing to read, time leaps on."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock
        self._ends_s = clock.elapsed_s() + HORIZON_S

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready:
            return ready
        if timeout is None or self._clock.elapsed_s() > self._ends_s:
            raise NothingHappensAnyMore
        if timeout > 0:
            self._clock.advance(timeout)
        return ready


@final
class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs a story in virtual time.

    Attributes:
        clock: The time of the story.
    """

    def __init__(self) -> None:
        self.clock = FakeClock()
        super().__init__(_LeapingSelector(self.clock))

    def time(self) -> float:
        """Return the time of the story."""
        return self.clock.elapsed_s()


def story_clock() -> FakeClock:
    """Return the clock of the running story."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop.clock


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

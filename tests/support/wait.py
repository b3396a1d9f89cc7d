"""Waits for a condition in a test, with a bound and a name for what did not happen.

It must not know what is waited for.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

AnswerT = TypeVar("AnswerT")
_POLL_S: Final = 0.005


async def until(condition: Callable[[], bool], *, within_s: float, what: str) -> None:
    """Return once the condition holds; raise AssertionError naming `what` if it never does."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while not condition():
        if loop.time() >= deadline:
            raise AssertionError(f"waited {within_s} s in vain for {what}")
        await asyncio.sleep(_POLL_S)


async def eventually(
    ask: Callable[[], Awaitable[AnswerT]],
    is_right: Callable[[AnswerT], bool],
    *,
    within_s: float,
    what: str,
) -> AnswerT:
    """Return the first right answer; raise AssertionError naming `what` if none comes in time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while not is_right(answer := await ask()):
        if loop.time() >= deadline:
            raise AssertionError(f"waited {within_s} s in vain for {what}")
        await asyncio.sleep(_POLL_S)
    return answer


async def a_while(seconds: float) -> None:
    """Let time go by in which something must not happen."""
    await asyncio.sleep(seconds)


async def has_come_to_rest(count: Callable[[], int], *, quiet_s: float = 0.3) -> None:
    """Return once a count has stayed the same for a while."""
    seen = -1
    while seen != (now := count()):
        seen = now
        await asyncio.sleep(quiet_s)

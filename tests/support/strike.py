"""Does something at a chosen one of all the calls and awaits that some work makes.

The work is watched by the interpreter itself (`sys.settrace`). Each call that the sidecar makes, of
its own functions or of what stands in the place of its ports, and each return from an await is a
place at which anything may fail. Watched without a blow, the work tells its places; done again, it
can be hit at any of them.

It must not know what the work is for.
"""

from __future__ import annotations

import asyncio
import dis
import inspect
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final, final

_ROOT: Final = Path(__file__).resolve().parents[2]
_SIDECAR: Final = f"{_ROOT}/sidecar/"
_PORTS: Final = f"{_ROOT}/tests/support/"
_WAITS: Final = {
    asyncio.sleep.__code__,
    asyncio.wait.__code__,
    vars(asyncio.tasks)["_wait"].__code__,
}


@dataclass(slots=True, kw_only=True)
class Place:
    """One call, or one return from an await.

    Attributes:
        name: Where it is.
        is_await: What was awaited is there, or failed; only here may a cancellation come.
        is_port: It stands in the place of the outside world.
        is_inner: Something of its own can fail here: it does not only go on with an inner one.
    """

    name: str
    is_await: bool
    is_port: bool
    is_inner: bool = True


@final
class Watch:
    """Takes note of places, and may act at one.

    Attributes:
        is_on: Whether places count now; the work says when.
        places: Those passed so far.
        hit: The place at which it acted.
    """

    def __init__(
        self,
        *,
        roots: tuple[Callable[..., Any], ...],
        at: int | None = None,
        blow: Callable[[], None] = lambda: None,
    ) -> None:
        """Watch what runs below some functions.

        Args:
            roots: The outermost functions of the tasks to be watched.
            at: The number of the place to act at.
            blow: What is done there; what it raises is raised there.
        """
        self.is_on = False
        self.places: list[Place] = []
        self.hit: Place | None = None
        self._roots = {inspect.unwrap(root).__code__ for root in roots}
        self._at = at
        self._blow = blow
        self._last: FrameType | None = None

    @contextmanager
    def watching(self) -> Generator[None]:
        """Watch what runs meanwhile in this thread."""
        before = sys.gettrace()
        sys.settrace(self._trace)
        try:
            yield
        finally:
            sys.settrace(before)
            self.is_on = False
            self._last = None

    def _trace(self, frame: FrameType, event: str, _argument: object) -> None:
        if event != "call" or not self.is_on:
            return
        code, caller = frame.f_code, frame.f_back
        is_resumed = bool(code.co_flags & inspect.CO_COROUTINE) and frame.f_lasti > _start_of(code)
        if not _is_a_place(code, caller, is_resumed=is_resumed) or not self._is_of_a_root(frame):
            return
        if is_resumed and self.places and self.places[-1].is_await and self._last is caller:
            self.places[-1].is_inner = False
        self._last = frame
        is_port = not code.co_filename.startswith(_SIDECAR)
        self.places.append(Place(name=_name_of(code), is_await=is_resumed, is_port=is_port))
        if self._at == len(self.places) - 1:
            self._at, self.hit = None, self.places[-1]
            self._blow()

    def _is_of_a_root(self, frame: FrameType) -> bool:
        at: FrameType | None = frame
        while at is not None and at.f_code not in self._roots:
            at = at.f_back
        return at is not None


def _is_a_place(code: CodeType, caller: FrameType | None, *, is_resumed: bool) -> bool:
    if code.co_filename.startswith(_SIDECAR):
        return code.co_name != "<genexpr>"  # one that is closed is gone on with as well
    if code.co_filename.startswith(_PORTS):
        is_called_by_us = caller is not None and caller.f_code.co_filename.startswith(_SIDECAR)
        return is_resumed or is_called_by_us
    return is_resumed and code in _WAITS


def _name_of(code: CodeType) -> str:
    return f"{Path(code.co_filename).stem}.{code.co_qualname}"


@cache
def _start_of(code: CodeType) -> int:
    """Return where a function begins; a frame that stands there has only just been called."""
    return next(step.offset for step in dis.get_instructions(code) if step.opname == "RESUME")

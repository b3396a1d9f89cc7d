"""Keeps a library from swallowing the cancellation of whoever calls it.

`asyncio.wait_for` of Python 3.11 returns its result where the cancellation came in the same turn of
the loop; a task that asks in a loop then never ends, and with it neither does the process. It does
not know what was called.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def cancellation_heeded() -> Generator[None]:
    """Raise `asyncio.CancelledError` at the end if the task was cancelled meanwhile.

    Whatever the call brought or raised is let go, as with a cancellation that came through.
    """
    task = asyncio.current_task()
    before = 0 if task is None else task.cancelling()
    try:
        yield
    finally:
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError

"""What a piece of work does about a fault in it that nobody expected: it reports it, and goes on.

Where a token may be spent, "goes on" means that the work still comes to an end of the protocol. It
must not know what the work is.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from sidecar.domain.events import Event, WorkFailed
from sidecar.ports import Observer


def report(observer: Observer, *, where: str, error: BaseException) -> None:
    """Tell a fault of ours. Where even that fails there is nobody to tell."""
    with suppress(Exception):
        observer.observe(WorkFailed(where=where, error=type(error).__name__))


def tell(observer: Observer, event: Event, *, where: str) -> None:
    """Observe an event; an observer that fails ends no work."""
    try:
        observer.observe(event)
    except Exception as error:  # noqa: BLE001 - reported; what it tells of must go on
        report(observer, where=where, error=error)


def is_ending() -> bool:
    """Whether the running task itself was asked to end.

    Otherwise a `CancelledError` is some library's, and a fault like any other.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0

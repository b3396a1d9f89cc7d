from __future__ import annotations

import asyncio

import pytest

from sidecar.app.upkeep import ended, kept
from sidecar.domain.events import WorkFailed
from tests.support.sidecar_parts import RecordingObserver
from tests.support.virtual_time import in_virtual_time


@in_virtual_time
async def test_background_work_begins_anew_after_a_fault() -> None:
    """A fault in a gauge or a listener is reported by its class and place, and ends nothing."""
    observer = RecordingObserver()
    begun = 0

    async def work() -> None:
        nonlocal begun
        begun += 1
        if begun < 3:
            raise ValueError("eyJ-a-secret")
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(60):
            await kept(work, observer=observer)

    assert begun == 3
    reported = observer.of(WorkFailed)
    assert [event.where for event in reported] == ["upkeep", "upkeep"]
    assert all("secret" not in event.error for event in reported)


@in_virtual_time
async def test_background_work_that_misses_its_cancellation_ends_all_the_same() -> None:
    """A library may lose one; a process that was asked to stop must not wait for it for ever."""
    missed: list[str] = []

    async def work() -> None:
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if missed:
                    raise
                missed.append("as wait_for does in the step in which its work is done")

    task = asyncio.get_running_loop().create_task(kept(work, observer=RecordingObserver()))
    await asyncio.sleep(1)

    async with asyncio.timeout(10):
        await ended([task])

    assert missed
    assert task.cancelled()

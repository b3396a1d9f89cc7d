from __future__ import annotations

import asyncio

import pytest

from sidecar.app.upkeep import kept
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

"""An event loop in a thread of its own, for work that no other load may delay.

It knows nothing of the work; whoever uses it starts, calls and stops it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar, final

ResultT = TypeVar("ResultT")


@final
class LoopThread:
    """A running event loop beside the caller's."""

    def __init__(self, *, name: str, loop: asyncio.AbstractEventLoop) -> None:
        """Take over a loop that does not run yet."""
        self.loop = loop
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Let the loop run."""
        self._thread.start()

    async def call(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Return the result of `work`, run on the thread's loop; cancelling cancels it there."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.loop))

    def stop(self) -> None:
        """End the loop and the thread; what still runs there is cancelled."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            pending = asyncio.all_tasks(self.loop)
            for task in pending:
                task.cancel()
            self.loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        finally:
            self.loop.close()

"""How many claims may run at once: in all, and for one bank, so that a sick one delays nobody else.

Each claim in flight is what one killed process can cost, so they are few. A claim that waits
unusually long leaves the count, for its bank may hang for minutes; a hard limit on all remains.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import final


@dataclass(frozen=True, slots=True, kw_only=True)
class BerthLimits:
    """How many claims may run: swift ones in all and for one provider, and any at all."""

    swift: int = 16
    swift_per_provider: int = 8
    all: int = 128


@final
class Berths:
    """Rations running claims; belongs to one event loop."""

    def __init__(self, *, limits: BerthLimits, slow_after_s: float) -> None:
        self._limits = limits
        self._slow_after_s = slow_after_s
        self._swift: Counter[str] = Counter()
        self._running = 0
        self._freed = asyncio.Event()

    @property
    def running(self) -> int:
        """How many claims hold a berth now, slow ones included."""
        return self._running

    @asynccontextmanager
    async def berth(self, provider: str) -> AsyncGenerator[None]:
        """Hold a berth for a claim of `provider`; waits for one."""
        while not self._has_room(provider):
            self._freed.clear()
            await self._freed.wait()
        held = _Held(provider=provider)
        self._swift[provider] += 1
        self._running += 1
        slowing = asyncio.get_running_loop().call_later(self._slow_after_s, self._leave_swift, held)
        try:
            yield
        finally:
            slowing.cancel()
            self._running -= 1
            self._leave_swift(held)

    def _has_room(self, provider: str) -> bool:
        return (
            self._running < self._limits.all
            and self._swift.total() < self._limits.swift
            and self._swift[provider] < self._limits.swift_per_provider
        )

    def _leave_swift(self, held: _Held) -> None:
        """Stop counting a claim among the swift ones: it is slow now, or over."""
        if held.is_swift:
            held.is_swift = False
            self._swift[held.provider] -= 1
            if not self._swift[held.provider]:
                del self._swift[held.provider]
        self._freed.set()


@dataclass(slots=True, kw_only=True)
class _Held:
    provider: str
    is_swift: bool = True

"""How many claims may run at once: in all, and for one bank, so that a sick one delays nobody else.

Each claim in flight is what one killed process can cost, so they are few. A claim that waits
unusually long leaves the count of swift ones, for its bank may hang for minutes; in exchange it
keeps one of its own bank's places, and no bank with such claims takes the last places of all.

Whoever waits is let in by the step that makes room: in turn for each bank, and within a bank in
order. It must not know what a claim does.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import final

Turn = asyncio.Future[None]


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
        self._slow: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[Turn]] = OrderedDict()

    @property
    def running(self) -> int:
        """How many claims hold a berth now, slow ones included."""
        return self._swift.total() + self._slow.total()

    @property
    def waiting(self) -> int:
        """How many claims wait for a berth."""
        return sum(not turn.done() for turns in self._waiting.values() for turn in turns)

    @asynccontextmanager
    async def berth(self, provider: str) -> AsyncGenerator[None]:
        """Hold a berth for a claim of `provider`; waits for one."""
        await self._let_in(provider)
        held = _Held(provider=provider)
        slowing = asyncio.get_running_loop().call_later(self._slow_after_s, self._slow_down, held)
        try:
            yield
        finally:
            slowing.cancel()
            self._leave(provider, self._slow if held.is_slow else self._swift)

    async def _let_in(self, provider: str) -> None:
        """Return with a place in hand."""
        turn: Turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(provider, deque()).append(turn)
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # let in and cancelled in the same pass
                self._leave(provider, self._swift)
            raise

    def _has_room(self, provider: str) -> bool:
        slow = self._slow[provider]
        places = max(1, self._limits.swift_per_provider - slow)
        most = self._limits.all - (self._limits.swift if slow else 0)
        return (
            self.running < most
            and self._swift.total() < self._limits.swift
            and self._swift[provider] < places
        )

    def _slow_down(self, held: _Held) -> None:
        """Stop counting a claim among the swift ones."""
        held.is_slow = True
        self._slow[held.provider] += 1
        self._leave(held.provider, self._swift)

    def _leave(self, provider: str, count: Counter[str]) -> None:
        count[provider] -= 1
        if not count[provider]:
            del count[provider]
        self._admit()

    def _admit(self) -> None:
        """Let in whoever may enter now."""
        while (provider := self._next()) is not None:
            self._swift[provider] += 1

    def _next(self) -> str | None:
        """Wake the next that may enter; return its provider, or ``None`` if nobody may."""
        for provider, turns in list(self._waiting.items()):
            while turns and turns[0].done():  # whoever waited has left
                turns.popleft()
            if not turns:
                del self._waiting[provider]
            elif self._has_room(provider):
                turns.popleft().set_result(None)
                self._waiting.move_to_end(provider)
                return provider
        return None


@dataclass(slots=True, kw_only=True)
class _Held:
    provider: str
    is_slow: bool = False

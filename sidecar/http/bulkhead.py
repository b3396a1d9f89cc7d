"""Counts what the calls of one listener do, and says which of them exceeds its share of the slots.

The shares are the domain's (`sidecar.domain.bulkhead`). It refuses nothing itself and knows no
answers; it holds a count for each grant and bank with a call under way, and nothing beyond.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from typing import TypeVar, final

from sidecar.domain.bulkhead import BanksServed, SlotLimit, Slots
from sidecar.domain.record import GrantKey
from sidecar.http.doorway import Doorway
from sidecar.ports import Clock

NameT = TypeVar("NameT", str, GrantKey)


@final
class Bulkhead:
    """The shares of one listener's slots; belongs to one event loop."""

    def __init__(self, *, doorway: Doorway, most: int, clock: Clock) -> None:
        """Share out the `most` slots of a doorway."""
        self._doorway = doorway
        self._slots = Slots(most=most)
        self._clock = clock
        self._waiting = 0
        self._waiting_of: Counter[GrantKey] = Counter()
        self._calls: Counter[str] = Counter()
        self._banks = BanksServed()
        self._glancing = 0

    @property
    def is_beset(self) -> bool:
        """Whether as many calls glance as there are slots: one more is refused unseen."""
        return self._glancing >= self._slots.most

    @contextmanager
    def bank(self, bank: str) -> Generator[SlotLimit | None]:
        """Count a call of a bank, or yield the limit that it meets; it is not counted then."""
        limit = self._bank_limit(bank, others=self._calls[bank])
        if limit is not None:
            yield limit
            return
        with _counted(self._calls, bank):
            yield None

    @contextmanager
    def aside(self, bank: str) -> Generator[None]:
        """Let a call of a bank hold no slot meanwhile; then it looks at `crowding`."""
        self._calls[bank] -= 1
        try:
            with self._doorway.aside():
                yield
        finally:
            self._calls[bank] += 1

    def crowding(self, bank: str) -> SlotLimit | None:
        """Return the limit that a call of a bank meets that takes its slot again."""
        if self._doorway.is_crowded:
            return SlotLimit.ALL
        return self._bank_limit(bank, others=self._calls[bank] - 1)

    @contextmanager
    def waiting(self, key: GrantKey) -> Generator[SlotLimit | None]:
        """Count a call that waits for a token, or yield the limit that it meets."""
        limit = self._slots.refuse_wait(waiting=self._waiting, of_grant=self._waiting_of[key])
        if limit is not None:
            yield limit
            return
        self._waiting += 1
        try:
            with _counted(self._waiting_of, key):
                yield None
        finally:
            self._waiting -= 1

    @contextmanager
    def glancing(self) -> Generator[None]:
        """Count a call that looks, beyond its share, for what is known already."""
        self._glancing += 1
        try:
            yield
        finally:
            self._glancing -= 1

    def _bank_limit(self, bank: str, *, others: int) -> SlotLimit | None:
        is_only = self._banks.is_only(bank, self._clock.elapsed_s())
        return self._slots.refuse_bank(of_bank=others, is_only=is_only)

    def note_served(self, bank: str) -> None:
        """Take note that a call of a bank had its token."""
        self._banks = self._banks.after_call(bank, self._clock.elapsed_s())


@contextmanager
def _counted(counter: Counter[NameT], name: NameT) -> Generator[None]:
    counter[name] += 1
    try:
        yield
    finally:
        counter[name] -= 1
        if not counter[name]:
            del counter[name]

"""Offers many pairs of the spool to the store at once; it decides neither when nor which.

Most of a spool is known to the store, so that is looked up first: an offer for each pair would let
the claims of a restarted sidecar wait for as long as it has served users.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar, final

from sidecar.domain.record import GrantId, GrantRecord
from sidecar.domain.spooled import PairReceived
from sidecar.ports import StoreUnavailable
from sidecar.service.claim_parts import ClaimParts

LOOKED_UP_AT_ONCE = 256
OFFERED_AT_ONCE = 16
"""Half of the connections to the store: the others are for who asks."""

ItemT = TypeVar("ItemT")


@final
class Offers:
    """Brings the store what it lacks of the spool's pairs."""

    def __init__(self, *, parts: ClaimParts) -> None:
        self._store = parts.store
        self._journal = parts.journal
        self._committer = parts.committer

    async def offer_each(self, grants: Sequence[GrantId]) -> list[GrantId]:
        """Offer the pairs of these grants; return whose could not be stored.

        Most of a spool is known to the store, so that is looked up first, many at a time.
        """
        left: list[GrantId] = []
        pairs = self._journal.state.pairs
        for number, looked_up in enumerate(_slices(grants, LOOKED_UP_AT_ONCE), start=1):
            held = [pairs[grant] for grant in looked_up if grant in pairs]
            try:
                records = await self._store.read_each([received.grant for received in held])
            except StoreUnavailable:
                return [*left, *looked_up, *grants[number * LOOKED_UP_AT_ONCE :]]
            left += await self._offer([each for each in held if self._is_news(each, records)])
        return left

    def _is_news(
        self, received: PairReceived, records: Mapping[GrantId, GrantRecord | None]
    ) -> bool:
        grant = received.grant
        return grant not in records or not self._committer.is_known(received, records[grant])

    async def _offer(self, news: Sequence[PairReceived]) -> list[GrantId]:
        """Offer these pairs, several at once; return whose could not be stored.

        One failure ends nothing, since a store may have several servers and lack one. Where none of
        those that were offered at once could be stored, it is away.
        """
        left: list[GrantId] = []
        for number, offered in enumerate(_slices(news, OFFERED_AT_ONCE), start=1):
            are_stored = await asyncio.gather(*map(self._is_stored, offered))
            left += [
                received.grant
                for received, is_stored in zip(offered, are_stored, strict=True)
                if not is_stored
            ]
            if not any(are_stored):
                return [*left, *(received.grant for received in news[number * OFFERED_AT_ONCE :])]
        return left

    async def _is_stored(self, received: PairReceived) -> bool:
        held = self._journal.state.pairs.get(received.grant)
        if held is None or held.pair.position != received.pair.position:
            return True  # a newer one came meanwhile, and whoever brought it commits it
        try:
            await self._committer.offer(held, is_live=False)
        except StoreUnavailable:
            return False
        return True


def _slices(items: Sequence[ItemT], length: int) -> Iterator[Sequence[ItemT]]:
    for start in range(0, len(items), length):
        yield items[start : start + length]

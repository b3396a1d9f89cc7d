"""Reads records for the broker: one read at a time for each grant, none while the store is away.

It keeps nothing; what a record is worth is decided elsewhere.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self, final

from sidecar.domain.record import GrantId, GrantRecord
from sidecar.ports import StoreUnavailable, TokenStore
from sidecar.service.store_watch import StoreWatch


@final
class RecordReader:
    """Coalesced reads; used as a context, which ends them."""

    def __init__(self, *, store: TokenStore, watch: StoreWatch) -> None:
        self._store = store
        self._watch = watch
        self._reads: dict[GrantId, asyncio.Task[GrantRecord | StoreUnavailable | None]] = {}
        self._group = asyncio.TaskGroup()
        self._is_over = False

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_over = True
        for read in list(self._reads.values()):
            read.cancel()
        await self._group.__aexit__(kind, error, trace)

    async def read(self, grant: GrantId) -> GrantRecord | None:
        """Return the record, or ``None``.

        Raises:
            StoreUnavailable: At once while the watch knows the store to be away, or at the end.
        """
        if self._is_over or not self._watch.is_up:
            raise StoreUnavailable
        read = self._reads.get(grant)
        if read is None:
            read = self._group.create_task(self._read(grant))
            self._reads[grant] = read
            read.add_done_callback(lambda _: self._reads.pop(grant, None))
        result = await asyncio.shield(read)
        if isinstance(result, StoreUnavailable):
            raise StoreUnavailable from result
        return result

    async def _read(self, grant: GrantId) -> GrantRecord | StoreUnavailable | None:
        """Read; trouble is returned, since raised it would end the group and every other read."""
        try:
            return await self._store.read(grant)
        except StoreUnavailable as error:
            return error

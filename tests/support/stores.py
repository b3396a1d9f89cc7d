"""Opens Redis stores for a test, and asks of them what several tests want to know."""

from __future__ import annotations

from typing import Final

import pytest

from sidecar.adapters import redis_cluster, redis_connection, redis_sentinel
from sidecar.adapters.redis_store import RedisTokenStore
from sidecar.adapters.system import SystemClock
from sidecar.adapters.trust import Trust
from sidecar.domain.commands import Commit, CommitVerdict
from sidecar.domain.events import Event
from sidecar.domain.record import GrantId, GrantRecord
from sidecar.ports import StoreUnavailable

PATIENCE_S: Final = 3.0


class Unheard:
    """Observes nothing."""

    def observe(self, event: Event) -> None:
        """Let it pass."""


def store_at(
    url: str, prefix: str = "sidecar", *, tls_ca_file: str | None = None
) -> RedisTokenStore:
    """Return a store that nobody observes."""
    return RedisTokenStore(
        url=url,
        prefix=prefix,
        observer=Unheard(),
        clock=SystemClock(),
        trust=None if tls_ca_file is None else Trust(tls_ca_file),
    )


def have_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait longer than production does: a busy machine may need more than half a second."""
    monkeypatch.setattr(redis_connection, "ANSWER_WITHIN_S", PATIENCE_S)
    monkeypatch.setattr(redis_connection, "CONNECT_WITHIN_S", PATIENCE_S)
    monkeypatch.setattr(redis_connection, "FREE_CONNECTION_WITHIN_S", PATIENCE_S)
    monkeypatch.setattr(redis_sentinel, "ANSWER_WITHIN_S", PATIENCE_S)
    monkeypatch.setattr(redis_cluster, "MAP_WITHIN_S", PATIENCE_S)


async def tried(store: RedisTokenStore, grant: GrantId, command: Commit) -> CommitVerdict | None:
    """Commit, or return ``None`` if the store did not."""
    try:
        return await store.apply(grant, command)
    except StoreUnavailable:
        return None


async def scanned(store: RedisTokenStore, *, limit: int = 10) -> list[tuple[GrantId, GrantRecord]]:
    """Return what all pages of a scan hold."""
    found: list[tuple[GrantId, GrantRecord]] = []
    cursor, is_first = "", True
    while cursor or is_first:
        cursor, page = await store.scan(cursor, limit)
        found.extend(page)
        is_first = False
    return found

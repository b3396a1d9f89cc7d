"""One Redis server: a pool of connections to it, and what an error says about the whole server.

Asks once and lets every error out. Does not know whether it is the only server, nor what is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, final

from redis.asyncio import Redis
from redis.exceptions import (
    ClusterDownError,
    MasterDownError,
    ReadOnlyError,
    RedisError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from sidecar.adapters.redis_connection import Access, ServerPool
from sidecar.adapters.redis_trouble import trouble_of
from sidecar.domain.store_trouble import StoreTrouble

Word = str | bytes | int
Asked = tuple[str, tuple[Word, ...]]
"""A key and a command on it, for whichever server holds the key."""

MISPLACED: Final = (
    OSError,
    RedisConnectionError,
    RedisTimeoutError,
    ReadOnlyError,
    ClusterDownError,
    MasterDownError,
)
"""Errors after which another server may be the right one."""


def _ignored() -> None:
    """Nobody has another server to look for."""


@final
class RedisServer:
    """A server that is asked.

    Attributes:
        client: For calls; its types are partly unknown.
        subscriber: The same for a subscription, which keeps its connection.
    """

    def __init__(
        self,
        pool: ServerPool,
        *,
        on_trouble: Callable[[], None] = _ignored,
    ) -> None:
        self.client: Any = Redis(connection_pool=pool)
        self._pool = pool
        self._subscriptions = pool.for_subscriptions()
        self.subscriber: Any = Redis(connection_pool=self._subscriptions)
        self._on_trouble = on_trouble

    async def ask(self, *words: Word) -> Any:
        """Have one command carried out."""
        async with self._watched():
            return await self.client.execute_command(*words)

    async def ask_each(self, commands: Sequence[tuple[Word, ...]]) -> list[Any]:
        """Have commands carried out on one connection; an answer may be an error."""
        async with self._watched(), self.client.pipeline(transaction=False) as pipeline:
            for words in commands:
                pipeline.execute_command(*words)
            answers: list[Any] = await pipeline.execute(raise_on_error=False)
            return answers

    async def renew(self, access: Access) -> None:
        """Connect with `access` from now on; no call that runs is cut short."""
        await self._pool.renew(access)

    async def close(self) -> None:
        """Let every connection go, also one that waits for an answer; nothing is asked any more."""
        for let_go in (self._pool.end, self._subscriptions.disconnect):
            with suppress(RedisError, OSError):  # it is gone either way
                await let_go()

    @asynccontextmanager
    async def _watched(self) -> AsyncGenerator[None]:
        try:
            yield
        except ReadOnlyError:
            self._on_trouble()
            with suppress(RedisError, OSError):  # a former primary: the next call connects anew
                await self._pool.disconnect(inuse_connections=False)
            raise
        except MISPLACED:
            self._on_trouble()
            raise


async def causes_of_silence(servers: Sequence[RedisServer]) -> list[StoreTrouble]:
    """Open a connection to each server, which it keeps; return why some did not answer.

    One at least serves the calls if a server lets in no more later.
    """

    async def greet(server: RedisServer) -> StoreTrouble | None:
        try:
            await server.ask("PING")
        except (RedisError, OSError) as error:
            return trouble_of(error)
        return None

    causes = await asyncio.gather(*map(greet, servers))
    return [cause for cause in causes if cause is not None]

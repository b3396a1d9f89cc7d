"""The primary of a service, as its Sentinels name it; asked for anew every second and after errors.

redis-py asks a Sentinel only when it opens a connection. A former primary that was cut off or
stopped for a while keeps its connections, and for seconds a client that does not ask again reads
and writes what the failover has thrown away. Follows the Sentinels; decides nothing about records.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, final

from redis.exceptions import RedisError

from sidecar.adapters.redis_connection import Access, Entries, pool_of_server
from sidecar.adapters.redis_server import Asked, RedisServer, Word
from sidecar.adapters.redis_trouble import Refused, trouble_of
from sidecar.domain.addresses import TcpAddress
from sidecar.domain.store_trouble import StoreTrouble

LOOK_EVERY_S: Final = 1.0
ANSWER_WITHIN_S: Final = 0.3
GRACE_S: Final = 0.02
"""How long Sentinels that lag behind a majority are waited for, so that their connections live."""

LOOK_UP: Final = "SENTINEL GET-MASTER-ADDR-BY-NAME"


@final
class SentinelTopology:
    """One primary, which may change."""

    def __init__(
        self, *, sentinels: Sequence[TcpAddress], asking: Access, service: str, access: Access
    ) -> None:
        """Connect to nothing yet.

        Args:
            sentinels: Whom to ask.
            asking: How the Sentinels let us in.
            service: What they call the primary.
            access: How the primary lets us in.
        """
        self._sentinels = [RedisServer(pool_of_server(each, asking)) for each in sentinels]
        self._service = service
        self._access = access
        self._primary: RedisServer | None = None
        self._address: TcpAddress | None = None
        self._look_at_s = 0.0
        self._looking = asyncio.Lock()
        self._silence = StoreTrouble.NO_PRIMARY
        self._is_closed = False

    async def ask(self, key: str, *words: Word) -> Any:
        """Have the primary carry out one command."""
        del key  # it holds them all
        return await (await self._current()).ask(*words)

    async def ask_each(self, asked: Sequence[Asked]) -> list[Any]:
        """Have the primary carry out the commands on one connection."""
        return await (await self._current()).ask_each([words for _, words in asked])

    @property
    def shape(self) -> str:
        """Where the primary is."""
        return str(self._address)

    async def primaries(self, *, seen_by: RedisServer | None = None) -> Sequence[RedisServer]:
        """Return the primary."""
        del seen_by  # a server does not know better than the Sentinels
        return (await self._current(),)

    async def listener(self) -> RedisServer:
        """Return the primary, which publishes everything; let go when it is primary no more."""
        return await self._current()

    async def renew(self, entries: Entries) -> None:
        """Use `entries` for new connections, and let the others go."""
        self._access = entries.servers
        for sentinel in self._sentinels:
            await sentinel.renew(entries.sentinels)
        if self._primary is not None:
            await self._primary.renew(entries.servers)

    async def close(self) -> None:
        """Let every connection go; no primary is looked for any more."""
        self._is_closed = True
        for server in (*self._sentinels, self._primary):
            if server is not None:
                await server.close()

    async def _current(self) -> RedisServer:
        loop = asyncio.get_running_loop()
        if loop.time() >= self._look_at_s:
            async with self._looking:
                if loop.time() >= self._look_at_s:
                    await self._look()
                    self._look_at_s = loop.time() + LOOK_EVERY_S
        if self._is_closed:
            raise Refused(StoreTrouble.RESET)
        if self._primary is None:
            self._distrust()
            raise Refused(self._silence)
        return self._primary

    def _distrust(self) -> None:
        self._look_at_s = 0.0

    async def _look(self) -> None:
        """Take the primary that most Sentinels name; keep the one we have if none answers."""
        address = await self._named()
        if self._is_closed or address is None or address == self._address:
            return
        former, self._address = self._primary, address
        pool = pool_of_server(address, self._access)
        self._primary = RedisServer(pool, on_trouble=self._distrust)
        if former is not None:
            await former.close()

    async def _named(self) -> TcpAddress | None:
        """Return what more than half of them say, or else what most of those say that answer."""
        votes: Counter[TcpAddress] = Counter()
        self._silence = StoreTrouble.TIMEOUT
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(self._asked(sentinel)) for sentinel in self._sentinels]
            with suppress(TimeoutError):
                for answer in asyncio.as_completed(asked, timeout=ANSWER_WITHIN_S):
                    address = await answer
                    if address is not None:
                        votes[address] += 1
                        if 2 * votes[address] > len(asked):
                            await asyncio.wait(asked, timeout=GRACE_S)
                            break
            for each in asked:
                each.cancel()
        return votes.most_common(1)[0][0] if votes else None

    async def _asked(self, sentinel: RedisServer) -> TcpAddress | None:
        try:
            host, port = await sentinel.ask(LOOK_UP, self._service)
        except (RedisError, OSError) as error:
            self._silence = trouble_of(error)
            return None
        except (TypeError, ValueError):  # it does not know the service
            self._silence = StoreTrouble.NO_PRIMARY
            return None
        return TcpAddress(host=host.decode() if isinstance(host, bytes) else host, port=int(port))

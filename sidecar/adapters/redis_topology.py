"""Which servers the store is made of, and which of them holds a key: what a URL decides.

Knows the three forms and none of their rules, which are in `redis_sentinel` and `redis_cluster`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol, assert_never, final

from sidecar.adapters.redis_cluster import ClusterTopology
from sidecar.adapters.redis_connection import Access, Entries, access_of_url, pool_of_url
from sidecar.adapters.redis_pool import OnRefused, unheard
from sidecar.adapters.redis_sentinel import SentinelTopology
from sidecar.adapters.redis_server import Asked, RedisServer, Word
from sidecar.adapters.trust import Trust
from sidecar.domain.store_address import (
    ClusterNodes,
    OneServer,
    SentinelService,
    parse_store_address,
)


class Topology(Protocol):
    """The servers of a store. Each method may raise what the client library raises.

    Nothing is asked twice: a caller whose command may or may not have run has to know it.
    """

    async def ask(self, key: str, *words: Word) -> Any:
        """Have the primary that holds `key` carry out one command."""
        ...

    async def ask_each(self, asked: Sequence[Asked]) -> list[Any]:
        """Have many commands carried out, those for one server at once; an answer may be an error.

        Raises only where no command was carried out.
        """
        ...

    @property
    def shape(self) -> str:
        """Which servers hold what, as far as is known; another text whenever that changes."""
        ...

    async def primaries(self, *, seen_by: RedisServer | None = None) -> Sequence[RedisServer]:
        """Return the servers that hold all keys between them, in the order of `shape`.

        Args:
            seen_by: Whom to ask for them; anybody, or nobody if we know, when ``None``.
        """
        ...

    async def listener(self) -> RedisServer:
        """Return a server at which every published message is heard."""
        ...

    async def renew(self, entries: Entries) -> None:
        """Connect so from now on; connections go as soon as no call uses them."""
        ...

    async def close(self) -> None:
        """Let every connection go."""
        ...


@final
class SingleTopology:
    """One server that holds everything."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server

    async def ask(self, key: str, *words: Word) -> Any:
        """Have the server carry out one command."""
        del key  # it holds them all
        return await self._server.ask(*words)

    async def ask_each(self, asked: Sequence[Asked]) -> list[Any]:
        """Have the server carry out the commands on one connection."""
        return await self._server.ask_each([words for _, words in asked])

    @property
    def shape(self) -> str:
        """The same for ever."""
        return ""

    async def primaries(self, *, seen_by: RedisServer | None = None) -> Sequence[RedisServer]:
        """Return the server."""
        del seen_by
        return (self._server,)

    async def listener(self) -> RedisServer:
        """Return the server."""
        return self._server

    async def renew(self, entries: Entries) -> None:
        """Use `entries` for new connections, and let the others go."""
        await self._server.renew(entries.servers)

    async def close(self) -> None:
        """Let every connection go."""
        await self._server.close()


def entries_of(url: str, *, trust: Trust | None, on_refused: OnRefused = unheard) -> Entries:
    """Return how the servers that a URL names let us in.

    Args:
        url: Of any form.
        trust: Whom to trust; by default the system's authorities.
        on_refused: Is told where a server lets no more connections in.

    Raises:
        OSError: The URL names a client certificate that cannot be used.
        ValueError: As above.
    """
    address = parse_store_address(url)
    match address:
        case OneServer():
            access = replace(access_of_url(url, trust=trust), on_refused=on_refused)
            return Entries(servers=access, sentinels=access)
        case SentinelService():
            tls = (trust or Trust()).context if address.is_tls else None
            servers = Access(
                tls=tls, login=address.login, database=address.database, on_refused=on_refused
            )
            sentinels = replace(servers, login=address.sentinel_login, database=0)
            return Entries(servers=servers, sentinels=sentinels)
        case ClusterNodes():
            tls = (trust or Trust()).context if address.is_tls else None
            access = Access(tls=tls, login=address.login, on_refused=on_refused)
            return Entries(servers=access, sentinels=access)
        case _:
            assert_never(address)


def topology_of(url: str, *, trust: Trust | None, on_refused: OnRefused = unheard) -> Topology:
    """Return the servers that a URL names; nothing connects yet.

    Args:
        url: Of any form.
        trust: Whom to trust; by default the system's authorities.
        on_refused: Is told where a server lets no more connections in.

    Raises:
        ValueError: It names none; the message shows nothing of it.
    """
    address = parse_store_address(url)
    entries = entries_of(url, trust=trust, on_refused=on_refused)
    match address:
        case OneServer():
            pool = pool_of_url(url, trust=trust, on_refused=on_refused)
            return SingleTopology(RedisServer(pool))
        case SentinelService():
            return SentinelTopology(
                sentinels=address.sentinels,
                asking=entries.sentinels,
                service=address.service,
                access=entries.servers,
            )
        case ClusterNodes():
            return ClusterTopology(nodes=address.nodes, access=entries.servers)
        case _:
            assert_never(address)

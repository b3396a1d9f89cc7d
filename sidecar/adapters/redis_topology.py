"""Which servers the store is made of, and which of them holds a key: what a URL decides.

Knows the three forms and none of their rules, which are in `redis_sentinel` and `redis_cluster`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, assert_never, final

from sidecar.adapters.redis_cluster import ClusterTopology
from sidecar.adapters.redis_connection import Access, pool_of_url
from sidecar.adapters.redis_sentinel import SentinelTopology
from sidecar.adapters.redis_server import Asked, RedisServer, Word
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

    async def close(self) -> None:
        """Let every connection go."""
        await self._server.close()


def topology_of(url: str, *, tls_ca_file: str | None) -> Topology:
    """Return the servers that a URL names; nothing connects yet.

    Raises:
        ValueError: It names none; the message shows nothing of it.
    """
    address = parse_store_address(url)
    match address:
        case OneServer():
            return SingleTopology(RedisServer(pool_of_url(url, tls_ca_file=tls_ca_file)))
        case SentinelService():
            access = Access(
                is_tls=address.is_tls,
                tls_ca_file=tls_ca_file,
                login=address.login,
                database=address.database,
            )
            asking = Access(
                is_tls=address.is_tls, tls_ca_file=tls_ca_file, login=address.sentinel_login
            )
            return SentinelTopology(
                sentinels=address.sentinels, asking=asking, service=address.service, access=access
            )
        case ClusterNodes():
            access = Access(is_tls=address.is_tls, tls_ca_file=tls_ca_file, login=address.login)
            return ClusterTopology(nodes=address.nodes, access=access)
        case _:
            assert_never(address)

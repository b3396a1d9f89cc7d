"""Which primary of a Cluster holds a key: a map of slots, followed and mended by what servers say.

redis-py's own cluster client is not used: it runs a command again by itself, asks the servers one
by one after an error, and sends ASKING and its command on two connections. Here one command is sent
once to one server, and again only where that server named another one instead of running it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Final, final

from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, RedisError

from sidecar.adapters.redis_connection import Access, Entries, pool_of_server
from sidecar.adapters.redis_server import Asked, RedisServer, Word
from sidecar.adapters.redis_trouble import Refused, trouble_of
from sidecar.domain.addresses import TcpAddress
from sidecar.domain.store_trouble import StoreTrouble

MOST_REDIRECTIONS: Final = 3
MAP: Final = "CLUSTER SLOTS"
HESITATION_S: Final = 0.05
MAP_WITHIN_S: Final = 0.3
MAP_AGE_S: Final = 0.5

Slots = dict[tuple[int, int], TcpAddress]
"""First and last slot of each range, and the primary that holds it."""

Map = tuple[Slots, set[TcpAddress]]
"""The slots, and the replicas, who can be asked for a map as well."""


@final
class ClusterTopology:
    """Several primaries, each with its share of the slots."""

    def __init__(self, *, nodes: Sequence[TcpAddress], access: Access) -> None:
        """Connect to nothing yet; `nodes` need not be all of them."""
        self._seeds = tuple(nodes)
        self._access = access
        self._servers: dict[TcpAddress, RedisServer] = {}
        self._replicas: set[TcpAddress] = set()
        self._slots: Slots = {}
        self._ask_map_at_s = 0.0
        self._looking = asyncio.Lock()
        self._silence = StoreTrouble.TIMEOUT
        self._is_closed = False

    async def ask(self, key: str, *words: Word) -> Any:
        """Have the primary that holds `key` carry out one command."""
        await self._have_map()
        address = self._owner_of(key_slot(key.encode()))
        for _ in range(MOST_REDIRECTIONS):
            server = self._server(address)
            try:
                return await server.ask(*words)
            except MovedError as error:
                self._distrust()
                address = _named_by(error, address)
            except AskError as error:
                return await self._ask_once(_named_by(error, address), words)
        raise ClusterDownError("one server names the other")

    async def ask_each(self, asked: Sequence[Asked]) -> list[Any]:
        """Have each primary carry out its share; what has moved is asked for where it is now."""
        await self._have_map()
        shares: dict[TcpAddress, list[Asked]] = {}
        answers: dict[Asked, Any] = {}
        for each in asked:
            try:
                owner = self._owner_of(key_slot(each[0].encode()))
            except ClusterDownError as error:
                answers[each] = error
            else:
                shares.setdefault(owner, []).append(each)
        for found in await asyncio.gather(*(self._share_of(*share) for share in shares.items())):
            answers |= found
        return [answers[each] for each in asked]

    async def _share_of(self, address: TcpAddress, share: Sequence[Asked]) -> dict[Asked, Any]:
        try:
            answers = await self._server(address).ask_each([words for _, words in share])
        except (RedisError, OSError) as error:
            return dict.fromkeys(share, error)
        found = dict(zip(share, answers, strict=True))
        for each, answer in found.items():
            if isinstance(answer, AskError):  # MOVED as well
                key, words = each
                try:
                    found[each] = await self.ask(key, *words)
                except (RedisError, OSError) as error:
                    found[each] = error
        return found

    @property
    def shape(self) -> str:
        """Who holds which slots, as far as is known here."""
        return ",".join(
            f"{first}-{last} {at}"
            for (first, last), at in sorted(self._slots.items(), key=itemgetter(0))
        )

    async def primaries(self, *, seen_by: RedisServer | None = None) -> Sequence[RedisServer]:
        """Return every server that holds slots, in the order of its first one."""
        if seen_by is not None:
            await self._learn_from(seen_by)
        elif asyncio.get_running_loop().time() >= self._ask_map_at_s:
            await self._look()
        addresses = dict.fromkeys(
            address for _, address in sorted(self._slots.items(), key=itemgetter(0))
        )
        return tuple(self._server(address) for address in addresses)

    async def listener(self) -> RedisServer:
        """Return any primary: what is published at one is heard at all."""
        return random.choice(await self.primaries())  # noqa: S311 - no secret

    async def renew(self, entries: Entries) -> None:
        """Use `entries` for new connections, and let the others go."""
        self._access = entries.servers
        for server in list(self._servers.values()):
            await server.renew(entries.servers)

    async def close(self) -> None:
        """Let every connection go; no server is met any more."""
        self._is_closed = True
        for server in list(self._servers.values()):
            await server.close()

    async def _ask_once(self, address: TcpAddress, words: tuple[Word, ...]) -> Any:
        """Ask a server for a slot that is only on its way to it, as `words` alone could not."""
        _, answer = await self._server(address).ask_each([("ASKING",), words])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _owner_of(self, slot: int) -> TcpAddress:
        for (first, last), address in self._slots.items():
            if first <= slot <= last:
                return address
        self._distrust()
        raise ClusterDownError("nobody holds this slot")

    def _server(self, address: TcpAddress) -> RedisServer:
        server = self._servers.get(address)
        if server is None and self._is_closed:
            raise Refused(StoreTrouble.RESET)
        if server is None:
            pool = pool_of_server(address, self._access)
            server = self._servers[address] = RedisServer(pool, on_trouble=self._distrust)
        return server

    def _distrust(self) -> None:
        self._ask_map_at_s = 0.0

    async def _have_map(self) -> None:
        if not self._slots or self._ask_map_at_s == 0.0:
            await self._look()

    async def _look(self) -> None:
        """Take the first map that a known server has to offer; keep the old one if none has."""
        loop = asyncio.get_running_loop()
        async with self._looking:
            if self._ask_map_at_s > loop.time():
                return
            self._silence = StoreTrouble.TIMEOUT
            known = {*self._seeds, *self._slots.values(), *self._replicas}
            found = await self._first_map(random.sample(sorted(known, key=str), len(known)))
            if found is not None:
                await self._take(found)
            elif not self._slots:
                raise Refused(self._silence)
            self._ask_map_at_s = loop.time() + MAP_AGE_S

    async def _first_map(self, known: Sequence[TcpAddress]) -> Map | None:
        """Ask one server after the other, the next as soon as the last one hesitates."""
        found: Map | None = None
        async with asyncio.TaskGroup() as group:
            asked: set[asyncio.Task[Map | None]] = set()
            for number, address in enumerate(known, 1):
                asked.add(group.create_task(self._map_of(address)))
                patience_s = HESITATION_S if number < len(known) else MAP_WITHIN_S
                done, asked = await asyncio.wait(
                    asked, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED
                )
                found = next((each.result() for each in done if each.result()), None)
                if found is not None:
                    break
            for each in asked:
                each.cancel()
        return found

    async def _map_of(self, address: TcpAddress) -> Map | None:
        try:
            return _read_map(await self._server(address).ask(MAP), asked=address)
        except (RedisError, OSError) as error:
            self._silence = trouble_of(error)
            return None
        except (TypeError, ValueError):  # it does not speak of slots
            self._silence = StoreTrouble.UNREADABLE
            return None

    async def _learn_from(self, server: RedisServer) -> None:
        """Take the map that one server has, which knows best what it holds itself."""
        address = next(at for at, known in self._servers.items() if known is server)
        found = _read_map(await server.ask(MAP), asked=address)
        if found is not None:
            await self._take(found)

    async def _take(self, found: Map) -> None:
        self._slots, self._replicas = found
        wanted = {*self._seeds, *self._slots.values(), *self._replicas}
        for address in self._servers.keys() - wanted:
            await self._servers.pop(address).close()


def _read_map(answer: Any, *, asked: TcpAddress) -> Map | None:
    """Return who holds what; ``None`` if that server knows of nobody."""
    slots: Slots = {}
    replicas: set[TcpAddress] = set()
    for first, last, primary, *others in answer:
        slots[first, last] = _address_of(primary, asked)
        replicas.update(_address_of(other, asked) for other in others)
    return (slots, replicas) if slots else None


def _address_of(told: Sequence[Any], asked: TcpAddress) -> TcpAddress:
    """Return an address of a map; a server that does not know its own host leaves it out."""
    host = bytes(told[0] or b"").decode().strip("?")
    return TcpAddress(host=host or asked.host, port=int(told[1]))


def _named_by(error: AskError, asked: TcpAddress) -> TcpAddress:
    host, _, port = str(error).rpartition(" ")[2].rpartition(":")
    return TcpAddress(host=host or asked.host, port=int(port))

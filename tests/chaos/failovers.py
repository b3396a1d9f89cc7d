"""Failovers under load: the primary is killed or stopped, and what it alone had is counted.

Before each one the replicas are cut off for a moment, so that the primary acknowledges writes which
the failover throws away: the rarest moment of a failover, each time. What a replica lacks is read
from it before it is promoted, so that nothing that was healed since is missed.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar, final

from redis.exceptions import RedisError

from sidecar.adapters.redis_store import RedisTokenStore
from sidecar.domain.record import RunId
from sidecar.ports import StoreUnavailable
from tests.chaos.evidence import StoreRestart
from tests.chaos.witness import now_s
from tests.support.redis_fleet import ServerFleet, at_port, command
from tests.support.redis_server import RedisServer
from tests.support.stores import store_at

CUT_OFF_FOR_S: Final = 0.7
STOPPED_FOR_S: Final = 10.0
DEAD_FOR_S: Final = 4.0
WRITABLE_WITHIN_S: Final = 60.0
WHOLE_WITHIN_S: Final = 90.0
POLL_S: Final = 0.05
TRIES: Final = 5

AnswerT = TypeVar("AnswerT")
Position = tuple[int, str, int]
"""When the consent was given, the consent, the generation."""

NOWHERE: Final[Position] = (0, "", 0)


class Blow(StrEnum):
    """What happens to a primary."""

    KILL = "kill -9"
    STOP = "stop 10 s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One failover.

    Attributes:
        writable_s: From the blow until writes were taken again.
        forgotten: What the old primary had acknowledged and the new one lacked, by key.
        restart: The same as the oracle knows it.
        met_s: When the first sidecar met the new primary, by its own clock.
        keys: Every record that the primary held.
    """

    blow: Blow
    writable_s: float
    forgotten: Mapping[str, Position]
    restart: StoreRestart
    met_s: float
    keys: frozenset[str]


@final
class Failovers:
    """Makes a fleet of servers fail over, again and again."""

    def __init__(self, fleet: ServerFleet, *, prefix: str, calm_s: float) -> None:
        self.rounds: list[Round] = []
        self._fleet = fleet
        self._prefix = prefix
        self._calm_s = calm_s

    async def run(self, count: int) -> None:
        """Let there be so many failovers, by turns of both kinds; returns when all is whole."""
        for number, blow in zip(range(count), itertools.cycle(Blow), strict=False):
            await asyncio.sleep(self._calm_s)
            primaries = await asyncio.to_thread(self._fleet.primaries)
            await self._round(primaries[number % len(primaries)], blow)
            await self._until_whole()

    def unhealed(self) -> frozenset[str]:
        """Return records that are behind what Redis had once acknowledged and forgotten."""
        standing: dict[str, Position] = {}
        for primary in self._fleet.primaries():
            standing |= self._positions(primary)
        return frozenset(
            key
            for each in self.rounds
            for key, at in each.forgotten.items()
            if standing.get(key, NOWHERE) < at
        )

    async def _round(self, primary: RedisServer, blow: Blow) -> None:
        replicas = await asyncio.to_thread(_replicas_of, primary, self._fleet.servers)
        key = next(
            name
            for number in itertools.count()
            if self._fleet.holds(primary, name := f"{self._prefix}:canary:{now_s()}-{number}")
        )
        await asyncio.to_thread(_cut_off_replicas, primary)
        await asyncio.sleep(CUT_OFF_FOR_S)
        known = await asyncio.to_thread(self._positions, primary)
        down_s = now_s()
        if blow is Blow.KILL:
            primary.kill()
        else:
            primary.pause()
        lagging = {one.port: await asyncio.to_thread(self._positions, one) for one in replicas}
        up_s = await self._writable(key.rpartition(":")[2])
        port = await self._promoted(lagging.keys())
        forgotten = {key: at for key, at in known.items() if at > lagging[port].get(key, NOWHERE)}
        self.rounds.append(
            Round(
                blow=blow,
                writable_s=up_s - down_s,
                forgotten=forgotten,
                restart=StoreRestart(down_s=down_s, up_s=up_s, forgets=bool(forgotten)),
                met_s=await self._met_s(port),
                keys=frozenset(known),
            )
        )
        await asyncio.sleep(max(0.0, down_s + _down_for_s(blow) - now_s()))
        if blow is Blow.KILL:
            await asyncio.to_thread(primary.start)
        else:
            primary.resume()
            await asyncio.to_thread(
                command, primary, "ACL", "SETUSER", "default", "+psync", "+sync"
            )

    async def _writable(self, canary: str) -> float:
        """Return when the share of the lost primary takes a write."""
        await self._answered(lambda store: store.take_canary(canary, 60_000))
        return now_s()

    async def _answered(self, ask: Callable[[RedisTokenStore], Awaitable[AnswerT]]) -> AnswerT:
        """Ask the store until it answers."""
        store = store_at(self._fleet.url, self._prefix)
        try:
            async with asyncio.timeout(WRITABLE_WITHIN_S):
                while True:
                    with suppress(StoreUnavailable):
                        return await ask(store)
                    await asyncio.sleep(POLL_S)
        finally:
            await store.close()

    async def _promoted(self, replicas: Collection[int]) -> int:
        """Return which of some replicas is a primary now; who is asked may hear of it late."""
        async with asyncio.timeout(WRITABLE_WITHIN_S):
            while True:
                for one in await asyncio.to_thread(self._fleet.primaries):
                    if one.port in replicas:
                        return one.port
                await asyncio.sleep(POLL_S)

    async def _met_s(self, port: int) -> float:
        """Return from when on the quarantine counts."""
        with at_port(port) as client:
            now = client.info("server") | client.info("replication")
        incarnation = RunId(now["run_id"][:20] + now["master_replid"][:20])
        met = await self._answered(lambda store: store.meet(incarnation))
        return met.met_at_ms / 1000

    async def _until_whole(self) -> None:
        async with asyncio.timeout(WHOLE_WITHIN_S):
            while not await asyncio.to_thread(self._is_whole):  # noqa: ASYNC110 - servers
                await asyncio.sleep(POLL_S)

    def _is_whole(self) -> bool:
        try:
            return self._fleet.is_whole()
        except (RedisError, OSError):
            return False

    def _positions(self, server: RedisServer) -> dict[str, Position]:
        """Return what one server has, be it primary or replica.

        A replica that is just being promoted ends every connection; then it is asked again.
        """
        for patience in reversed(range(TRIES)):
            try:
                return self._read(server)
            except RedisError:
                if not patience:
                    raise
        raise AssertionError("it was asked at least once")

    def _read(self, server: RedisServer) -> dict[str, Position]:
        # At once: a replica that was cut off for ten times the time after which a primary counts as
        # down is promoted by no Sentinel.
        begin = f"{self._prefix}:c:{{"
        with at_port(server.port) as client:
            keys = list(client.scan_iter(match=f"{begin}*", count=10_000))
            is_clustered = client.info("cluster")["cluster_enabled"]
            with client.pipeline(transaction=False) as pipeline:
                if is_clustered:
                    pipeline.execute_command("READONLY")
                for key in keys:
                    pipeline.hmget(key, "liat", "lid", "gen")
                found = pipeline.execute()[1 if is_clustered else 0 :]
        return {key.decode(): _position(*fields) for key, fields in zip(keys, found, strict=True)}


def _down_for_s(blow: Blow) -> float:
    return DEAD_FOR_S if blow is Blow.KILL else STOPPED_FOR_S


def _position(at: bytes | None, consent: bytes | None, generation: bytes | None) -> Position:
    return int(at or 0), (consent or b"").decode(), int(generation or 0)


def _replicas_of(primary: RedisServer, servers: Sequence[RedisServer]) -> list[RedisServer]:
    with at_port(primary.port) as client:
        info = client.info("replication")
    ports = {int(info[f"slave{number}"]["port"]) for number in range(info["connected_slaves"])}
    return [server for server in servers if server.port in ports]


def _cut_off_replicas(primary: RedisServer) -> None:
    """End what replicas hear, and let none come back; the primary does not mind."""
    command(primary, "ACL", "SETUSER", "default", "-psync", "-sync")
    command(primary, "CLIENT", "KILL", "TYPE", "replica")

"""Several Redis servers that replace one another: a Sentinel set and a Cluster, on loopback.

They are as quick to fail over as they can be told to be. Made by commands from a client, with
whichever server there is; no other program is needed.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar, final

from redis import Redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import RedisError
from redis.retry import Retry

from tests.support.redis_server import RedisServer, free_port, server_program

SERVICE: Final = "tokens"
SLOTS: Final = 16384
DOWN_AFTER_MS: Final = 1000
READY_WITHIN_S: Final = 30
FULL_RESYNC_AT_ONCE: Final = ("--repl-diskless-sync-delay", "0", "--repl-timeout", "10")


class ServerFleet(Protocol):
    """What a test may do to several servers, whichever way they replace one another."""

    @property
    def url(self) -> str:
        """The address for a sidecar."""
        ...

    @property
    def servers(self) -> Sequence[RedisServer]:
        """Every data server."""
        ...

    def primaries(self) -> list[RedisServer]:
        """Return the servers that accept writes, as whoever decides about it sees them."""
        ...

    def holds(self, primary: RedisServer, key: str) -> bool:
        """Whether a primary holds a key."""
        ...

    def is_whole(self) -> bool:
        """Whether every primary has its replicas, and everybody knows everybody."""
        ...

    def start(self) -> None:
        """Start every process; return when writes are possible and replicas are in step."""
        ...

    def stop(self) -> None:
        """End every process."""
        ...


FleetT = TypeVar("FleetT", bound=ServerFleet)


@final
class SentinelFleet:
    """One primary, two replicas, three Sentinels."""

    def __init__(self, directory: Path, *options: str) -> None:
        self._directory = directory
        self.servers = [
            _server(directory / f"server-{number}", *options, *FULL_RESYNC_AT_ONCE)
            for number in range(3)
        ]
        self.sentinel_ports = [free_port() for _ in range(3)]
        self._sentinels: list[subprocess.Popen[bytes]] = []
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.sentinel_ports)
        self.url = f"redis+sentinel://{hosts}/{SERVICE}/0"

    def start(self) -> None:
        """Start everything; return when each Sentinel knows the others and both replicas."""
        first, *others = self.servers
        for server in self.servers:
            server.start()
        for server in others:
            with server.client() as client:
                client.replicaof("127.0.0.1", first.port)
        for port in self.sentinel_ports:
            self._start_sentinel(port)
        wait_for(self._is_complete, what="the Sentinels to know everybody")

    def primaries(self) -> list[RedisServer]:
        """Return the server that most Sentinels name."""
        named = [self._named_by(port) for port in self.sentinel_ports]
        port = max(set(named), key=named.count)
        return [server for server in self.servers if server.port == port]

    def holds(self, primary: RedisServer, key: str) -> bool:
        """Tell that the primary holds every key."""
        del primary, key
        return True

    def is_whole(self) -> bool:
        """Whether the primary has both replicas and nobody else takes itself for one."""
        return [has_replicas(server, 2) for server in self.primaries()] == [True]

    def stop_sentinels(self) -> None:
        """End those who know the primary."""
        for process in self._sentinels:
            process.kill()
            process.wait()

    def stop(self) -> None:
        """End every process."""
        self.stop_sentinels()
        for server in self.servers:
            server.stop()

    def _start_sentinel(self, port: int) -> None:
        config = self._directory / f"sentinel-{port}.conf"
        lines = (
            f"port {port}",
            "bind 127.0.0.1",
            f"dir {self._directory}",
            f'logfile "sentinel-{port}.log"',
            f"sentinel monitor {SERVICE} 127.0.0.1 {self.servers[0].port} 2",
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {SERVICE} 3000",
            f"sentinel parallel-syncs {SERVICE} 2",
        )
        config.write_text("\n".join(lines) + "\n")
        self._sentinels.append(subprocess.Popen([server_program(), str(config), "--sentinel"]))

    def _is_complete(self) -> bool:
        for port in self.sentinel_ports:
            with at_port(port) as client:
                state = client.sentinel_master(SERVICE)
            if state["num-slaves"] < 2 or state["num-other-sentinels"] < 2:
                return False
        return are_in_step(self.servers[0], replicas=2)

    def _named_by(self, port: int) -> int:
        with at_port(port) as client:
            named = client.sentinel_get_master_addr_by_name(SERVICE)
        return int(named[1]) if named else 0


@final
class ClusterFleet:
    """Three primaries with a third of the slots each, and one replica of each."""

    def __init__(self, directory: Path, *options: str) -> None:
        clustered = ("--cluster-enabled", "yes", "--cluster-node-timeout", str(DOWN_AFTER_MS))
        self._bus_ports = [free_port() for _ in range(6)]
        self.servers = [
            _server(
                directory / f"server-{number}",
                *(*clustered, "--cluster-port", str(bus_port)),
                *(*options, *FULL_RESYNC_AT_ONCE),
            )
            for number, bus_port in enumerate(self._bus_ports)
        ]
        self.url = "redis+cluster://" + ",".join(
            f"127.0.0.1:{server.port}" for server in self.servers[:3]
        )

    def start(self) -> None:
        """Start everything and make one Cluster of it."""
        for server in self.servers:
            server.start()
        first, *others = self.servers
        share = SLOTS // 3
        for index, server in enumerate(self.servers[:3]):
            last = SLOTS - 1 if index == 2 else (index + 1) * share - 1
            command(server, "CLUSTER", "SET-CONFIG-EPOCH", index + 1)
            command(server, "CLUSTER", "ADDSLOTSRANGE", index * share, last)
        for server in others:
            command(server, "CLUSTER", "MEET", "127.0.0.1", first.port, self._bus_ports[0])
        wait_for(self._is_met, what="the servers to know one another")
        for primary, replica in zip(self.servers[:3], self.servers[3:], strict=True):
            command(replica, "CLUSTER", "REPLICATE", command(primary, "CLUSTER", "MYID"))
        wait_for(self._is_complete, what="the cluster to be whole")

    def primaries(self) -> list[RedisServer]:
        """Return the servers that hold slots, as one that answers sees it."""
        for server in self.servers:
            try:
                with at_port(server.port) as client:
                    slots = client.execute_command("CLUSTER SLOTS")
            except (RedisError, OSError):
                continue
            ports = {int(primary[1]) for _, _, primary, *_ in slots}
            return [server for server in self.servers if server.port in ports]
        return []

    def holds(self, primary: RedisServer, key: str) -> bool:
        """Whether the key is in a slot of the primary."""
        slot = key_slot(key.encode())
        shares = command(primary, "CLUSTER", "SLOTS")
        return any(
            first <= slot <= last and int(holder[1]) == primary.port
            for first, last, holder, *_ in shares
        )

    def is_whole(self) -> bool:
        """Whether each third has a primary and a replica."""
        primaries = self.primaries()
        is_well = all(self._says(server, "cluster_state:ok") for server in self.servers)
        return is_well and all(has_replicas(server, 1) for server in primaries)

    def owner_of(self, slot: int) -> RedisServer:
        """Return the server that holds a slot, as the first one sees it."""
        for first, last, primary, *_ in command(self.servers[0], "CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(each for each in self.servers if each.port == int(primary[1]))
        raise AssertionError(f"nobody holds slot {slot}")

    def begin_move(self, slot: int, target: RedisServer) -> None:
        """Let a slot begin to move, and its keys move at once."""
        source = self.owner_of(slot)
        command(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", _id_of(source))
        command(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", _id_of(target))
        keys = command(source, "CLUSTER", "GETKEYSINSLOT", slot, 1000)
        if keys:
            command(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)

    def end_move(self, slot: int, target: RedisServer) -> None:
        """Let everybody know that the slot has arrived."""
        source = self.owner_of(slot)
        for server in (target, source):
            command(server, "CLUSTER", "SETSLOT", slot, "NODE", _id_of(target))

    def stop(self) -> None:
        """End every process."""
        for server in self.servers:
            server.stop()

    def _is_met(self) -> bool:
        return all(self._says(server, "cluster_known_nodes:6") for server in self.servers)

    def _is_complete(self) -> bool:
        return all(self._says(server, "cluster_state:ok") for server in self.servers) and all(
            are_in_step(server, replicas=1) for server in self.servers[:3]
        )

    def _says(self, server: RedisServer, words: str) -> bool:
        return words in str(command(server, "CLUSTER", "INFO"))


@contextmanager
def running(make: Callable[[Path], FleetT]) -> Generator[FleetT]:
    """Have servers of a kind running on a directory of their own."""
    with tempfile.TemporaryDirectory(prefix="sidecar-redis-") as directory:
        fleet = make(Path(directory))
        try:
            fleet.start()
            yield fleet
        finally:
            fleet.stop()


def wait_for(condition: Callable[[], bool], *, what: str) -> None:
    """Return once the servers are as they should be."""
    deadline = time.monotonic() + READY_WITHIN_S
    while not _holds(condition):
        if time.monotonic() >= deadline:
            raise AssertionError(f"waited {READY_WITHIN_S} s in vain for {what}")
        time.sleep(0.05)


def are_in_step(primary: RedisServer, *, replicas: int) -> bool:
    """Whether so many replicas have everything that the primary has."""
    with at_port(primary.port) as client:
        info = client.info("replication")
    at = info["master_repl_offset"]
    states = [info[f"slave{number}"] for number in range(info["connected_slaves"])]
    in_step = [state for state in states if state["state"] == "online" and state["offset"] == at]
    return info["role"] == "master" and len(in_step) >= replicas


def has_replicas(primary: RedisServer, count: int) -> bool:
    """Whether so many replicas follow a primary."""
    with at_port(primary.port) as client:
        info = client.info("replication")
    states = [info[f"slave{number}"]["state"] for number in range(info["connected_slaves"])]
    return info["role"] == "master" and states.count("online") == count


def at_port(port: int) -> Any:
    """Return a client that waits for nothing."""
    once = Retry(NoBackoff(), 0)
    return Redis(port=port, protocol=2, socket_timeout=1, socket_connect_timeout=1, retry=once)


def command(server: RedisServer, *words: str | int | bytes) -> Any:
    """Have one server carry out one command, as it comes off the wire."""
    with server.client() as client:
        client.response_callbacks.clear()
        return client.execute_command(*words)


def _id_of(server: RedisServer) -> bytes:
    name: bytes = command(server, "CLUSTER", "MYID")
    return name


def _holds(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except (RedisError, OSError):
        return False


def _server(directory: Path, *options: str) -> RedisServer:
    directory.mkdir()
    return RedisServer(directory, keeps_writes=True, options=options)

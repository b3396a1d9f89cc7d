"""What `config/redis` ships keeps data, on each kind of server: write, restart, compare all of it.

A file that is not started as it is shipped is not tested: only places and names are filled in.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from redis.exceptions import AuthenticationError

from sidecar.adapters.redis_store import RedisTokenStore
from sidecar.domain.record import GrantState
from tests.support.records import mark, pair
from tests.support.redis_fleet import at_port, wait_for
from tests.support.redis_server import PROGRAMS, RedisServer, free_port, program_of
from tests.support.shipped import (
    GRANTS,
    KINDS,
    LOGIN,
    PREFIX,
    SHIPPED,
    admit_operator,
    all_of,
    as_operator,
    filled_in,
    kinds_of,
    states_in,
    write_all,
)
from tests.support.stores import have_patience, store_at

OpenStore = Callable[[str], RedisTokenStore]
ALWAYS: Final = ("--appendfsync", "always")
STATES: Final = {name: "active" if name == "cooled" else name for name in GRANTS}


@pytest.fixture(params=PROGRAMS)
def program(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A server of each kind that the project's own environment has."""
    have_patience(monkeypatch)
    return program_of(request.param)


@pytest.fixture
def directory() -> Iterator[Path]:
    """Short, since the path of a unix socket has little room."""
    with tempfile.TemporaryDirectory(prefix="sidecar-redis-") as made:
        yield Path(made)


@pytest.fixture
async def open_store() -> AsyncIterator[OpenStore]:
    """Open stores of the shipped prefix, and close them whatever happens."""
    async with AsyncExitStack() as opened:

        def open_at(url: str) -> RedisTokenStore:
            store = store_at(url, PREFIX)
            opened.push_async_callback(store.close)
            return store

        yield open_at


def shipped_server(
    directory: Path, program: str, *options: str, config: str = "redis.conf"
) -> RedisServer:
    """Return a server on one of the shipped files, which are filled in already."""
    return RedisServer(
        directory,
        config=directory / "files" / config,
        options=options,
        program=program,
        login=LOGIN,
    )


async def filled(store: RedisTokenStore) -> None:
    """Write everything, and see that all of it was written."""
    await write_all(store)
    assert await states_in(store) == STATES


def ended_cleanly(server: RedisServer) -> None:
    server.shut_down()


def ended_by_a_power_cut(server: RedisServer) -> None:
    server.kill()


@pytest.mark.parametrize(
    ("options", "end"),
    [
        ((), ended_cleanly),
        (ALWAYS, ended_cleanly),
        (ALWAYS, ended_by_a_power_cut),
        (("--appendonly", "no"), ended_cleanly),
    ],
    ids=["as shipped", "always", "always, killed", "snapshot alone"],
)
async def test_a_restart_of_the_shipped_server_keeps_every_record(
    directory: Path,
    program: str,
    open_store: OpenStore,
    *,
    options: tuple[str, ...],
    end: Callable[[RedisServer], None],
) -> None:
    """With redis.conf and users.acl as shipped, all that was written is there afterwards."""
    filled_in(directory)
    server = shipped_server(directory, program, *options)
    try:
        server.start()
        store = open_store(server.url)
        await filled(store)
        before = all_of(server.url)

        end(server)
        server.start()

        assert all_of(server.url) == before
        assert await states_in(open_store(server.url)) == STATES
        assert kinds_of(before) == sorted(KINDS)
    finally:
        server.stop()


async def test_a_rewritten_append_only_file_keeps_every_record(
    directory: Path, program: str, open_store: OpenStore
) -> None:
    """What was written before the file was rewritten, and after, is there when it is read."""
    admit_operator(filled_in(directory))
    server = shipped_server(directory, program)
    try:
        server.start()
        store = open_store(server.url)
        await filled(store)
        with as_operator(server.port) as operator:
            operator.bgrewriteaof()
            wait_for(lambda: is_rewritten(operator), what="the file to be rewritten")
        await store.apply(GRANTS[GrantState.LEASED], mark(pair().position))
        before = all_of(server.url)

        server.shut_down()
        server.start()

        assert all_of(server.url) == before
        assert await states_in(open_store(server.url)) == STATES | {GrantState.LEASED: "sending"}
    finally:
        server.stop()


def is_rewritten(operator: Any) -> bool:
    info = operator.info("persistence")
    is_busy = info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"]
    return not is_busy and int(info["aof_last_rewrite_time_sec"]) >= 0


async def test_the_shipped_cluster_keeps_every_record(
    directory: Path, program: str, open_store: OpenStore
) -> None:
    """With cluster.conf, redis.conf and users.acl, on a server that holds all slots."""
    admit_operator(filled_in(directory))
    options = ("--cluster-port", str(free_port()))
    server = shipped_server(directory, program, *options, config="cluster.conf")
    try:
        server.start()
        with as_operator(server.port) as operator:
            operator.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            wait_for(lambda: is_whole(operator), what="the cluster to be whole")
        await filled(open_store(f"redis+cluster://{LOGIN}127.0.0.1:{server.port}"))
        before = all_of(server.url)

        server.shut_down()
        server.start()

        with as_operator(server.port) as operator:
            wait_for(lambda: is_whole(operator), what="the cluster to be whole again")
        assert all_of(server.url) == before
    finally:
        server.stop()


def is_whole(server: Any) -> bool:
    info: bytes = server.execute_command("CLUSTER", "INFO")
    return info.count(b"cluster_state:ok") == 1


async def test_the_shipped_sentinels_hand_over_every_record(
    directory: Path, program: str, open_store: OpenStore
) -> None:
    """With sentinel.conf, redis.conf and users.acl: after a failover, and after a restart."""
    fleet = ShippedSentinels(directory, program)
    try:
        fleet.start()
        await filled(open_store(fleet.url))
        before = all_of(fleet.primary.url)

        fleet.fail_over()
        after = all_of(fleet.replica.url)
        fleet.replica.shut_down()
        fleet.replica.start()

        assert after == before
        assert all_of(fleet.replica.url) == before
    finally:
        fleet.stop()


class ShippedSentinels:
    """A primary, a replica and three Sentinels, each with a copy of its own of the files."""

    def __init__(self, directory: Path, program: str) -> None:
        self._directory = directory
        self._program = program
        self.primary, self.replica = (self._server(name) for name in ("one", "two"))
        self._ports = [free_port() for _ in range(3)]
        self._sentinels: list[subprocess.Popen[bytes]] = []
        hosts = ",".join(f"127.0.0.1:{port}" for port in self._ports)
        self.url = f"redis+sentinel://{LOGIN}{hosts}/tokens/0"

    def start(self) -> None:
        for server in (self.primary, self.replica):
            server.start()
        with as_operator(self.replica.port) as replica:
            replica.execute_command("REPLICAOF", "127.0.0.1", self.primary.port)
        wait_for(self._is_in_step, what="the replica to follow")
        for port in self._ports:
            self._start_sentinel(port)
        for port in self._ports:
            wait_for(partial(knows_everybody, port), what="a Sentinel to know everybody")

    def fail_over(self) -> None:
        """End the primary; return once the replica was promoted in its place."""
        wait_for(self._is_in_step, what="the replica to have everything")
        self.primary.shut_down()
        with as_operator(self.replica.port) as replica:
            wait_for(lambda: replica.info("replication")["role"] == "master", what="the promotion")

    def stop(self) -> None:
        for process in self._sentinels:
            process.kill()
            process.wait()
        self.primary.stop()
        self.replica.stop()

    def _is_in_step(self) -> bool:
        with as_operator(self.primary.port) as primary, as_operator(self.replica.port) as replica:
            given, taken = primary.info("replication"), replica.info("replication")
        return bool(
            given["connected_slaves"] == 1
            and taken["master_link_status"] == "up"
            and taken["slave_repl_offset"] == given["master_repl_offset"]
        )

    def _server(self, name: str) -> RedisServer:
        place = self._directory / name
        place.mkdir()
        admit_operator(filled_in(place, has_replicas=True))
        return shipped_server(place, self._program, "--repl-diskless-sync-delay", "0")

    def _start_sentinel(self, port: int) -> None:
        place = self._directory / str(port)
        place.mkdir()
        config = filled_in(place, primary_port=self.primary.port) / "sentinel.conf"
        config.write_text(config.read_text("utf-8").replace("port 26379", f"port {port}"))
        log = str(place / "sentinel.log")
        command = [self._program, str(config), "--sentinel", "--logfile", log]
        self._sentinels.append(subprocess.Popen(command))


def knows_everybody(port: int) -> bool:
    with at_port(port) as client:
        state = client.sentinel_master("tokens")
    return (int(state["num-slaves"]), int(state["num-other-sentinels"])) == (1, 2)


def test_every_file_of_the_store_is_started_here() -> None:
    """A file that joins them needs a test of its own."""
    assert {file.name for file in SHIPPED.iterdir()} == {
        "cluster.conf",
        "redis.conf",
        "sentinel.conf",
        "users.acl",
    }


def test_nobody_is_let_in_without_a_password(directory: Path, program: str) -> None:
    """The default user has rights, for what a server loads of its own disk, and no way in."""
    filled_in(directory)
    server = shipped_server(directory, program)
    try:
        server.start()
        with at_port(server.port) as client, pytest.raises(AuthenticationError):
            client.get("sidecar:agreed")
        for user in ("default", "sidecar", "replica", "sentinel"):
            for password in ("", "nopass", "default"):
                with at_port(server.port) as client, pytest.raises(AuthenticationError):
                    client.execute_command("AUTH", user, password)
    finally:
        server.stop()

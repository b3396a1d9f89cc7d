"""What went wrong with the store is called by its name, and an ended connection is its outage.

Whichever loop the process runs on, and whatever that loop raises.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest
import uvloop
from redis._parsers.base import BaseParser
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from sidecar.adapters.redis_connection import pool_of_url
from sidecar.adapters.redis_server import RedisServer as AskedServer
from sidecar.adapters.redis_trouble import ends_told, trouble_of
from sidecar.domain.record import GrantId
from sidecar.domain.store_trouble import StoreTrouble
from sidecar.ports import StoreUnavailable
from tests.support.records import live, pair
from tests.support.redis_server import RedisServer, free_port
from tests.support.stores import store_at
from tests.support.tls import private_tls

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
LOOPS: Final = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
GRANT: Final = GrantId("0a" * 16)
CALLERS: Final = 30
CLOSINGS: Final = 12


async def _outcomes_while_closing(url: str) -> Counter[str]:
    """Return what became of many calls whose pool was closed at each of several moments."""
    met: Counter[str] = Counter()

    async def ask(server: AskedServer) -> None:
        try:
            for _ in range(3):
                await server.ask("ECHO", "word")
        except (RedisError, OSError):
            met["outage"] += 1
        except Exception as error:  # noqa: BLE001 - what the test is about
            met[f"fault: {type(error).__name__}"] += 1
        else:
            met["answered"] += 1

    async def close(server: AskedServer, *, turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        await server.close()

    for number in range(CLOSINGS):
        server = AskedServer(pool_of_url(url))
        async with asyncio.TaskGroup() as group:
            for _ in range(CALLERS):
                group.create_task(ask(server))
            group.create_task(close(server, turns=3 * number))
        open_now = list(server.client.connection_pool._available_connections)
        met["left open"] += sum(each.is_connected for each in open_now)
        with pytest.raises(RedisConnectionError):
            await server.ask("PING")
    return met


@pytest.mark.parametrize("loop_factory", LOOPS.values(), ids=LOOPS)
@pytest.mark.parametrize("is_local", [False, True], ids=["tcp", "unix"])
def test_a_pool_that_closes_under_load_is_an_outage_of_the_store(
    *, redis_server: RedisServer, loop_factory: LoopFactory, is_local: bool
) -> None:
    """As after each failover: no call ends as a fault of the sidecar, and no connection stays."""
    url = redis_server.unix_url if is_local else redis_server.url

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        met = runner.run(_outcomes_while_closing(url))

    assert met["outage"] + met["answered"] == CALLERS * CLOSINGS, met
    assert met["outage"] > 0
    assert met["left open"] == 0


@pytest.mark.parametrize("form", ["redis_url", "sentinel_url", "cluster_url"])
async def test_a_store_that_closes_under_load_raises_nothing_but_its_outage(
    request: pytest.FixtureRequest, form: str
) -> None:
    """Whatever is asked of it: records, pages, the clock, hints, of each kind of deployment."""
    url: str = request.getfixturevalue(form)
    for number in range(CLOSINGS):
        store = store_at(url)
        asked: list[Awaitable[object]] = [
            ask
            for _ in range(CALLERS // 5)
            for ask in (
                store.read(GRANT),
                store.read_each([GRANT]),
                store.scan("", 10),
                store.probe(),
                store.inspect(),
            )
        ]
        hints = asyncio.ensure_future(anext(aiter(store.listen()), None))
        calls = asyncio.gather(*asked, return_exceptions=True)
        for _ in range(5 * number):
            await asyncio.sleep(0)
        await store.close()

        outcomes = await calls
        heard = await hints
        raised = {type(each) for each in outcomes if isinstance(each, BaseException)}
        assert (raised - {StoreUnavailable}, heard) == (set(), None)


@pytest.mark.parametrize("kind", [AttributeError, RuntimeError, TypeError, ValueError, KeyError])
async def test_whatever_an_ended_connection_raises_is_an_outage(kind: type[Exception]) -> None:
    """Each loop and each version of asyncio stumble over ended transports in their own ways."""
    with pytest.raises(RedisConnectionError) as caught, ends_told():
        raise kind("'NoneType' object has no attribute 'writelines'")

    assert trouble_of(caught.value) is StoreTrouble.RESET
    assert isinstance(caught.value.__cause__, kind)


@pytest.mark.parametrize("error", [ResponseError("ERR"), OSError(5, "x"), MemoryError()])
async def test_what_says_what_it_is_stays_what_it_is(error: Exception) -> None:
    """Only what no one can tell apart from a fault is made an outage."""
    with pytest.raises(type(error)) as caught, ends_told():
        raise error

    assert caught.value is error


async def test_a_cancellation_is_no_outage() -> None:
    """A task that was told to end does so."""

    async def wait() -> None:
        with ends_told():
            await asyncio.Event().wait()

    waiting = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])

    assert waiting.cancelled()


async def test_a_cancellation_of_what_was_waited_for_is_an_outage() -> None:
    """Several tasks wait for one connection to close; the time of one of them is up."""
    closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def wait() -> None:
        with ends_told():
            await closed

    first, second = (asyncio.ensure_future(wait()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first, second])

    assert first.cancelled()
    assert isinstance(second.exception(), RedisConnectionError)


METHODS: Final[dict[str, Callable[[Any], Awaitable[object]]]] = {
    "send_packed_command": lambda connection: connection.send_command("PING"),
    "read_response": lambda connection: connection.read_response(),
    "can_read": lambda connection: connection.can_read(),
    "disconnect": lambda connection: connection.disconnect(),
    "connect_check_health": lambda connection: connection.connect(),
}


@pytest.mark.parametrize("name", METHODS)
async def test_each_method_of_a_connection_tells_its_end(
    redis_url: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of them meets a stream that another task has let go."""
    server = AskedServer(pool_of_url(redis_url))
    connection: Any = server.client.connection_pool.make_connection()
    if name != "connect_check_health":
        await connection.connect()
    below = next(each for each in type(connection).__mro__ if each.__module__.startswith("redis."))
    assert name in dir(below)

    async def stumble(*_: object, **__: object) -> None:
        raise AttributeError("'NoneType' object has no attribute 'drain'")

    with monkeypatch.context() as patch:
        patch.setattr(below, name, stumble)
        with pytest.raises(RedisConnectionError):
            await METHODS[name](connection)

    await connection.disconnect()
    await server.close()


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ("NOAUTH Authentication required.", StoreTrouble.NOAUTH),
        ("WRONGPASS invalid username-password pair or user is disabled.", StoreTrouble.WRONGPASS),
        ("NOPERM this user has no permissions to run the 'get' command", StoreTrouble.NOPERM),
        ("LOADING Redis is loading the dataset in memory", StoreTrouble.LOADING),
        ("READONLY You can't write against a read only replica.", StoreTrouble.READONLY),
        ("MASTERDOWN Link with MASTER is down", StoreTrouble.MASTERDOWN),
        ("CLUSTERDOWN The cluster is down", StoreTrouble.CLUSTERDOWN),
        ("TRYAGAIN Multiple keys request during rehashing of slot", StoreTrouble.MOVING),
        ("MOVED 866 127.0.0.1:1", StoreTrouble.MOVING),
        ("ASK 866 127.0.0.1:1", StoreTrouble.MOVING),
        ("NOREPLICAS Not enough good replicas to write.", StoreTrouble.NOREPLICAS),
        ("OOM command not allowed when used memory > 'maxmemory'.", StoreTrouble.OOM),
        ("MISCONF Redis is configured to save RDB snapshots", StoreTrouble.MISCONF),
        ("BUSY Redis is busy running a script.", StoreTrouble.BUSY),
        ("UNKILLABLE The busy script was sent by a master", StoreTrouble.BUSY),
        ("ERR max number of clients reached", StoreTrouble.MAXCLIENTS),
        ("ERR unknown command 'CONFIG'", StoreTrouble.ERROR),
        ("ERR ACL failure in script: No permissions to access a key", StoreTrouble.NOPERM),
        ("ERR The user executing the script can't run this command", StoreTrouble.NOPERM),
        ("WRONGTYPE Operation against a key", StoreTrouble.ERROR),
    ],
)
def test_what_a_server_says_has_its_cause(said: str, cause: StoreTrouble) -> None:
    """By the first word of its answer, as the client library reads it."""
    parser: Any = BaseParser

    assert trouble_of(parser.parse_error(said)) is cause


async def cause_met_at(url: str, *, tls_ca_file: str | None = None) -> StoreTrouble:
    """Return why a commit, which is a write, failed."""
    store = store_at(url, tls_ca_file=tls_ca_file)
    try:
        with pytest.raises(StoreUnavailable) as caught:
            await store.apply(GRANT, live(pair(), None))
        return caught.value.cause
    finally:
        await store.close()


@pytest.mark.parametrize("form", ["redis://", "redis+sentinel://", "redis+cluster://"])
async def test_a_port_on_which_nothing_listens_is_refused(form: str) -> None:
    """Of one server, of Sentinels and of a Cluster."""
    path = "/tokens/0" if "sentinel" in form else ""

    assert await cause_met_at(f"{form}127.0.0.1:{free_port()}{path}") is StoreTrouble.REFUSED
    assert await cause_met_at(f"{form}localhost:{free_port()}{path}") is StoreTrouble.REFUSED


async def test_a_socket_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """As a port on which nothing listens is."""
    assert await cause_met_at(f"unix://{tmp_path}/redis.sock") is StoreTrouble.REFUSED


async def test_a_name_without_an_address_is_told_from_a_server_that_is_away() -> None:
    """The top-level domain `invalid` never has one."""
    assert await cause_met_at("redis://redis.invalid:6379/0") is StoreTrouble.DNS


async def test_a_silent_server_is_a_timeout(redis_server: RedisServer) -> None:
    """It takes the connection and says nothing."""
    redis_server.pause()

    assert await cause_met_at(redis_server.url) is StoreTrouble.TIMEOUT

    redis_server.resume()


async def test_a_connection_that_is_hung_up_is_a_reset() -> None:
    """Something listens there and wants nothing of us."""

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    listener = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with listener:
        assert await cause_met_at(f"redis://127.0.0.1:{port}/0") is StoreTrouble.RESET


async def test_a_certificate_that_is_not_trusted_is_told_from_a_port_without_tls(
    tmp_path: Path, redis_url: str
) -> None:
    """The first wants an authority or a name, the second another port."""
    tls = private_tls(tmp_path)

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(hold, "127.0.0.1", 0, ssl=tls.server)
    port = listener.sockets[0].getsockname()[1]
    async with listener:
        untrusted = await cause_met_at(f"rediss://localhost:{port}/0")
        misnamed = await cause_met_at(f"rediss://127.0.0.1:{port}/0", tls_ca_file=str(tls.ca_file))
    plain = await cause_met_at(
        redis_url.replace("redis://", "rediss://"), tls_ca_file=str(tls.ca_file)
    )

    assert (untrusted, misnamed) == (StoreTrouble.CERTIFICATE, StoreTrouble.CERTIFICATE)
    assert plain in {StoreTrouble.TLS, StoreTrouble.RESET, StoreTrouble.TIMEOUT}


Words = tuple[str | int, ...]


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (("CONFIG", "SET", "requirepass", "secret"), StoreTrouble.NOAUTH),
        (("CONFIG", "SET", "min-replicas-to-write", 1), StoreTrouble.NOREPLICAS),
        (("REPLICAOF", "127.0.0.1", 1), StoreTrouble.READONLY),
        (("ACL", "SETUSER", "default", "-eval"), StoreTrouble.NOPERM),
        (("ACL", "SETUSER", "default", "-hset"), StoreTrouble.NOPERM),
    ],
    ids=["noauth", "noreplicas", "readonly", "noperm", "noperm-in-a-script"],
)
async def test_a_server_that_refuses_is_called_by_what_it_refuses(
    redis_server: RedisServer, words: Words, cause: StoreTrouble
) -> None:
    """Also where it refuses within a script."""
    with redis_server.client() as client:
        client.execute_command(*words)

    assert await cause_met_at(redis_server.url) is cause


async def test_a_full_server_is_called_full(redis_server: RedisServer) -> None:
    """A lease needs room; the store is not away for it, and still takes pairs."""
    with redis_server.client() as client:
        client.config_set("maxmemory", 1)
    store = store_at(redis_server.url)

    with pytest.raises(StoreUnavailable) as caught:
        await store.take_canary("sweep", 10)
    pulse = await store.probe()
    await store.close()

    assert caught.value.cause is StoreTrouble.OOM
    assert pulse.run_ids


async def test_a_user_that_is_refused_is_told_from_a_server_that_is_away(
    redis_server: RedisServer,
) -> None:
    """A wrong password, of one server and of Sentinels."""
    wrong = redis_server.url.replace("redis://", "redis://someone:CANARY@")

    assert await cause_met_at(wrong) is StoreTrouble.WRONGPASS


async def test_sentinels_that_do_not_know_the_service_are_told_from_silent_ones(
    sentinel_url: str,
) -> None:
    """The name in the address is wrong, not the network."""
    unknown = sentinel_url.replace("/tokens/", "/unknown/")

    assert await cause_met_at(unknown) is StoreTrouble.NO_PRIMARY


def test_an_error_of_several_addresses_has_the_cause_of_one() -> None:
    """As `localhost` gives it, which is two addresses."""
    several = OSError("Multiple exceptions: [Errno 111] Connect call failed, [Errno 111] again")

    assert trouble_of(several) is StoreTrouble.REFUSED
    assert trouble_of(OSError(24, "Too many open files")) is StoreTrouble.DESCRIPTORS
    assert trouble_of(socket.gaierror(-2, "Name or service not known")) is StoreTrouble.DNS
    assert trouble_of(RuntimeError()) is StoreTrouble.ERROR

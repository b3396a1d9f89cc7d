"""A server that lets in no more: the connections that live go on serving, and it is named."""

from __future__ import annotations

import asyncio
import errno
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import pytest
import uvloop

from sidecar.adapters.redis_connection import pool_of_url
from sidecar.adapters.redis_pool import OPEN_AGAIN_S
from sidecar.adapters.redis_server import RedisServer as AskedServer
from sidecar.adapters.redis_store import RedisTokenStore
from sidecar.adapters.redis_trouble import Refused
from sidecar.adapters.system import SystemClock
from sidecar.domain.events import Event, StoreTroubled
from sidecar.domain.record import GrantId
from sidecar.domain.store_trouble import StoreTrouble
from sidecar.ports import StoreUnavailable
from tests.support.redis_server import RedisServer
from tests.support.stores import have_patience
from tests.support.wait import eventually, until

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
LOOPS: Final = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
GRANT: Final = GrantId("0a" * 16)
CALLERS: Final = 29
ROOM: Final = 4


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may need more than half a second for many calls over one connection."""
    have_patience(monkeypatch)


class Causes:
    """Counts why the store was in trouble."""

    def __init__(self) -> None:
        self.met: Counter[StoreTrouble] = Counter()

    def observe(self, event: Event) -> None:
        if isinstance(event, StoreTroubled):
            self.met[event.cause] += 1


@asynccontextmanager
async def store_at(url: str, causes: Causes) -> AsyncGenerator[RedisTokenStore]:
    store = RedisTokenStore(url=url, prefix="sidecar", observer=causes, clock=SystemClock())
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def every_connection_taken(server: RedisServer) -> AsyncGenerator[None]:
    """Let others hold every connection of the server that is free."""
    async with AsyncExitStack() as held:
        client = held.enter_context(server.client())
        client.config_set("maxclients", ROOM)
        is_full = False
        while not is_full:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            held.callback(writer.close)
            writer.write(b"PING\r\n")
            is_full = b"max number" in await reader.readline()
        yield
        client.config_set("maxclients", 1000)


def plain_kind(pool: Any) -> type[object]:
    """Return the library's own class of the connections of a pool."""
    kinds: tuple[type[object], ...] = pool.connection_class.__mro__
    return next(each for each in kinds if each.__module__.startswith("redis."))


async def _outcomes_of_calls(url: str, server: RedisServer, *, is_warm: bool) -> list[Any]:
    causes, outcomes = Causes(), Counter[str]()

    async def read(store: RedisTokenStore) -> None:
        try:
            await store.read(GRANT)
        except StoreUnavailable as error:
            outcomes[error.cause] += 1
        else:
            outcomes["ok"] += 1

    async with store_at(url, causes) as store:
        if is_warm:
            await store.read(GRANT)
        async with every_connection_taken(server):
            await asyncio.gather(*(read(store) for _ in range(CALLERS)))
    return [dict(outcomes), set(causes.met)]


@pytest.mark.parametrize("loop_factory", LOOPS.values(), ids=LOOPS)
def test_a_full_server_serves_every_call_over_the_connections_it_has(
    redis_server: RedisServer, loop_factory: LoopFactory
) -> None:
    """Many calls at once over one connection that lives, and the cause is told all the same."""
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        outcomes, causes = runner.run(
            _outcomes_of_calls(redis_server.url, redis_server, is_warm=True)
        )

    assert outcomes == {"ok": CALLERS}
    assert causes == {StoreTrouble.MAXCLIENTS}


@pytest.mark.parametrize("loop_factory", LOOPS.values(), ids=LOOPS)
def test_a_full_server_that_never_let_us_in_is_called_full(
    redis_server: RedisServer, loop_factory: LoopFactory
) -> None:
    """Although it hangs up at once; no call is told of a connection that was reset."""
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        outcomes, causes = runner.run(
            _outcomes_of_calls(redis_server.url, redis_server, is_warm=False)
        )

    assert outcomes == {StoreTrouble.MAXCLIENTS: CALLERS}
    assert causes == {StoreTrouble.MAXCLIENTS}


async def test_a_store_that_listens_holds_a_connection_for_its_calls(
    redis_server: RedisServer,
) -> None:
    """A server that is full before the first call serves it: a subscription takes it from none."""
    causes = Causes()
    async with store_at(redis_server.url, causes) as store:
        hints = store.listen()
        listening = asyncio.ensure_future(anext(aiter(hints)))
        with redis_server.client() as client:
            await until(
                lambda: client.pubsub_numsub("sidecar:notices")[0][1] == 1,
                within_s=30,
                what="the subscription",
            )
        async with every_connection_taken(redis_server):
            await asyncio.gather(*(store.read(GRANT) for _ in range(CALLERS)))
        listening.cancel()
        await asyncio.wait([listening])

    assert set(causes.met) == {StoreTrouble.MAXCLIENTS}


async def test_a_server_with_room_again_gets_more_connections(redis_server: RedisServer) -> None:
    """Once in a while a new one is tried, so that a full hour is not felt for a day."""
    refused: list[StoreTrouble] = []
    server = AskedServer(pool_of_url(redis_server.url, on_refused=refused.append))
    await server.ask("PING")
    async with every_connection_taken(redis_server):
        await asyncio.gather(*(server.ask("PING") for _ in range(CALLERS)))

    async def connections() -> int:
        await asyncio.gather(*(server.ask("PING") for _ in range(CALLERS)))
        return sum(
            each.is_connected for each in server.client.connection_pool._available_connections
        )

    await eventually(
        connections, lambda count: count > 1, within_s=10 * OPEN_AGAIN_S, what="more connections"
    )
    await server.close()

    assert set(refused) == {StoreTrouble.MAXCLIENTS}


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (OSError(errno.EMFILE, "Too many open files"), StoreTrouble.DESCRIPTORS),
        (ConnectionResetError(errno.ECONNRESET, "reset"), StoreTrouble.RESET),
    ],
    ids=["descriptors", "reset"],
)
async def test_a_connection_that_cannot_be_opened_costs_no_call_while_another_lives(
    redis_url: str, error: OSError, cause: StoreTrouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where this process has no descriptor left, and where a full server speaks TLS."""
    refused: list[StoreTrouble] = []
    server = AskedServer(pool_of_url(redis_url, on_refused=refused.append))
    await server.ask("PING")

    async def fail(_connection: object) -> None:
        raise error

    pool = server.client.connection_pool
    monkeypatch.setattr(plain_kind(pool), "_connect", fail)
    answers = await asyncio.gather(*(server.ask("ECHO", "word") for _ in range(CALLERS)))
    await server.close()

    assert answers == [b"word"] * CALLERS
    assert set(refused) == {cause}


async def test_a_server_that_only_hangs_up_is_asked_whether_it_is_full(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a full server does over TLS: a connection that lives brings the name."""
    refused: list[StoreTrouble] = []
    server = AskedServer(pool_of_url(redis_server.url, on_refused=refused.append))
    await server.ask("PING")

    async def hang_up(_connection: object) -> None:
        raise ConnectionResetError(errno.ECONNRESET, "reset")

    pool = server.client.connection_pool
    async with every_connection_taken(redis_server):
        monkeypatch.setattr(plain_kind(pool), "_connect", hang_up)
        await asyncio.gather(*(server.ask("PING") for _ in range(CALLERS)))
    await server.close()

    assert set(refused) == {StoreTrouble.MAXCLIENTS}


async def test_a_pool_whose_connections_are_all_taken_says_so(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wait that ends without a connection is no time-out of the server."""
    monkeypatch.setattr("sidecar.adapters.redis_connection.MOST_CONNECTIONS", 1)
    monkeypatch.setattr("sidecar.adapters.redis_connection.FREE_CONNECTION_WITHIN_S", 0.01)
    server = AskedServer(pool_of_url(redis_url))
    taken: Any = await server.client.connection_pool.get_connection()

    with pytest.raises(Refused) as caught:
        await server.ask("PING")
    await server.client.connection_pool.release(taken)
    await server.close()

    assert caught.value.cause is StoreTrouble.POOL

"""How a connection to Redis that has ended is told, whichever loop the process runs on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import uvloop
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from sidecar.adapters.redis_connection import pool_of_url
from sidecar.adapters.redis_server import RedisServer as AskedServer
from tests.support.redis_server import RedisServer

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


async def _asked_on_an_ended_connection(url: str) -> tuple[object, object]:
    """Return what a command on a connection that has just ended raised, and a later answer."""
    server = AskedServer(pool_of_url(url))
    connection: Any = await server.client.connection_pool.get_connection()
    connection._writer.transport.abort()
    await asyncio.sleep(0)
    try:
        raised: object = await connection.send_command("PING", check_health=False)
    except RedisError as error:
        raised = error
    await server.client.connection_pool.release(connection)
    answer = await server.ask("ECHO", "again")
    await server.close()
    return raised, answer


@pytest.mark.parametrize("loop_factory", LOOPS.values(), ids=LOOPS)
@pytest.mark.parametrize("is_local", [False, True], ids=["tcp", "unix"])
def test_an_ended_connection_is_an_error_of_the_store_on_every_loop(
    *, redis_server: RedisServer, loop_factory: LoopFactory, is_local: bool
) -> None:
    """Not a fault of ours, which would answer 500 and end what keeps house; the next one works."""
    url = redis_server.unix_url if is_local else redis_server.url

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        raised, answer = runner.run(_asked_on_an_ended_connection(url))

    assert isinstance(raised, RedisConnectionError)
    assert answer == b"again"

"""What an inspection says of a server that will not read its own file as it was written."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from sidecar.adapters.redis_inspection import WRITTEN_BY_SCRIPTS, StoreAdvice
from sidecar.adapters.redis_scripts import load_scripts
from tests.support.redis_server import PROGRAMS, RedisServer, program_of
from tests.support.shipped import LOGIN, admit_operator, as_operator, filled_in
from tests.support.stores import store_at

READING = frozenset({"HGET", "HGETALL", "INFO", "TIME", "ZCARD", "ZMSCORE", "ZRANGEBYSCORE"})
TELLING = frozenset({"PUBLISH"})
SHIPPED = "user default off resetpass ~* &* +@all"


@contextmanager
def server_with(
    *options: str, program: str, default: str = SHIPPED, lacks: str = ""
) -> Generator[RedisServer]:
    """A server on the shipped files, with another line for `default` or a right less."""
    with tempfile.TemporaryDirectory(prefix="sidecar-redis-") as made, ExitStack() as stack:
        directory = Path(made)
        filled = filled_in(directory)
        admit_operator(filled)
        users = filled / "users.acl"
        text = users.read_text("utf-8")
        assert SHIPPED in text
        users.write_text(text.replace(SHIPPED, default).replace(lacks, ""), "utf-8")
        config = filled / "redis.conf"
        server = RedisServer(
            directory, config=config, options=options, program=program, login=LOGIN
        )
        stack.callback(server.stop)
        server.start()
        yield server


async def advice_on(server: RedisServer) -> tuple[StoreAdvice, ...]:
    store = store_at(server.url)
    try:
        return await store.inspect()
    finally:
        await store.close()


@pytest.mark.parametrize("program", PROGRAMS)
async def test_a_server_that_will_drop_its_transactions_is_named(program: str) -> None:
    """Where `default` has no rights, and where that matters: not in Valkey 9.1.2 and later."""
    with server_with(program=program_of(program), default="user default off") as server:
        advice = await advice_on(server)

    if program == "valkey-9":
        assert advice == ()
        return
    (found,) = advice
    assert (found.subject, found.is_fatal) == ("user default", False)
    assert "it may not HSET, HSETNX, HDEL, DEL, ZADD, ZREMRANGEBYSCORE" in found.advice
    assert SHIPPED in found.advice


async def test_only_the_missing_rights_of_the_default_user_are_named() -> None:
    """A user that may write some keys in some ways is not called harmless."""
    half = "user default off resetpass ~* &* +@all -zadd"
    with server_with(program=program_of("valkey-8"), default=half) as server:
        (found,) = await advice_on(server)

    assert found.advice.startswith("it may not ZADD, and as this user")


async def test_a_server_whose_default_user_cannot_be_seen_is_named() -> None:
    """Whoever keeps the former rights of the sidecar's user is told what cannot be checked."""
    with server_with(program=program_of("valkey-8"), lacks=" +acl|dryrun") as server:
        (found,) = await advice_on(server)

    assert (found.subject, found.is_fatal) == ("user default", False)
    assert found.advice.startswith("it cannot be seen whether a restart will drop writes")


async def test_a_server_without_an_append_only_file_is_told_only_that() -> None:
    """Nothing is read as `default` there."""
    with server_with(
        "--appendonly", "no", program=program_of("valkey-8"), default="user default off"
    ) as server:
        advice = await advice_on(server)

    assert [each.subject for each in advice] == ["appendonly"]


async def test_a_server_with_hardly_a_free_connection_is_named() -> None:
    """Before the next sidecar is refused, and with the numbers."""
    with (
        server_with(program=program_of("valkey-8")) as server,
        as_operator(server.port) as operator,
    ):
        operator.config_set("maxclients", 2)
        (found,) = await advice_on(server)

    assert found.subject == "maxclients"
    assert found.advice.startswith("2 of 2 connections are taken")


def test_every_command_with_which_a_script_writes_is_tried() -> None:
    """A script with another one is not forgotten there."""
    texts = (script.text for script in load_scripts().values())
    called = {name for text in texts for name in re.findall(r"redis\.call\('(\w+)'", text)}

    assert {name for name, *_ in WRITTEN_BY_SCRIPTS} == called - READING - TELLING

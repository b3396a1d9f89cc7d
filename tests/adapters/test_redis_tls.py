"""TLS to Redis: a cold pool under load, and whom it trusts."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop

from sidecar.adapters import redis_connection
from sidecar.adapters.redis_connection import MOST_CONNECTIONS
from sidecar.adapters.redis_store import RedisTokenStore
from sidecar.adapters.system import SystemClock
from sidecar.adapters.trust import Trust
from sidecar.domain.record import GrantId, GrantRecord
from sidecar.ports import StoreUnavailable
from tests.support.loop_turns import Turns, measured_turns
from tests.support.records import live, pair
from tests.support.stores import Unheard, have_patience, store_at
from tests.support.tls import TlsRedis, tls_redis
from tests.support.wait import until

USERS = 50
LONGEST_TURN_S = 0.05
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
GRANTS = [GrantId(f"{number:032x}") for number in range(USERS)]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Who vouches for the server."""
    return trustme.CA()


@pytest.fixture(scope="module")
def redis(authority: trustme.CA) -> Generator[TlsRedis]:
    """A server that speaks TLS, for every test here."""
    with (
        tempfile.TemporaryDirectory(prefix="sidecar-redis-") as directory,
        tls_redis(Path(directory), authority) as redis,
    ):
        yield redis


def store_of(redis: TlsRedis, trust: Trust, *, url: str | None = None) -> RedisTokenStore:
    return RedisTokenStore(
        url=url or redis.url, prefix="tls", observer=Unheard(), clock=SystemClock(), trust=trust
    )


async def _read_at_once(store: RedisTokenStore) -> tuple[list[GrantRecord | None], Turns]:
    with measured_turns() as turns:
        found = await asyncio.gather(*(store.read(grant) for grant in GRANTS))
    await store.close()
    return found, turns


@pytest.mark.parametrize("new_loop", LOOPS.values(), ids=LOOPS)
def test_fifty_users_at_once_are_served_over_a_cold_pool_and_the_loop_stays_free(
    redis: TlsRedis,
    new_loop: Callable[[], asyncio.AbstractEventLoop],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Handshakes take turns, share one context, and none of them is refused for the others."""
    have_patience(monkeypatch)
    with asyncio.Runner() as runner:
        runner.run(_store_all(redis.server.url))
    # With the system's authorities too, which take far longer to load than one.
    trust = Trust()
    trust.context.load_verify_locations(cafile=redis.ca_file)
    store = store_of(redis, trust)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        found, turns = runner.run(_read_at_once(store))

    assert [record is not None for record in found] == [True] * USERS
    assert turns.ticks > 5
    assert turns.longest_s < LONGEST_TURN_S


async def _store_all(url: str) -> None:
    store = store_at(url, "tls")
    for grant in GRANTS:
        await store.apply(grant, live(pair(), None))
    await store.close()


@asynccontextmanager
async def with_one_way_in(redis: TlsRedis) -> AsyncGenerator[str]:
    """Yield an address that lets the first connection through and leaves all others waiting."""
    port = int(redis.url.rpartition(":")[2].partition("/")[0])
    lines: set[asyncio.Task[None]] = set()
    kept: list[asyncio.StreamWriter] = []

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65536):
            writer.write(chunk)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kept.append(writer)
        if len(kept) == 1:
            from_redis, to_redis = await asyncio.open_connection("localhost", port)
            kept.append(to_redis)
            lines.add(asyncio.ensure_future(carry(reader, to_redis)))
            lines.add(asyncio.ensure_future(carry(from_redis, writer)))

    relay = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"rediss://127.0.0.1:{relay.sockets[0].getsockname()[1]}/0"
    finally:
        relay.close()
        for line in lines:
            line.cancel()
        await asyncio.wait(lines)
        for writer in kept:
            writer.close()


async def test_a_call_without_a_turn_is_served_by_a_connection_that_became_free(
    redis: TlsRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only calls that open a connection themselves depend on how long that takes."""
    have_patience(monkeypatch)
    monkeypatch.setattr(redis_connection, "CONNECT_WITHIN_S", 2.0)
    async with with_one_way_in(redis) as url:
        store = store_of(redis, Trust(str(redis.ca_file)), url=url)
        reads = (store.read(grant) for grant in GRANTS[:MOST_CONNECTIONS])
        answers = await asyncio.gather(*reads, return_exceptions=True)
        await store.close()

    failed = [answer for answer in answers if isinstance(answer, BaseException)]
    assert len(answers) > 4 * redis_connection.MOST_HANDSHAKES
    assert len(failed) <= redis_connection.MOST_HANDSHAKES


async def test_handshakes_with_one_server_take_turns() -> None:
    """Many new connections at once keep the loop no busier than a few."""
    met: list[asyncio.StreamWriter] = []

    async def stay_silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.append(writer)

    server = await asyncio.start_server(stay_silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    store = store_at(f"rediss://127.0.0.1:{port}/0")

    answers = await asyncio.gather(
        *(store.read(grant) for grant in GRANTS[:20]), return_exceptions=True
    )

    server.close()
    for writer in met:
        writer.close()
    await store.close()
    assert [type(answer) for answer in answers] == [StoreUnavailable] * 20
    # When the first ones time out, so do the others, except for a few that just got a turn.
    assert 0 < len(met) <= 8


def test_nothing_is_read_from_a_disk_for_a_connection(
    redis: TlsRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a connection nor a subscription loads authorities, or redis-py's own version."""
    have_patience(monkeypatch)
    store = store_of(redis, Trust(str(redis.ca_file)))
    made: list[object] = []
    make = ssl.create_default_context

    def counted(*args: Any, **options: Any) -> ssl.SSLContext:
        made.append(options)
        return make(*args, **options)

    async def use(client: Any) -> None:
        await asyncio.gather(*(store.read(grant) for grant in GRANTS[:8]))
        heard = asyncio.ensure_future(anext(store.listen()))
        await until(lambda: _listeners(client) == 1, within_s=10, what="to listen")
        heard.cancel()
        await asyncio.wait([heard])
        await store.close()

    with redis.server.client() as client:
        client.ping()
        monkeypatch.setattr(ssl, "create_default_context", counted)
        monkeypatch.setattr("redis.utils.get_lib_version", lambda: made.append("version"))
        asyncio.run(use(client))

    assert made == []


def _listeners(client: Any) -> int:
    return int(client.pubsub_numsub("tls:notices")[0][1])


async def test_a_named_authority_stands_instead_of_the_systems(
    redis: TlsRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With SIDECAR_CA_FILE, a server that the system's authorities vouch for is not trusted."""
    have_patience(monkeypatch)
    monkeypatch.setenv("SSL_CERT_FILE", str(redis.ca_file))
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    of_the_system, of_a_file = store_of(redis, Trust()), store_of(redis, Trust(str(other)))

    await of_the_system.probe()
    with pytest.raises(StoreUnavailable):
        await of_a_file.probe()

    await of_the_system.close()
    await of_a_file.close()


async def test_a_client_certificate_of_the_url_is_shown(
    redis: TlsRedis, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that asks clients for a certificate gets the one that the URL names."""
    have_patience(monkeypatch)
    own = authority.issue_cert("client.example")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    own.cert_chain_pems[0].write_to_path(str(chain))
    own.private_key_pem.write_to_path(str(key))
    trust = Trust(str(redis.ca_file))
    url = f"{redis.url}?ssl_certfile={chain}&ssl_keyfile={key}"
    with redis.server.client() as client:
        client.config_set("tls-auth-clients", "yes")
        try:
            nameless, named = store_of(redis, trust), store_of(redis, trust, url=url)
            with pytest.raises(StoreUnavailable):
                await nameless.probe()
            await named.probe()
        finally:
            client.config_set("tls-auth-clients", "no")

    await nameless.close()
    await named.close()


async def test_other_trust_and_login_count_from_the_next_connection_on(
    redis: TlsRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Idle connections go, the subscription is renewed, and a command that runs is answered."""
    have_patience(monkeypatch)
    monkeypatch.setattr("sidecar.adapters.redis_hints.SILENCE_S", 0.1)
    trust = Trust(str(redis.ca_file))
    with redis.server.client() as client:
        login = ("ACL", "SETUSER", "renewed", "on", "~*", "&*", "+@all")
        client.execute_command(*login, ">first", ">second")
        store = store_of(redis, trust, url=_as(redis, "first"))
        await asyncio.gather(*(store.read(grant) for grant in GRANTS[:8]))
        heard = asyncio.ensure_future(anext(store.listen()))
        await until(lambda: _listeners(client) == 1, within_s=10, what="to listen")
        former = {each["id"] for each in client.client_list() if each["user"] == "renewed"}
        topology: Any = store._topology  # pyright: ignore[reportPrivateUsage]
        running = asyncio.ensure_future(topology.ask("x", "BLPOP", "tls:none", "0.3"))
        await until(lambda: _is_blocked(client), within_s=10, what="to block")

        client.execute_command(*login, "<first")
        await store.renew(url=_as(redis, "second"), trust=Trust(str(redis.ca_file)))
        answer = await running
        await asyncio.gather(*(store.read(grant) for grant in GRANTS[:8]))
        await until(
            lambda: not former & {each["id"] for each in client.client_list()},
            within_s=10,
            what="former connections to go",
        )
        await until(lambda: _listeners(client) == 1, within_s=10, what="to listen again")
        heard.cancel()
        await asyncio.wait([heard])
        await store.close()
        client.acl_deluser("renewed")

    assert len(former) > 1
    assert answer is None


def _as(redis: TlsRedis, password: str) -> str:
    return redis.url.replace("rediss://", f"rediss://renewed:{password}@")


def _is_blocked(client: Any) -> bool:
    return any(each["cmd"] == "blpop" for each in client.client_list())


@pytest.mark.parametrize("form", ["redis_url", "sentinel_url", "cluster_url"])
async def test_every_form_of_a_store_lets_its_idle_connections_go(
    form: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One server, Sentinels and a Cluster: the next command comes over a connection of its own."""
    have_patience(monkeypatch)
    url: str = request.getfixturevalue(form)
    store = store_at(url)
    topology: Any = store._topology  # pyright: ignore[reportPrivateUsage]
    former = [await topology.ask("k", "CLIENT ID") for _ in range(2)]

    await store.renew(url=url, trust=Trust())
    newer = [await topology.ask("k", "CLIENT ID") for _ in range(2)]

    await store.close()
    assert former[0] == former[1]
    assert newer[0] == newer[1] != former[0]

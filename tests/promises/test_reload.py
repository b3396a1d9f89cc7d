"""SIGHUP: what files hold is taken up as a whole or not at all, and no call notices."""

from __future__ import annotations

import asyncio
import base64
import http.client
import signal
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from sidecar.sandbox import Fault, Sandbox
from tests.promises.conftest import StartSidecar
from tests.support.fleet import (
    CONTROL_KEY,
    ENCRYPTION_KEYS,
    HASH_KEY,
    App,
    FleetPlace,
    SidecarProcess,
)
from tests.support.redis_server import RedisServer
from tests.support.wait import until

USER = "mikomo_10"
KEY = {name: f"key-of-{name}-0123456789abcdefghijklmn" for name in "abc"}
CONTROL = {name: f"operator-{name}-0123456789abcdefghijkl" for name in "ab"}
RELOADED, REFUSED = "configuration.reloaded", "configuration.reload_refused"
REFUSED_KEY = "client_key_invalid"
SUCCESSFUL = "sidecar_config_last_reload_successful"
OTHER_KEY = base64.b64encode(b"o" * 32).decode()


def keys_of(names: str, keys: dict[str, str] = KEY) -> str:
    return ",".join(f"{name}:{keys[name]}" for name in names)


async def reloaded(sidecar: SidecarProcess) -> dict[str, Any]:
    """Have a sidecar reload, and return the line that it tells."""

    def told() -> list[dict[str, Any]]:
        return [line for line in sidecar.log if line["event"] in {RELOADED, REFUSED}]

    before = len(told())
    sidecar.signal(signal.SIGHUP)
    await until(lambda: len(told()) > before, within_s=30, what="the reload to end")
    return told()[-1]


class KeptConnection:
    """One connection to a listener, which never connects again."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)
        self._connection.connect()
        self._connection.auto_open = False

    async def call(self, name: str) -> str:
        """Read the user's accounts with a client key; return why not, or ``""``."""
        headers = {"Sidecar-User": USER, "Sidecar-Key": KEY[name]}
        return (await self.get("/accounts-info/v2/mikomo", headers))[1]

    async def get(self, path: str, headers: dict[str, str]) -> tuple[int, str]:
        """Return the status, and ``Sidecar-Error``."""
        return await asyncio.to_thread(self._get, path, headers)

    def _get(self, path: str, headers: dict[str, str]) -> tuple[int, str]:
        self._connection.request("GET", path, headers=headers)
        with self._connection.getresponse() as answer:
            answer.read()
            return answer.status, answer.headers.get("Sidecar-Error", "")

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def files(place: FleetPlace) -> Path:
    """Where the files of the environment are; with them, a sidecar of `place` starts."""
    files = place.directory / "files"
    files.mkdir()
    return files


def put(place: FleetPlace, files: Path, **contents: str) -> None:
    """Write files and name them in the environment; those of secrets by their ``_FILE``."""
    named: dict[str, str] = {}
    for name, content in contents.items():
        (files / name).write_text(content)
        if name.endswith(("_CERT", "_TLS_KEY", "CA_FILE")):
            named[f"SIDECAR_{name}"] = str(files / name)
        else:
            named |= {f"SIDECAR_{name}": "", f"SIDECAR_{name}_FILE": str(files / name)}
    place.environ = {**place.environ, **named}


async def test_a_removed_key_is_refused_at_the_next_request_of_an_open_connection(
    place: FleetPlace, files: Path, start: StartSidecar, app: App
) -> None:
    """Client keys and control keys alike, and the others go on as they were."""
    put(
        place,
        files,
        CLIENT_KEYS=keys_of("ab"),
        CONTROL_KEYS=f"test:{CONTROL_KEY},{keys_of('ab', CONTROL)}",
    )
    sidecar = await start("kept")
    await app.onboard(sidecar, USER)
    proxied, control = KeptConnection(sidecar.proxy_url), KeptConnection(sidecar.control_url)
    bearers = {name: {"Authorization": f"Bearer {key}"} for name, key in CONTROL.items()}
    before = [await proxied.call("a"), (await control.get("/status", bearers["a"]))[0]]

    (files / "CLIENT_KEYS").write_text(keys_of("bc"))
    (files / "CONTROL_KEYS").write_text(f"test:{CONTROL_KEY},{keys_of('b', CONTROL)}")
    line = await reloaded(sidecar)

    after = {name: await proxied.call(name) for name in "abc"}
    after_of_control = [(await control.get("/status", bearers[name]))[0] for name in "ab"]
    proxied.close()
    control.close()
    assert before == ["", 200]
    assert after == {"a": REFUSED_KEY, "b": "", "c": ""}
    assert after_of_control == [401, 200]
    assert line["event"] == RELOADED
    assert line["changed"] == "SIDECAR_CLIENT_KEYS,SIDECAR_CONTROL_KEYS"
    assert not any(key.encode() in sidecar.raw_log for key in (*KEY.values(), *CONTROL.values()))


def certificate_of(authority: trustme.CA) -> tuple[str, str]:
    made = authority.issue_cert("localhost", "127.0.0.1")
    chain = b"".join(pem.bytes() for pem in made.cert_chain_pems)
    return chain.decode(), made.private_key_pem.bytes().decode()


async def test_a_problem_leaves_everything_as_it_was(
    place: FleetPlace, files: Path, start: StartSidecar, app: App
) -> None:
    """One line names the problem, and a good change in the same reload does not count either."""
    authority = trustme.CA()
    pem, (chain, key) = authority.cert_pem.bytes().decode(), certificate_of(authority)
    good = {
        "CLIENT_KEYS": keys_of("a"),
        "HASH_KEY": HASH_KEY,
        "ENCRYPTION_KEYS": ENCRYPTION_KEYS,
        "REDIS_URL": place.redis_url,
        "CA_FILE": pem,
        "CONNECT_TLS_CERT": chain,
        "CONNECT_TLS_KEY": key,
        "CONTROL_TLS_CERT": chain,
        "CONTROL_TLS_KEY": key,
    }
    bad = [
        ("CA_FILE", pem[: len(pem) // 2]),
        ("CA_FILE", "no certificate"),
        ("CLIENT_KEYS", "a:short"),
        ("CLIENT_KEYS", ""),
        ("HASH_KEY", OTHER_KEY),
        ("ENCRYPTION_KEYS", "k1:no key"),
        ("REDIS_URL", "redis://127.0.0.1:1/0"),
        ("REDIS_URL", "nonsense"),
        ("CONTROL_TLS_CERT", chain[: len(chain) // 2]),
        ("CONNECT_TLS_KEY", certificate_of(authority)[1]),
    ]
    put(place, files, **good)
    place.environ = {
        **place.environ,
        "SIDECAR_CONNECT_LISTEN": "127.0.0.1:0",
        "SIDECAR_CONNECT_URL": "https://connect.example",
        "SIDECAR_CONNECT_RETURN_TO": "https://app.example/banks",
    }
    sidecar = await start("careful")
    proxied = KeptConnection(sidecar.proxy_url)

    for name, content in bad:
        (files / "CLIENT_KEYS").write_text(keys_of("ab"))
        (files / name).write_text(content)
        line = await reloaded(sidecar)
        named = line["variables"].removesuffix("_FILE").replace("_TLS_KEY", "_TLS_CERT")
        assert named == f"SIDECAR_{name}".removesuffix("_FILE").replace("_TLS_KEY", "_TLS_CERT")
        assert line["advice"].startswith(f"{line['variables']}: ")
        assert [await proxied.call(each) for each in "ab"] == ["grant_unknown", REFUSED_KEY]
        assert await app.metric(sidecar, SUCCESSFUL) == 0
        (files / name).write_text(good[name])

    (files / "CLIENT_KEYS").write_text(keys_of("ab"))
    (files / "ENCRYPTION_KEYS").write_text(f"{ENCRYPTION_KEYS},k2:{OTHER_KEY}")
    line = await reloaded(sidecar)
    assert [await proxied.call(each) for each in "ab"] == ["grant_unknown"] * 2
    proxied.close()
    assert line["event"] == RELOADED
    assert (line["changed"], line["restart_needed"]) == (
        "SIDECAR_CLIENT_KEYS",
        "SIDECAR_ENCRYPTION_KEYS",
    )
    assert await app.metric(sidecar, SUCCESSFUL) == 1
    assert sidecar.is_running


async def test_a_claim_in_flight_ends_with_the_secret_that_it_began_with(
    place: FleetPlace, files: Path, sandbox: Sandbox, start: StartSidecar, app: App
) -> None:
    """The secret changes at Akoya and in the file between request and answer; nothing is spent."""
    put(place, files, AKOYA_CLIENT_SECRET=sandbox.settings.client_secret)
    sidecar = await start("rotating")
    await app.onboard(sidecar, USER)
    sandbox.grants.expire_id_tokens(user=USER, provider=None)
    sandbox.faults.add(Fault(operation="refresh", kind="slow_after", delay_s=1.0))
    caller = asyncio.ensure_future(app.fetch(sidecar, USER))
    await until(lambda: len(sandbox.ledger) == 1, within_s=30, what="the claim to reach the IdP")

    (files / "AKOYA_CLIENT_SECRET").write_text("another-secret-of-this-app")
    line = await reloaded(sidecar)
    sandbox.rotate_secret("another-secret-of-this-app")

    assert (line["event"], line["changed"]) == (RELOADED, "SIDECAR_AKOYA_CLIENT_SECRET")
    assert await caller == (200, "")
    assert len(sandbox.ledger) == 1
    assert await app.refresh(sidecar, USER) == 200
    assert "client_secret.read" in sidecar.events


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_another_certificate_is_shown_to_new_connections_alone(
    place: FleetPlace, files: Path, start: StartSidecar, loop: str
) -> None:
    """An open connection goes on under the certificate that it knows."""
    place.spec = {"loop": loop}
    authority = trustme.CA()
    chain, key = certificate_of(authority)
    put(place, files, CONTROL_TLS_CERT=chain, CONTROL_TLS_KEY=key)
    sidecar = await start("shown")
    host, port = sidecar.control_url.removeprefix("http://").split(":")
    context = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
    with context.wrap_socket(
        socket.create_connection((host, int(port)), timeout=20), server_hostname="localhost"
    ) as former:
        chain, key = certificate_of(authority)
        (files / "CONTROL_TLS_CERT").write_text(chain)
        (files / "CONTROL_TLS_KEY").write_text(key)
        line = await reloaded(sidecar)
        shown = await asyncio.to_thread(ssl.get_server_certificate, (host, int(port)))
        former.sendall(b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = await asyncio.to_thread(former.recv, 12)

    assert line["changed"] == "SIDECAR_CONTROL_TLS_CERT,SIDECAR_CONTROL_TLS_KEY"
    assert shown.split() == chain[: len(shown)].split()
    assert answer == b"HTTP/1.1 401"


async def test_another_password_of_the_store_counts_for_new_connections(
    place: FleetPlace, files: Path, redis_server: RedisServer, start: StartSidecar, app: App
) -> None:
    """A wrong one is refused before a connection is let go; the right one outlives the former."""
    login = ("ACL", "SETUSER", "sidecar", "on", "~*", "&*", "+@all")
    plain = place.redis_url
    put(place, files, REDIS_URL=plain.replace("//", "//sidecar:first@"))
    with redis_server.client() as client:
        client.execute_command(*login, ">first")
        sidecar = await start("logged-in")
        await app.onboard(sidecar, USER)

        (files / "REDIS_URL").write_text(plain.replace("//", "//sidecar:wrong-canary@"))
        refused = await reloaded(sidecar)
        client.execute_command(*login, ">second")
        (files / "REDIS_URL").write_text(plain.replace("//", "//sidecar:second@"))
        taken = await reloaded(sidecar)
        client.execute_command(*login, "<first")
        client.execute_command("CLIENT", "KILL", "USER", "sidecar")

        assert (refused["event"], refused["variables"]) == (REFUSED, "SIDECAR_REDIS_URL")
        assert (taken["event"], taken["changed"]) == (RELOADED, "SIDECAR_REDIS_URL")
        assert await app.served(sidecar, "nobody") == (401, "grant_unknown")
        assert await app.served(sidecar, USER) == (200, "")
        assert b"wrong-canary" not in sidecar.raw_log

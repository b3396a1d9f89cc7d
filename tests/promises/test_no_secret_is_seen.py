"""Tokens, keys and secrets are in no log, metric, span, answer, Redis value or spool byte."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from sidecar.adapters.sealing import AesGcmSealer
from sidecar.domain.record import Consent, ConsentId, GrantKey, GrantRecord
from sidecar.domain.secret import Secret
from sidecar.domain.tokens import TokenPair
from sidecar.domain.wire import Answered
from sidecar.sandbox import Fault, Sandbox, SandboxSettings
from sidecar.service.vault import PairPlace, Vault
from sidecar.settings import Settings, load
from tests.promises.conftest import StartSidecar
from tests.support.collector import Collector
from tests.support.fleet import (
    CONTROL_KEY,
    ENCRYPTION_KEYS,
    HASH_KEY,
    App,
    FleetPlace,
    SidecarProcess,
)
from tests.support.redis_server import RedisServer
from tests.support.secrets_search import found_in, telling_parts
from tests.support.wait import until

USER = "mikomo_canary_user"
CLIENT_KEY = "client-key-canary-0123456789-abcdefghij"
CLIENT_SECRET = "client-secret-canary"
PATH = "/accounts-info/v2/mikomo"
KEYS = {text: base64.b64decode(text) for text in (HASH_KEY, ENCRYPTION_KEYS.partition(":")[2])}
"""The sidecar's own keys, as configured and as the bytes that they are."""


@pytest.fixture
async def sandbox(issued: list[str]) -> AsyncGenerator[Sandbox]:
    del issued  # gathers from the first token on
    settings = SandboxSettings(key_bits=1024, client_secret=CLIENT_SECRET)
    async with Sandbox(settings) as sandbox:
        yield sandbox


@pytest.mark.parametrize("log_format", ["json", "console"])
async def test_no_secret_and_no_name_is_seen_anywhere(  # noqa: PLR0913 - fixtures
    *,
    log_format: str,
    issued: list[str],
    sandbox: Sandbox,
    place: FleetPlace,
    start: StartSidecar,
    app: App,
    redis_server: RedisServer,
    collector: Collector,
) -> None:
    """Through a life with every kind of trouble, at debug level, in both formats."""
    place.environ = {
        "SIDECAR_LOG_LEVEL": "debug",
        "SIDECAR_LOG_FORMAT": log_format,
        "SIDECAR_CLIENT_KEYS": f"app:{CLIENT_KEY}",
        **collector.environ,
    }
    sidecar = await start("only")
    answers: list[bytes] = []
    async with aiohttp.ClientSession() as session:
        life = Life(
            session=session,
            sandbox=sandbox,
            app=app,
            sidecar=sidecar,
            answers=answers,
            issued=issued,
        )
        await life.live()
        async with session.get(f"{sidecar.metrics_url}/metrics") as page:
            metrics = await page.read()
        redis_bytes = b"\n".join(everything_in(redis_server))
        spooled = await parked_pair(life, redis_server, place)
    sidecar.signal(signal.SIGTERM)
    assert await sidecar.ended() == 0

    spans = b"\n".join(collector.bodies)
    quiet = b"\n".join([sidecar.raw_log, redis_bytes, metrics, spans, *spooled, *spool_of(place)])
    seen = b"\n".join([quiet, *answers])

    assert len(issued) > 8
    assert seen_in(seen, secrets_of(issued)) == []
    assert seen_in(quiet, [USER]) == []
    for told in (sidecar.raw_log, spans):
        assert told.count(b"token.request_failed") > 5, "the troubles were met"
    assert seen_in(seen + issued[-1].encode(), secrets_of(issued)), "the search itself must find"


@dataclass(frozen=True, kw_only=True)
class Life:
    """What an app may do to a sidecar; keeps the answers of the sidecar's own."""

    session: aiohttp.ClientSession
    sandbox: Sandbox
    app: App
    sidecar: SidecarProcess
    answers: list[bytes]
    issued: list[str]

    async def live(self) -> None:
        """Onboard, read, heal, fail in many ways, and end."""
        await self.app.onboard(self.sidecar, USER)
        assert await self.read() == 200
        self.sandbox.grants.expire_id_tokens(user=USER, provider=None)
        assert await self.read() == 200
        assert await self.refresh(USER) == 200
        for number, fault in enumerate(troubles(self.issued[-1])):
            await self.app.onboard(self.sidecar, f"{USER}_{number}")
            self.sandbox.faults.add(fault)
            assert await self.refresh(f"{USER}_{number}") >= 200
        await self.ask_badly(self.issued[-1])
        self.sandbox.faults.delete()  # a refresh that a slow store put off left its own behind
        self.sandbox.grants.revoke_consent(user=USER, provider=None)
        assert await self.refresh(USER) in (401, 503)
        await self.app.onboard(self.sidecar, USER)
        assert await self.control("DELETE", f"/grants/mikomo/{USER}") == 204

    async def ask_badly(self, token: str) -> None:
        """Put a token wherever none belongs."""
        await self.read(f"{PATH}?token={token}", Authorization=f"Bearer {token}")
        await self.read(f"/{token}/v2/mikomo")
        await self.read(**{"Sidecar-Key": f"wrong-{token}"})
        body = {"user": USER, "provider": "mikomo", "code": token}
        await self.control("POST", "/grants", json=body)
        await self.control("POST", "/grants", json={"user": USER, token: "unknown"})
        await self.control("GET", f"/grants?cursor={token}")
        await self.control("GET", f"/grants/mikomo/{USER}")

    async def read(self, path: str = PATH, **headers: str) -> int:
        who = {"Sidecar-User": USER, "Sidecar-Key": CLIENT_KEY}
        url = f"{self.sidecar.proxy_url}{path}"
        async with self.session.get(url, headers=who | headers) as answer:
            body = await answer.read()
            if "Sidecar-Error" in answer.headers:
                self.answers.append(body)
            return answer.status

    async def refresh(self, user: str) -> int:
        return await self.control("POST", f"/grants/mikomo/{user}/refresh")

    async def control(self, method: str, path: str, **options: Any) -> int:
        async with self.app.control(self.sidecar, method, path, **options) as answer:
            self.answers.append(await answer.read())
            return answer.status


async def parked_pair(life: Life, redis: RedisServer, place: FleetPlace) -> list[bytes]:
    """Return the spool's bytes while a pair of this life lies nowhere else."""
    user = f"{USER}_parked"
    await life.app.onboard(life.sidecar, user)
    life.sandbox.faults.add(Fault(operation="refresh", kind="slow_after", delay_s=1.0))
    presented = len(life.sandbox.ledger)
    refreshed = life.sidecar.raw_log.count(b"token.refreshed")
    asking = asyncio.ensure_future(life.refresh(user))
    await until(lambda: len(life.sandbox.ledger) > presented, within_s=30, what="the claim")
    redis.pause()
    await until(
        lambda: life.sidecar.raw_log.count(b"token.refreshed") > refreshed,
        within_s=30,
        what="the pair to be on the disk",
    )
    spooled = spool_of(place)
    redis.resume()
    await asking
    assert any(len(each) for each in spooled)
    return spooled


def spool_of(place: FleetPlace) -> list[bytes]:
    return [f.read_bytes() for f in place.directory.glob("spool-*/**/*") if f.is_file()]


def troubles(token: str) -> Iterator[Fault]:
    """Answers of the token service that carry a secret where none belongs, or are torn."""
    told = json.dumps({"error": token, "error_description": f"no {token}, {CLIENT_SECRET}"})
    yield Fault(operation="refresh", kind="body", status=400, body=told)
    yield Fault(operation="refresh", kind="body", status=200, body=f"<html>{token}</html>")
    yield Fault(operation="refresh", kind="status_before", status=503)
    yield Fault(operation="refresh", kind="cut_after", after_bytes=400)
    yield Fault(operation="refresh", kind="redirect", location=f"/elsewhere?{token}")


def everything_in(server: RedisServer) -> Iterator[bytes]:
    """Every key and every value of a private server, whatever its type."""
    with server.client() as client:
        for key in client.scan_iter():
            yield key
            match client.type(key):
                case b"hash":
                    yield repr(client.hgetall(key)).encode() + b"".join(
                        client.hgetall(key).values()
                    )
                case b"stream":
                    yield repr(client.xrange(key)).encode()
                case b"zset":
                    yield repr(client.zrange(key, 0, -1)).encode()
                case _:
                    yield client.get(key)


def secrets_of(issued: list[str]) -> list[str]:
    """The secrets of this life, whole and in telling parts."""
    return [*telling_parts(issued), CONTROL_KEY, CLIENT_KEY, CLIENT_SECRET, *KEYS]


def seen_in(text: bytes, secrets: list[str]) -> list[str]:
    """Return the secrets that are in the text; a key also as the bytes that it is."""
    raw = [
        name
        for name, key in KEYS.items()
        if name in secrets and (key in text or key.hex().encode() in text)
    ]
    return [*found_in(text, secrets), *raw]


def test_what_holds_a_secret_prints_none() -> None:
    """A `repr` in a debugger, an assertion or a traceback shows a mask where a secret is."""
    token = "eyJ0-canary-token.payload-canary.signature-canary"
    settings = load(
        {
            "SIDECAR_AKOYA_CLIENT_ID": "app",
            "SIDECAR_AKOYA_CLIENT_SECRET": CLIENT_SECRET,
            "SIDECAR_ENCRYPTION_KEYS": ENCRYPTION_KEYS,
            "SIDECAR_HASH_KEY": HASH_KEY,
            "SIDECAR_CONTROL_KEYS": f"test:{CONTROL_KEY}",
            "SIDECAR_CLIENT_KEYS": f"app:{CLIENT_KEY}",
        }
    )
    assert isinstance(settings, Settings)
    sealing, hashing = KEYS[ENCRYPTION_KEYS.partition(":")[2]], KEYS[HASH_KEY]
    sealer = AesGcmSealer(
        keys=[("k1", sealing)], hash_key=hashing, environment="sandbox", client_id="app"
    )
    vault = Vault(sealer=sealer)
    key = GrantKey(user="u-1", provider="mikomo")
    grant = vault.grant_id(key)
    tokens = TokenPair(id_token=Secret(token), refresh_token=Secret(token), life_s=1)
    place = PairPlace(
        grant=grant,
        sealed_key=vault.seal_key(grant, key),
        consent=Consent(id=ConsentId("c"), consented_at_ms=1),
        generation=0,
    )
    pair = vault.seal_pair(tokens, place=place, asked_at_ms=1)
    answer = Answered(status=200, body=token.encode())

    printed = repr((settings, sealer, tokens, pair, GrantRecord(pair=pair), answer)).encode()

    hidden = [*token.split("."), pair.fingerprint, CLIENT_SECRET, CONTROL_KEY, CLIENT_KEY, *KEYS]
    assert seen_in(printed, hidden) == []
    assert repr(pair.sealed_pair).encode() not in printed

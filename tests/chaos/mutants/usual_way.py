"""The usual way to share a rotating token: redis-py's lock around POST and HSET.

A program of its own that answers the same calls as a sidecar, so that the same load, the same
trouble and the same oracle can be let loose on it. Nothing in it is bad style: it takes the lock,
reads the token, presents it, stores what came, and lets the lock go.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast, final
from uuid import uuid4

import aiohttp
from aiohttp import web
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.chaos.witness import Witness, headers

PREFIX: Final = "usual:"
LOCK_WAIT_S: Final = 1.0


@final
class UsualWay:
    """One process that refreshes on demand."""

    def __init__(self, environ: Mapping[str, str], witness: Witness, *, lease_s: float) -> None:
        self._idp_url = environ["SIDECAR_IDP_URL"]
        self._client = (
            environ["SIDECAR_AKOYA_CLIENT_ID"],
            environ["SIDECAR_AKOYA_CLIENT_SECRET"],
        )
        connect = cast("Any", Redis).from_url  # whose types are partly unknown
        self._redis: Any = connect(environ["SIDECAR_REDIS_URL"], decode_responses=True)
        self._witness = witness
        self._lease_s = lease_s
        self._session: aiohttp.ClientSession | None = None

    async def run(self, environ: Mapping[str, str]) -> None:
        """Serve until SIGTERM."""
        stopped = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
        self._witness.beat()
        async with aiohttp.ClientSession() as self._session:
            runner = web.AppRunner(self._application(), access_log=None)
            await runner.setup()
            for listener in ("CONTROL", "METRICS"):
                host, _, port = environ[f"SIDECAR_{listener}_LISTEN"].partition(":")
                await web.TCPSite(runner, host, int(port)).start()
            await stopped.wait()
            await runner.cleanup()

    def _application(self) -> web.Application:
        app = web.Application()
        app.add_routes(
            [
                web.post("/grants", self._obtain),
                web.post("/grants/{provider}/{user}/refresh", self._refresh),
                web.get("/readyz", self._ready),
            ]
        )
        return app

    async def _ready(self, request: web.Request) -> web.Response:
        del request
        return web.Response()

    async def _obtain(self, request: web.Request) -> web.Response:
        body = await request.json()
        form = {
            "grant_type": "authorization_code",
            "code": body["code"],
            "redirect_uri": body["redirect_uri"],
        }
        try:
            tokens = await self._post(form, auth=aiohttp.BasicAuth(*self._client))
            await self._store(body["user"], tokens)
        except (aiohttp.ClientError, RedisError, OSError):
            return web.Response(status=503)
        return web.Response(status=201)

    async def _refresh(self, request: web.Request) -> web.Response:
        user = request.match_info["user"]
        lock = self._redis.lock(
            f"{PREFIX}lock:{user}", timeout=self._lease_s, blocking_timeout=LOCK_WAIT_S
        )
        try:
            async with lock:
                token = await self._redis.hget(f"{PREFIX}{user}", "refresh_token")
                self._witness.tag(claim_id=uuid4().hex, kind="first", attempt=1)
                client_id, client_secret = self._client
                form = {
                    "grant_type": "refresh_token",
                    "refresh_token": token,
                    "client_id": client_id,
                    "client_secret": client_secret,
                }
                await self._store(user, await self._post(form))
        except (aiohttp.ClientError, RedisError, OSError):
            return web.Response(status=503)
        return web.Response()

    async def _post(
        self, form: Mapping[str, str], *, auth: aiohttp.BasicAuth | None = None
    ) -> dict[str, str]:
        assert self._session is not None
        async with self._session.post(
            f"{self._idp_url}/token",
            data=form,
            auth=auth,
            headers=headers(),
            raise_for_status=True,
        ) as answer:
            tokens: dict[str, str] = await answer.json()
            return tokens

    async def _store(self, user: str, tokens: Mapping[str, str]) -> None:
        pair = {name: tokens[name] for name in ("id_token", "refresh_token")}
        await self._redis.hset(f"{PREFIX}{user}", mapping=pair)


def main(spec: Mapping[str, Any]) -> int:
    """Run until SIGTERM; takes what a sidecar of a chaos run takes."""
    environ = dict(os.environ)  # noqa: TID251 - this is the command line of a test process
    witness = Witness(Path(spec["witness"]))
    way = UsualWay(environ, witness, lease_s=spec["times"]["lease_s"])
    asyncio.run(way.run(environ))
    return 0

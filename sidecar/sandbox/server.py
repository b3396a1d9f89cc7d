"""The sandbox as a whole: one listener for login, tokens, data and control.

It owns the listener's life and the routes. It must not know what any of them answers.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Self, final
from uuid import uuid4

from aiohttp import web

from sidecar.sandbox.consent_flow import ConsentFlow
from sidecar.sandbox.control import Control, consent
from sidecar.sandbox.data_answers import PRODUCTS
from sidecar.sandbox.data_service import DataService
from sidecar.sandbox.delivery import to_response
from sidecar.sandbox.id_tokens import IdTokenSigner, signing_key
from sidecar.sandbox.index import ROWS
from sidecar.sandbox.json_input import tuned
from sidecar.sandbox.pages import index_page
from sidecar.sandbox.replies import json_reply
from sidecar.sandbox.settings import SandboxSettings
from sidecar.sandbox.token_service import TokenService
from sidecar.sandbox.world import World, utc_now

if TYPE_CHECKING:
    from types import TracebackType

    from sidecar.sandbox.faults import FaultBook
    from sidecar.sandbox.grants import GrantBook
    from sidecar.sandbox.ledger import Ledger
    from sidecar.sandbox.world import Clock

_SHUTDOWN_S: Final = 5.0
_BACKLOG: Final = 1024
_INTERACTION_ID: Final = "x-akoya-interaction-id"


@final
class Sandbox:
    """A running local Akoya, for `async with`.

    `clock` gives Unix time in seconds. Leaving ends every wait of a fault at once.
    """

    def __init__(self, settings: SandboxSettings | None = None, *, clock: Clock = utc_now) -> None:
        self._initial = settings or SandboxSettings()
        self._clock = clock
        self._world: World | None = None
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        key = await asyncio.to_thread(signing_key, self._initial.key_bits)
        world = World(settings=self._initial, signer=IdTokenSigner(key), clock=self._clock)
        runner = web.AppRunner(_application(world), access_log=None, shutdown_timeout=_SHUTDOWN_S)
        await runner.setup()
        host, port = split_address(self._initial.listen)
        try:
            await web.TCPSite(runner, host, port, backlog=_BACKLOG).start()
        except OSError:
            await runner.cleanup()
            raise
        world.url = f"http://{_joined(host, runner.addresses[0][1])}"
        self._world, self._runner = world, runner
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._running.stopping.set()
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def url(self) -> str:
        """The base URL of everything it serves, without a final slash."""
        return self._running.url

    @property
    def settings(self) -> SandboxSettings:
        """The settings as they are now."""
        return self._running.settings

    @property
    def grants(self) -> GrantBook:
        """The grants, for expiring id_tokens and revoking consents."""
        return self._running.grants

    @property
    def ledger(self) -> Ledger:
        """The presentations of refresh tokens so far."""
        return self._running.ledger

    @property
    def faults(self) -> FaultBook:
        """The faults that are armed."""
        return self._running.faults

    def consent(
        self, user: str, *, provider: str = "mikomo", redirect_uri: str | None = None
    ) -> str:
        """Give consent in a user's name and return the code; the default URI is the settings'.

        Raises:
            InputError: the user, the provider or the redirect URI cannot be.
        """
        target = redirect_uri or self.settings.default_redirect_uri
        return consent(self._running, user=user, provider=provider, redirect_uri=target)

    def tune(self, **changes: float | str | bool | list[str]) -> None:
        """Change settings while it runs; which ones may change is `json_input.TUNABLE`.

        Raises:
            InputError: a name or a value is not allowed; nothing is changed.
        """
        self._running.settings = tuned(self._running.settings, changes)

    def rotate_secret(self, client_secret: str) -> None:
        """Know the app by another secret from now on, as after a rotation in Akoya's console."""
        self._running.settings = replace(self._running.settings, client_secret=client_secret)

    @property
    def _running(self) -> World:
        if self._world is None:
            raise RuntimeError("the sandbox runs inside `async with` only")
        return self._world


def split_address(address: str) -> tuple[str, int]:
    """Split `host:port`; an IPv6 host stands in brackets.

    Raises:
        ValueError: it is not of that form.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:  # noqa: PLR2004 - TCP's
        raise ValueError("an address is host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _application(world: World) -> web.Application:
    tokens, flow, data = TokenService(world), ConsentFlow(world), DataService(world)
    app = web.Application()
    app.on_response_prepare.append(_tag)
    app.add_routes(
        [
            *_open_pages(world),
            web.get("/auth", flow.begin),
            web.post("/auth/sign-in", flow.sign_in),
            web.post("/auth/terms", flow.read_terms),
            web.post("/auth/accounts", flow.choose_accounts),
            web.post("/token", tokens.token),
            web.post("/revoke", tokens.revoke),
            web.post("/token/revoke", tokens.revoke),
            web.get(f"/{{product:{'|'.join(PRODUCTS)}}}{{rest:(/.*)?}}", data.get),
            *Control(world).routes(),
        ]
    )
    return app


def _open_pages(world: World) -> list[web.RouteDef]:
    async def index(_request: web.Request) -> web.Response:
        return to_response(index_page(url=world.issuer, rows=ROWS))

    async def keys(_request: web.Request) -> web.Response:
        return to_response(json_reply(world.signer.key_set))

    async def discovery(_request: web.Request) -> web.Response:
        return to_response(json_reply(_discovery(world.issuer)))

    return [
        web.get("/", index),
        web.get("/keys", keys),
        web.get("/.well-known/jwks.json", keys),
        web.get("/.well-known/openid-configuration", discovery),
    ]


def _discovery(issuer: str) -> dict[str, object]:
    return {
        "issuer": f"{issuer}/",
        "authorization_endpoint": f"{issuer}/auth",
        "token_endpoint": f"{issuer}/token",
        "revocation_endpoint": f"{issuer}/revoke",
        "jwks_uri": f"{issuer}/keys",
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "scopes_supported": ["openid", "profile", "offline_access"],
        # What dex says of itself, though refresh and revoke are documented with body credentials.
        "token_endpoint_auth_methods_supported": ["client_secret_basic"],
    }


async def _tag(request: web.Request, response: web.StreamResponse) -> None:
    """Give every response an interaction id: the client's own, or a fresh one."""
    given = request.headers.get(_INTERACTION_ID)
    response.headers[_INTERACTION_ID] = given or str(uuid4())

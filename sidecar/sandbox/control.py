"""The control paths below `/sandbox/`: what a test or a person can arrange and look up, as JSON.

It must not know how an arranged fault is carried out.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from functools import wraps
from typing import TYPE_CHECKING, Final, TypeAlias, final

from aiohttp import web

from sidecar.sandbox.consent_flow import is_provider
from sidecar.sandbox.data_sets import accounts_of
from sidecar.sandbox.delivery import to_response
from sidecar.sandbox.ids import digest
from sidecar.sandbox.json_input import (
    TUNABLE,
    InputError,
    optional_text_of,
    read_faults,
    read_object,
    text_of,
    tuned,
)
from sidecar.sandbox.replies import Document, json_reply

if TYPE_CHECKING:
    from sidecar.sandbox.world import World

_Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

# Any id an application may have for an end user, so that a chaos test can name thousands.
_USER: Final = re.compile(r"[^\x00-\x1f\x7f]{1,200}")


def _json(document: Document, *, status: int = 200) -> web.Response:
    return to_response(json_reply(document, status=status))


@final
class Control:
    """Answers the control paths of one sandbox."""

    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> list[web.RouteDef]:
        """List the control routes."""
        return [
            web.get("/sandbox/health", self._health),
            web.post("/sandbox/consents", _checked(self._consent)),
            web.get("/sandbox/ledger", self._ledger),
            web.get("/sandbox/ledger/summary", self._summary),
            web.delete("/sandbox/ledger", self._clear_ledger),
            web.get("/sandbox/faults", self._faults),
            web.post("/sandbox/faults", _checked(self._add_faults)),
            web.delete("/sandbox/faults", _checked(self._delete_faults)),
            web.post("/sandbox/expire-id-tokens", _checked(self._expire_id_tokens)),
            web.post("/sandbox/revoke-consent", _checked(self._revoke_consent)),
            web.get("/sandbox/grants", self._grants),
            web.get("/sandbox/settings", self._settings),
            web.patch("/sandbox/settings", _checked(self._tune)),
            web.route("*", "/elsewhere", self._elsewhere),
        ]

    async def _health(self, _request: web.Request) -> web.Response:
        return _json({"status": "ok"})

    async def _consent(self, request: web.Request) -> web.Response:
        body = read_object(await request.read())
        user, provider = text_of(body, "user"), text_of(body, "provider", "mikomo")
        settings = self._world.settings
        redirect_uri = text_of(body, "redirect_uri", settings.default_redirect_uri)
        code = consent(self._world, user=user, provider=provider, redirect_uri=redirect_uri)
        return _json({"code": code, "redirect_uri": redirect_uri}, status=201)

    async def _ledger(self, request: web.Request) -> web.Response:
        return _json({"entries": self._world.ledger.of(request.query.get("user"))})

    async def _summary(self, _request: web.Request) -> web.Response:
        return _json(self._world.ledger.summary())

    async def _clear_ledger(self, _request: web.Request) -> web.Response:
        self._world.ledger.clear()
        return web.Response(status=204)

    async def _faults(self, _request: web.Request) -> web.Response:
        world = self._world
        return _json({"faults": world.faults.listing(), "elsewhere": asdict(world.elsewhere)})

    async def _add_faults(self, request: web.Request) -> web.Response:
        faults = read_faults(await request.read())
        ids = [self._world.faults.add(fault) for fault in faults]
        return _json({"ids": ids}, status=201)

    async def _delete_faults(self, request: web.Request) -> web.Response:
        given = request.query.get("id")
        if given is not None and not (given.isascii() and given.isdigit()):
            raise InputError("id must be a number")
        deleted = self._world.faults.delete(None if given is None else int(given))
        return _json({"deleted": deleted})

    async def _expire_id_tokens(self, request: web.Request) -> web.Response:
        body = read_object(await request.read())
        expired = self._world.grants.expire_id_tokens(
            user=optional_text_of(body, "user"), provider=optional_text_of(body, "provider")
        )
        return _json({"expired": expired})

    async def _revoke_consent(self, request: web.Request) -> web.Response:
        body = read_object(await request.read())
        revoked = self._world.grants.revoke_consent(
            user=text_of(body, "user"), provider=optional_text_of(body, "provider")
        )
        return _json({"revoked": revoked})

    async def _grants(self, _request: web.Request) -> web.Response:
        grants = [
            {
                "family": grant.id,
                "user": grant.consent.user,
                "provider": grant.consent.provider,
                "generation": grant.generation,
                "revoked": grant.ended is not None,
                "ended": grant.ended,
                "token": None if grant.current_token is None else digest(grant.current_token),
            }
            for grant in self._world.grants
        ]
        return _json({"grants": grants})

    async def _settings(self, _request: web.Request) -> web.Response:
        settings = self._world.settings
        return _json({name: getattr(settings, name) for name in TUNABLE})

    async def _tune(self, request: web.Request) -> web.Response:
        changes = read_object(await request.read())
        self._world.settings = tuned(self._world.settings, changes)
        return await self._settings(request)

    async def _elsewhere(self, request: web.Request) -> web.Response:
        counts = self._world.elsewhere
        counts.arrivals += 1
        counts.with_authorization += "Authorization" in request.headers
        counts.with_body += bool(await request.read())
        return _json({"arrivals": counts.arrivals})


def consent(world: World, *, user: str, provider: str, redirect_uri: str) -> str:
    """Give consent to all accounts in a user's name, without the pages; return the code.

    Raises:
        InputError: the user, the provider or the redirect URI cannot be.
    """
    if not _USER.fullmatch(user):
        raise InputError("user must be 1 to 200 printable characters")
    if not is_provider(provider):
        raise InputError("provider must be a plain name, not unknown-...")
    if not world.settings.allows_redirect_to(redirect_uri):
        raise InputError("redirect_uri is not registered")
    accounts = tuple(account.id for account in accounts_of(user, provider))
    return world.give_consent(
        user=user, provider=provider, redirect_uri=redirect_uri, accounts=accounts
    )


def _checked(handle: _Handler) -> _Handler:
    """Answer 400 with the reason when a script sends what the path does not take."""

    @wraps(handle)
    async def checked(request: web.Request) -> web.StreamResponse:
        try:
            return await handle(request)
        except InputError as error:
            return _json({"error": str(error)}, status=400)

    return checked

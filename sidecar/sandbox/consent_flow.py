"""The consent flow: `GET /auth`, three forms, and the way back to the app with a code or an error.

It remembers flows under way and checks what an app asks for. It must not know tokens.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, final
from urllib.parse import urlencode, urlsplit, urlunsplit

from sidecar.sandbox.data_sets import accounts_of
from sidecar.sandbox.delivery import to_response
from sidecar.sandbox.form_input import first_of_each, read_fields
from sidecar.sandbox.ids import new_id
from sidecar.sandbox.pages import (
    accounts_page,
    error_page,
    no_connector_page,
    sign_in_page,
    terms_page,
)
from sidecar.sandbox.replies import Reply

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from sidecar.sandbox.world import World

_PROVIDER: Final = re.compile(r"[a-z0-9-]{1,64}")
_LOGIN: Final = re.compile(r"mikomo_[A-Za-z0-9_]{1,64}|GenericUser_Pfm")
_FLOW_LIFE_S: Final = 600
_MISSING_OPENID: Final = 'Missing required scope(s) ["openid"].'


def is_provider(provider: str) -> bool:
    """Tell whether the sandbox knows a bank of this id: any plain name but `unknown-...`."""
    return _PROVIDER.fullmatch(provider) is not None and not provider.startswith("unknown-")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Flow:
    provider: str
    redirect_uri: str
    scopes: frozenset[str]
    state: str | None
    began_at: float
    user: str | None = None
    terms_read: bool = False


@final
class ConsentFlow:
    """Leads an end user from the app through sign-in, terms and accounts back to the app."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._flows: dict[str, _Flow] = {}

    async def begin(self, request: web.Request) -> web.Response:
        """Check the app's request in Akoya's order and show the login."""
        return to_response(self._begin(request.query))

    async def sign_in(self, request: web.Request) -> web.Response:
        """Take user name and password: they are equal for every sandbox user."""
        key, flow, form = await self._resume(request)
        if flow is None or form.get("decision") == "cancel":
            return to_response(self._left(key, flow))
        user = form.get("username", "")
        if not _LOGIN.fullmatch(user) or user != form.get("password"):
            problem = "Wrong user name or password. In this sandbox they are the same."
            page = sign_in_page(
                provider=flow.provider,
                request=key,
                redirect_uri=flow.redirect_uri,
                problem=problem,
            )
            return to_response(page)
        self._flows[key] = replace(flow, user=user)
        page = terms_page(
            client=self._world.settings.client_id,
            provider=flow.provider,
            user=user,
            request=key,
            redirect_uri=flow.redirect_uri,
        )
        return to_response(page)

    async def read_terms(self, request: web.Request) -> web.Response:
        """Take the user's nod to the terms and offer the accounts."""
        key, flow, form = await self._resume(request)
        if flow is None or flow.user is None or form.get("decision") == "cancel":
            return to_response(self._left(key, flow if flow and flow.user else None))
        self._flows[key] = replace(flow, terms_read=True)
        accounts = accounts_of(flow.user, flow.provider)
        return to_response(accounts_page(accounts, request=key, redirect_uri=flow.redirect_uri))

    async def choose_accounts(self, request: web.Request) -> web.Response:
        """Take the chosen accounts and send the user back to the app with a code."""
        key, flow, form = await self._resume(request)
        if flow is None or flow.user is None or not flow.terms_read:
            return to_response(self._left(key, None))
        if form.get("decision") == "cancel":
            return to_response(self._left(key, flow))
        ticked = {value for name, value in await read_fields(request) if name == "account"}
        accounts = accounts_of(flow.user, flow.provider)
        chosen = tuple(account.id for account in accounts if account.id in ticked)
        if not chosen or len(chosen) != len(ticked):
            problem = "Choose at least one of these accounts."
            page = accounts_page(
                accounts, request=key, redirect_uri=flow.redirect_uri, problem=problem
            )
            return to_response(page)
        del self._flows[key]
        code = self._world.give_consent(
            user=flow.user,
            provider=flow.provider,
            redirect_uri=flow.redirect_uri,
            accounts=chosen,
            scopes=flow.scopes,
        )
        return to_response(_back(flow, {"code": code}))

    def _begin(self, query: Mapping[str, str]) -> Reply:
        settings = self._world.settings
        client_id, provider = query.get("client_id", ""), query.get("connector", "")
        redirect_uri = query.get("redirect_uri", "")
        if client_id != settings.client_id:
            return error_page(f'Invalid client_id ("{client_id}")')
        if not settings.allows_redirect_to(redirect_uri):
            return error_page(f'Unregistered redirect_uri ("{redirect_uri}")')
        if not provider:
            return no_connector_page()
        if not is_provider(provider):
            return error_page("Invalid ConnectorID")
        flow = _Flow(
            provider=provider,
            redirect_uri=redirect_uri,
            scopes=frozenset(query.get("scope", "").split()),
            state=query.get("state"),
            began_at=self._world.clock(),
        )
        if "openid" not in flow.scopes:
            return _refused(flow, "invalid_scope", _MISSING_OPENID)
        if query.get("response_type") != "code":
            return _refused(flow, "invalid_request", "Invalid response type")
        key = new_id()
        self._flows[key] = flow
        return sign_in_page(provider=provider, request=key, redirect_uri=redirect_uri)

    async def _resume(self, request: web.Request) -> tuple[str, _Flow | None, dict[str, str]]:
        form = first_of_each(await read_fields(request))
        key = form.get("request", "")
        flow = self._flows.get(key)
        if flow is not None and self._world.clock() - flow.began_at >= _FLOW_LIFE_S:
            del self._flows[key]
            flow = None
        return key, flow, form

    def _left(self, key: str, flow: _Flow | None) -> Reply:
        """Answer a user who cancelled, or one whose flow is not there to go on with."""
        if flow is None:
            return error_page("Requested resource does not exist")
        del self._flows[key]
        return _refused(flow, "access_denied", "The end user cancelled.")


def _refused(flow: _Flow, error: str, description: str) -> Reply:
    return _back(flow, {"error": error, "error_description": description})


def _back(flow: _Flow, answer: Mapping[str, str]) -> Reply:
    """Redirect to the app with an answer, keeping the query its redirect URI has."""
    parts = urlsplit(flow.redirect_uri)
    extra = dict(answer) if flow.state is None else {**answer, "state": flow.state}
    query = "&".join(part for part in (parts.query, urlencode(extra)) if part)
    location = urlunsplit(parts._replace(query=query))
    return Reply(status=302, headers={"Location": location, "Cache-Control": "no-store"})

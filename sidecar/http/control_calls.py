"""The calls of the grants API: what each takes, which service answers it, and with what.

It reads and checks everything a call brings before anything is done. It knows neither connections
nor keys.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, assert_never, final

from sidecar.domain import grant_input
from sidecar.domain.bounds import LARGEST_NUMBER
from sidecar.domain.brake_trial import MOST_LIMIT, USUAL_LIMIT
from sidecar.domain.caller import is_user
from sidecar.domain.connecting import ConnectOrder, is_account
from sidecar.domain.record import PUBLIC_STATES, GrantId, GrantKey
from sidecar.domain.request_target import is_provider
from sidecar.domain.token_requests import AuthorizeQuery, authorize_url
from sidecar.http.control_answers import (
    OK,
    Answer,
    after_brake,
    after_import,
    after_link,
    after_obtain,
    after_page,
    after_read,
    after_release,
    after_revoke,
)
from sidecar.http.control_input import Fields, parse_object, parse_query
from sidecar.http.control_inputs import (
    ACCOUNT_RULE,
    CODE_RULE,
    CONSENTED_AT_RULE,
    CURSOR_MAX,
    CURSOR_RULE,
    EXPECTED_RULE,
    ID_TOKEN_RULE,
    PAGE_DEFAULT,
    PAGE_MAX,
    REDIRECT_RULE,
    REFRESH_TOKEN_RULE,
    RELEASE_RULE,
    RETURN_RULE,
    STATE_RULE,
    STATES_RULE,
)
from sidecar.http.control_problems import ControlReason, invalid, to_control_problem
from sidecar.http.control_routes import PROVIDER_RULE, USER_RULE, Route, Routed, parse_key
from sidecar.http.openapi import openapi_document
from sidecar.http.problems import Problem
from sidecar.http.status_answers import PageAnswer, to_page, to_status_document
from sidecar.ports import Clock
from sidecar.service.connects import ConnectDesk
from sidecar.service.grant_answers import GrantFilter
from sidecar.service.grants import GrantDesk
from sidecar.service.obtainer import Import
from sidecar.service.status import StatusSource

_WITH_BODY: Final = frozenset({"POST", "PUT"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentPage:
    """Akoya's consent page, as this app sends its end users there.

    Attributes:
        scope: Space separated.
        redirect_uri: Used where a call names none; ``None``: each call must.
    """

    idp_url: str
    client_id: str
    scope: str
    redirect_uri: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One call as it came, already known to be allowed.

    Attributes:
        query: Raw, without its question mark.
        body: All of it.
    """

    routed: Routed
    query: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What a call is answered with, and which grant it was about (for the log)."""

    answer: Answer | PageAnswer | Problem
    grant: GrantId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Desks:
    """Who carries calls out; `connects` is ``None`` where consent in the browser is off."""

    grants: GrantDesk
    status: StatusSource
    connects: ConnectDesk | None


@final
class ControlCalls:
    """Carries calls out."""

    def __init__(
        self,
        *,
        desks: Desks,
        consent_page: ConsentPage,
        clock: Clock,
        max_age_s: int,
    ) -> None:
        self._desk = desks.grants
        self._status = desks.status
        self._connects = desks.connects
        self._consent_page = consent_page
        self._clock = clock
        self._max_age_s = max_age_s

    @staticmethod
    def takes_body(route: Route) -> bool:
        """Whether the body of this call is read; that of any other is ignored."""
        return route.method in _WITH_BODY

    async def carry_out(self, asked: Asked) -> Answered:
        """Check a call and carry it out."""
        query = parse_query(asked.query)
        match asked.routed.route:
            case Route.OBTAIN:
                return await self._obtain(query, parse_object(asked.body))
            case Route.LIST:
                return await self._list(query)
            case Route.EVENTS:
                return await self._events(query)
            case Route.AUTHORIZE_URL:
                return Answered(answer=self._authorize_url(query))
            case Route.STATUS | Route.STATUS_PAGE | Route.OPENAPI as route:
                return Answered(answer=self._tell(route, query))
            case Route.CONNECT_LINK:
                return await self._connect_link(query, parse_object(asked.body))
            case Route.BRAKE:
                return await self._brake(query)
            case Route.RELEASE_BRAKE:
                return await self._release_brake(query, asked.body)
            case (
                Route.READ | Route.TAKE_OVER | Route.REVOKE | Route.REFRESH | Route.INVALIDATE
            ) as route:
                key = parse_key(asked.routed)
                if not isinstance(key, GrantKey):
                    return Answered(answer=invalid(key))
                answer = await self._about_grant(
                    route, key, query=query, body=parse_object(asked.body)
                )
                return Answered(answer=answer, grant=self._desk.grant_id(key))
            case _:
                assert_never(asked.routed.route)

    async def _obtain(self, query: Fields, body: Fields) -> Answered:
        user = body.text("user", accepts=is_user, rule=USER_RULE)
        provider = body.text("provider", accepts=is_provider, rule=PROVIDER_RULE)
        code = body.secret("code", accepts=grant_input.is_code, rule=CODE_RULE)
        redirect_uri = self._redirect_uri(body)
        errors = (*query.errors, *body.errors)
        if errors:
            return Answered(answer=invalid(errors))
        key = GrantKey(user=user, provider=provider)
        answer = await self._desk.obtain(key, code, redirect_uri=redirect_uri)
        return Answered(answer=after_obtain(answer), grant=self._desk.grant_id(key))

    async def _about_grant(
        self, route: Route, key: GrantKey, *, query: Fields, body: Fields
    ) -> Answer | Problem:
        if route is Route.TAKE_OVER:
            return await self._take_over(key, query=query, body=body)
        is_purge = route is Route.REVOKE and query.flag("purge")
        is_urgent = route is Route.REFRESH and query.flag("override_backoff")
        errors = (*query.errors, *body.errors)
        if errors:
            return invalid(errors)
        match route:
            case Route.REVOKE:
                answer = await (self._desk.purge(key) if is_purge else self._desk.revoke(key))
                return after_revoke(answer, key=key, grant=self._desk.grant_id(key))
            case Route.REFRESH:
                return after_read(await self._desk.refresh(key, overrides_backoff=is_urgent))
            case Route.INVALIDATE:
                return after_read(await self._desk.invalidate(key))
            case _:
                return after_read(await self._desk.show(key))

    async def _take_over(self, key: GrantKey, *, query: Fields, body: Fields) -> Answer | Problem:
        is_replacing = query.flag("replace")
        id_token = body.secret("id_token", accepts=grant_input.is_id_token, rule=ID_TOKEN_RULE)
        refresh_token = body.secret(
            "refresh_token", accepts=grant_input.is_refresh_token, rule=REFRESH_TOKEN_RULE
        )
        expires_in = body.span("expires_in")
        consented_at_ms = self._consented_at_ms(body)
        errors = (*query.errors, *body.errors)
        if errors:
            return invalid(errors)
        now_ms = self._desk.now_ms()
        tokens = grant_input.read_tokens_from_elsewhere(
            id_token,
            refresh_token,
            expires_in=expires_in,
            now_s=now_ms / 1000,
            max_age_s=self._max_age_s,
        )
        order = Import(
            key=key,
            tokens=tokens,
            ordered_at_ms=now_ms,
            consented_at_ms=consented_at_ms,
            is_replacing=is_replacing,
        )
        return after_import(await self._desk.take_over(order))

    async def _list(self, query: Fields) -> Answered:
        wanted = GrantFilter(
            state=_filter(query, "state", PUBLIC_STATES.__contains__, STATES_RULE),
            user=_filter(query, "user", is_user, USER_RULE),
            provider=_filter(query, "provider", is_provider, PROVIDER_RULE),
        )
        cursor, limit = _page_of(query)
        if query.errors:
            return Answered(answer=invalid(query.errors))
        answer = await self._desk.page(wanted, cursor=cursor, limit=limit)
        return Answered(answer=after_page(answer))

    async def _events(self, query: Fields) -> Answered:
        cursor, limit = _page_of(query)
        if query.errors:
            return Answered(answer=invalid(query.errors))
        return Answered(answer=after_page(await self._desk.events(cursor=cursor, limit=limit)))

    async def _release_brake(self, query: Fields, sent: bytes) -> Answered:
        body = parse_object(sent)
        limit = body.whole_number("limit", within=range(1, MOST_LIMIT + 1), rule=RELEASE_RULE)
        expected = body.whole_number("expected", within=range(LARGEST_NUMBER), rule=EXPECTED_RULE)
        is_all = body.boolean("all")
        if is_all and limit is not None:
            body.note("limit", "not together with all")
        if is_all and expected is None:
            body.note("expected", EXPECTED_RULE)
        if expected is not None and not is_all:
            body.note("expected", "only together with all")
        errors = (*query.errors, *body.errors)
        if errors:
            return Answered(answer=invalid(errors))
        if is_all and expected is not None:
            answer = await self._desk.brake.release_all(expected=expected)
        else:
            answer = await self._desk.brake.release(limit=limit or USUAL_LIMIT)
        if answer is None and sent:  # without a body it is answered as in the first version
            return Answered(answer=after_brake(await self._desk.brake.show(counts=False)))
        return Answered(answer=after_release(answer))

    async def _brake(self, query: Fields) -> Answered:
        if query.errors:
            return Answered(answer=invalid(query.errors))
        return Answered(answer=after_brake(await self._desk.brake.show()))

    def _authorize_url(self, query: Fields) -> Answer | Problem:
        provider = query.text("provider", accepts=is_provider, rule=PROVIDER_RULE)
        state = query.text("state", accepts=grant_input.is_consent_state, rule=STATE_RULE)
        redirect_uri = self._redirect_uri(query)
        if query.errors:
            return invalid(query.errors)
        page = self._consent_page
        asked = AuthorizeQuery(
            client_id=page.client_id,
            connector=provider,
            redirect_uri=redirect_uri,
            scope=page.scope,
            state=state,
        )
        return Answer(status=OK, document={"url": authorize_url(page.idp_url, asked)})

    def _tell(self, route: Route, query: Fields) -> Answer | PageAnswer | Problem:
        if query.errors:
            return invalid(query.errors)
        if route is Route.OPENAPI:
            return Answer(status=OK, document=openapi_document())
        status = self._status.status()
        if route is Route.STATUS_PAGE:
            return to_page(status)
        return Answer(status=OK, document=to_status_document(status))

    async def _connect_link(self, query: Fields, body: Fields) -> Answered:
        connects = self._connects
        if connects is None:
            return Answered(answer=to_control_problem(ControlReason.CONNECT_OFF))
        user = body.text("user", accepts=is_user, rule=USER_RULE)
        provider = body.text("provider", accepts=is_provider, rule=PROVIDER_RULE)
        return_to = body.text("return_to", accepts=connects.allows_return_to, rule=RETURN_RULE)
        account = body.optional_text("account", accepts=is_account, rule=ACCOUNT_RULE)
        errors = (*query.errors, *body.errors)
        if errors:
            return Answered(answer=invalid(errors))
        key = GrantKey(user=user, provider=provider)
        order = ConnectOrder(key=key, return_to=return_to, account=account or "")
        answer = after_link(await connects.make_link(order))
        return Answered(answer=answer, grant=self._desk.grant_id(key))

    def _redirect_uri(self, fields: Fields) -> str:
        named = fields.optional_text(
            "redirect_uri", accepts=grant_input.is_redirect_uri, rule=REDIRECT_RULE
        )
        if named is None and self._consent_page.redirect_uri is None:
            fields.note("redirect_uri", "required: SIDECAR_REDIRECT_URI sets no default")
        return named or self._consent_page.redirect_uri or ""

    def _consented_at_ms(self, body: Fields) -> int | None:
        now_s = self._clock.now_s()
        text = body.optional_text(
            "consented_at",
            accepts=lambda t: grant_input.parse_consent_instant_ms(t, now_s=now_s) is not None,
            rule=CONSENTED_AT_RULE,
        )
        return None if text is None else grant_input.parse_consent_instant_ms(text, now_s=now_s)


def _page_of(query: Fields) -> tuple[str, int]:
    cursor = query.optional_text(
        "cursor", accepts=lambda text: len(text) <= CURSOR_MAX, rule=CURSOR_RULE
    )
    return cursor or "", query.count("limit", default=PAGE_DEFAULT, at_most=PAGE_MAX)


def _filter(query: Fields, name: str, accepts: Callable[[str], bool], rule: str) -> str:
    return query.optional_text(name, accepts=accepts, rule=rule) or ""

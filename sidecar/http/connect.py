"""The connect listener: a person's visits from a link to the bank and back, answered with pages.

It owns the cookie that ties a visit to its browser, and the account of each visit. What a visit
comes to is decided in `sidecar.service.connects`, how it looks in `connect_pages`. No page and no
event holds a code, a ``state`` or a user id.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Final, final
from urllib.parse import parse_qsl

from aiohttp import web

from sidecar.domain.connecting import (
    JOURNEY_LIFE_S,
    LINK_LIFE_S,
    read_authorize_answer,
)
from sidecar.domain.connection_table import ListenerName
from sidecar.domain.descriptors import CONNECT_MOST
from sidecar.domain.events import ConnectCompleted, ConnectOutcome, WorkFailed
from sidecar.domain.pace import Pace
from sidecar.domain.secret import Secret
from sidecar.domain.tokens import ProblemReason
from sidecar.http.accounting import CLIENT_GONE_STATUS
from sidecar.http.connect_pages import Page, departure_page, ending_page, link_page
from sidecar.http.connections import ConnectionLimits, ProxyServer, may_be_followed, runner_of
from sidecar.http.control_problems import ControlReason, to_control_problem
from sidecar.http.doorway import Doorway
from sidecar.http.faults import describe_fault
from sidecar.http.problems import Problem
from sidecar.http.request_body import RequestBody
from sidecar.http.upstream import UploadStopped
from sidecar.ports import Clock, Entropy, Observer
from sidecar.service.connects import (
    Begun,
    ConnectDesk,
    Ending,
    LinkShown,
)

SERVER_NAME: Final = "akoya-sidecar"
COOKIE: Final = "__Host-connect"
"""Browsers take a cookie of this prefix from this very host alone, over https, for every path."""

FORM_MAX_BYTES: Final = 4096
MAX_PARAMETERS: Final = 16

_PACE: Final = Pace(grace_s=10.0, bytes_per_s=500.0)
_LINK: Final = re.compile(r"/connect/([0-9a-f]{32})")
_CALLBACK: Final = "/callback"
_RANDOM: Final = re.compile(r"[0-9a-f]{32}")
_FORM_TYPE: Final = "application/x-www-form-urlencoded"
_WORK: Final = "connect.request"
_LOOKS: Final = ("GET", "HEAD")
_METHOD_NOT_ALLOWED: Final = 405
_MISDIRECTED: Final = Ending(outcome=ConnectOutcome.MISDIRECTED)
_TURNED_AWAY: Final = Ending(outcome=ConnectOutcome.TURNED_AWAY)
_FAULT: Final = Ending(outcome=ConnectOutcome.FAULT)
_GONE: Final = Ending(outcome=ConnectOutcome.CLIENT_GONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectOptions:
    """How the connect listener behaves.

    Attributes:
        max_in_flight: Beyond it visits are turned away.
        max_connections: Beyond it idle or slow connections go, or new ones are refused.
        client_silence_s: How long a browser may not go on with its form.
        client_keepalive_s: How long an unused connection is kept.
    """

    max_in_flight: int = 1000
    max_connections: int = CONNECT_MOST
    max_header_bytes: int = 65536
    client_silence_s: float = 10.0
    client_keepalive_s: float = 75.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectPorts:
    """What the connect listener needs of the rest of the sidecar."""

    desk: ConnectDesk
    observer: Observer
    clock: Clock
    entropy: Entropy


@dataclass(slots=True, kw_only=True)
class _Visit:
    """One request and what becomes known of it."""

    request: web.BaseRequest
    request_id: str
    started_at_s: float
    step: str = ""
    ending: Ending = _GONE
    status: int = CLIENT_GONE_STATUS
    headers: dict[str, str] = field(default_factory=dict[str, str])


@final
class ConnectSite:
    """Serves the connect listener. Made inside a running loop; `runner` goes to a listener."""

    def __init__(self, *, options: ConnectOptions, ports: ConnectPorts) -> None:
        self._options = options
        self._ports = ports
        self._desk = ports.desk
        self._doorway = Doorway(most=options.max_in_flight)
        server = ProxyServer(
            self._handle,
            listener=ListenerName.CONNECT,
            observer=ports.observer,
            refuse_malformed=self._refuse_malformed,
            report_fault=self._report_fault,
            limits=ConnectionLimits(
                keepalive_s=options.client_keepalive_s,
                max_header_bytes=options.max_header_bytes,
                most=options.max_connections,
            ),
        )
        self.runner = runner_of(server)

    def drain(self) -> None:
        """Turn new visits away from now on, and close each connection after its answer."""
        self._doorway.is_draining = True

    async def drained(self) -> None:
        """Return once nothing is in flight."""
        await self._doorway.empty()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Carry one visit from its head to its account; nothing escapes but cancellation."""
        visit = _Visit(
            request=request,
            request_id=self._ports.entropy.new_id(),
            started_at_s=self._ports.clock.elapsed_s(),
        )
        is_crowded = self._doorway.is_full
        self._doorway.enter()
        try:
            if self._doorway.is_draining or is_crowded:
                return self._respond(visit, self._end(visit, _TURNED_AWAY))
            return self._respond(visit, await self._serve(visit))
        except Exception as error:  # noqa: BLE001 - the outermost edge of a visit
            self._report_fault(error)
            return self._respond(visit, self._end(visit, _FAULT))
        finally:
            self._doorway.leave()
            self._account(visit)

    async def _serve(self, visit: _Visit) -> Page:
        method = visit.request.method
        path, _, query = visit.request.raw_path.partition("?")
        link = _LINK.fullmatch(path)
        if link is not None:
            ticket = Secret(link[1])
            if method in _LOOKS:
                visit.step = "link"
                return await self._look(visit, ticket)
            if method == "POST":
                visit.step = "begin"
                return await self._begin(visit, ticket)
            return self._refuse_method(visit, allow="GET, HEAD, POST")
        if path == _CALLBACK:
            if method != "GET":
                return self._refuse_method(visit, allow="GET")
            visit.step = "callback"
            return await self._finish(visit, query)
        return self._end(visit, _MISDIRECTED)

    async def _look(self, visit: _Visit, ticket: Secret) -> Page:
        match await self._desk.look(ticket, _browser(visit.request)):
            case LinkShown() as shown:
                visit.headers["Set-Cookie"] = _cookie(shown)
                visit.ending = Ending(
                    outcome=ConnectOutcome.SHOWN, provider=shown.order.key.provider
                )
                return link_page(shown)
            case ending:
                return self._end(visit, ending)

    async def _begin(self, visit: _Visit, ticket: Secret) -> Page:
        browser = _browser(visit.request)
        # Without its cookie a form is refused whatever it says: it need not be read.
        proof = None if browser is None else await self._proof(visit.request)
        if self._doorway.is_crowded:
            return self._end(visit, _TURNED_AWAY)
        match await self._desk.begin(ticket, browser, proof):
            case Begun() as begun:
                visit.ending = Ending(
                    outcome=ConnectOutcome.BEGUN, grant=begun.grant, provider=begun.provider
                )
                return departure_page(begun.url.reveal())
            case ending:
                return self._end(visit, ending)

    async def _finish(self, visit: _Visit, query: str) -> Page:
        shown = _parameters(query)
        state = shown.get("state", "")
        if not _RANDOM.fullmatch(state):
            return self._end(visit, Ending(outcome=ConnectOutcome.STATE_UNKNOWN))
        answer = read_authorize_answer(shown.get("code"), shown.get("error"))
        # The cookie stays: who reloads the page is to read that it is over, and not of a stranger.
        return self._end(visit, await self._desk.finish(state, _browser(visit.request), answer))

    async def _proof(self, request: web.BaseRequest) -> Secret | None:
        """Return what the form of a link's page brings back, if it is that form."""
        if not request.body_exists or request.content_type != _FORM_TYPE:
            return None
        body = RequestBody(
            stream=request.content,
            length=request.content_length,
            limit_bytes=FORM_MAX_BYTES,
            silence_s=self._options.client_silence_s,
            pace=_PACE,
        )
        try:
            with self._doorway.aside():
                form = await body.take_whole(keep_bytes=FORM_MAX_BYTES)
        except UploadStopped:
            return None
        proof = _parameters((form or b"").decode("ascii", "replace")).get("proof")
        return None if proof is None else Secret(proof)

    def _refuse_method(self, visit: _Visit, *, allow: str) -> Page:
        visit.headers["Allow"] = allow
        return self._end(visit, _MISDIRECTED, status=_METHOD_NOT_ALLOWED)

    def _end(self, visit: _Visit, ending: Ending, *, status: int | None = None) -> Page:
        visit.ending = ending
        return ending_page(ending, request_id=visit.request_id, status=status)

    def _respond(self, visit: _Visit, page: Page) -> web.StreamResponse:
        visit.status = page.status
        headers = {
            **page.headers,
            **visit.headers,
            "X-Request-Id": visit.request_id,
            "Server": SERVER_NAME,
        }
        response = web.Response(status=page.status, body=page.body, headers=headers)
        if self._doorway.is_draining or not may_be_followed(visit.request):
            response.force_close()
        return response

    def _account(self, visit: _Visit) -> None:
        ending = visit.ending
        self._ports.observer.observe(
            ConnectCompleted(
                request_id=visit.request_id,
                step=visit.step,
                status=visit.status,
                outcome=ending.outcome,
                reason=ending.reason,
                provider=ending.provider,
                grant=ending.grant,
                duration_s=self._ports.clock.elapsed_s() - visit.started_at_s,
            )
        )

    def _refuse_malformed(self, reason: ProblemReason) -> Problem:
        """Keep the account of bytes that are no request, and return their answer."""
        problem = to_control_problem(ControlReason(reason.value))
        problem = replace(problem, request_id=self._ports.entropy.new_id())
        self._ports.observer.observe(
            ConnectCompleted(
                request_id=problem.request_id,
                step="",
                status=problem.status,
                outcome=ConnectOutcome.MISDIRECTED,
                reason=problem.reason,
                provider="",
                grant=None,
                duration_s=0.0,
            )
        )
        return problem

    def _report_fault(self, error: BaseException) -> None:
        self._ports.observer.observe(WorkFailed(where=_WORK, error=describe_fault(error)))


def _browser(request: web.BaseRequest) -> Secret | None:
    """Return what tells this browser from all others, if it was given that before."""
    value = request.cookies.get(COOKIE, "")
    return Secret(value) if _RANDOM.fullmatch(value) else None


def _cookie(shown: LinkShown) -> str:
    return (
        f"{COOKIE}={shown.browser.reveal()}; Path=/; "
        f"Max-Age={LINK_LIFE_S + JOURNEY_LIFE_S}; Secure; HttpOnly; SameSite=Lax"
    )


def _parameters(query: str) -> dict[str, str]:
    """Return the parameters that stand once (RFC 6749 allows no repetition); no more than a few."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
    except ValueError:
        return {}
    names = [name for name, _ in pairs]
    return {name: value for name, value in pairs if names.count(name) == 1}

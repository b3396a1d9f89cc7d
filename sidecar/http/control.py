"""The control listener: calls of the grants API admitted, carried out, answered and accounted for.

It knows keys, connections and the drain; what a call means is its neighbours' business. No answer
and no event holds a token, or a text that a client sent.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Final, final

from aiohttp import web

from sidecar.domain.connection_table import ListenerName
from sidecar.domain.descriptors import CONTROL_MOST
from sidecar.domain.events import ControlCompleted, WorkFailed
from sidecar.domain.forwarding import to_plain_id
from sidecar.domain.pace import Pace
from sidecar.domain.record import GrantId, GrantKey
from sidecar.domain.secret import Secret
from sidecar.domain.tokens import ProblemReason
from sidecar.domain.tracing import parse_traceparent
from sidecar.domain.waiting import retry_after_s
from sidecar.http.access import AccessKeys
from sidecar.http.accounting import CLIENT_GONE_STATUS
from sidecar.http.bulkhead import Bulkhead
from sidecar.http.connections import ConnectionLimits, ProxyServer, may_be_followed, runner_of
from sidecar.http.control_answers import Answer
from sidecar.http.control_calls import Asked, ConsentPage, ControlCalls, Desks
from sidecar.http.control_problems import PAGE_CHALLENGE, ControlReason, to_control_problem
from sidecar.http.control_routes import (
    NoSuchMethod,
    NoSuchPath,
    Route,
    Routed,
    find_route,
    parse_key,
)
from sidecar.http.doorway import Doorway
from sidecar.http.faults import describe_fault
from sidecar.http.problems import Problem
from sidecar.http.reply import CONTINUE
from sidecar.http.request_body import RequestBody
from sidecar.http.status_answers import HTML_TYPE, PAGE_HEADERS, PageAnswer
from sidecar.http.upstream import UploadStopped
from sidecar.ports import Clock, Entropy, Observer
from sidecar.service.connects import ConnectDesk
from sidecar.service.grants import GrantDesk
from sidecar.service.status import StatusSource

MAX_BODY_BYTES: Final = 65536
SERVER_NAME: Final = "akoya-sidecar"
PAGE_PATH: Final = "/"

_PACE: Final = Pace(grace_s=10.0, bytes_per_s=1000.0)
_JSON: Final = "application/json"
_UTF_8: Final = frozenset({"utf-8", "utf8", None})
_BEARER: Final = "bearer"
_BASIC: Final = "basic"
_UNAVAILABLE: Final = 503
_READING: Final = frozenset({"GET", "HEAD"})
_CALL: Final = "control.request"


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlOptions:
    """How the control listener behaves.

    Attributes:
        control_keys: Keys by the name of who has them; never none.
        max_age_s: Upper bound on the trusted life of an imported id_token.
        max_in_flight: Beyond it calls are refused.
        max_connections: Beyond it idle or slow connections go, or new ones are refused.
        client_silence_s: How long a client may not go on with its body.
        client_keepalive_s: How long an unused connection of a client is kept.
    """

    control_keys: Mapping[str, Secret]
    consent_page: ConsentPage
    max_age_s: int
    max_in_flight: int = 1000
    max_connections: int = CONTROL_MOST
    max_header_bytes: int = 65536
    client_silence_s: float = 30.0
    client_keepalive_s: float = 75.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPorts:
    """What the control listener needs of the rest of the sidecar.

    Attributes:
        connects: ``None``: consent in the browser is off.
    """

    desk: GrantDesk
    status: StatusSource
    observer: Observer
    clock: Clock
    entropy: Entropy
    connects: ConnectDesk | None = None


@dataclass(slots=True, kw_only=True)
class _Visit:
    """One call and what becomes known of it."""

    request: web.BaseRequest
    request_id: str
    trace_id: str
    started_at_s: float
    client: str = ""
    route: Route | None = None
    status: int = CLIENT_GONE_STATUS
    reason: str = ""
    grant: GrantId | None = None


@final
class ControlApi:
    """Serves the control listener. Made inside a running loop; `runner` goes to a listener."""

    def __init__(self, *, options: ControlOptions, ports: ControlPorts) -> None:
        self._options = options
        self._ports = ports
        self._keys = AccessKeys(keys=options.control_keys)
        self._calls = ControlCalls(
            desks=Desks(grants=ports.desk, status=ports.status, connects=ports.connects),
            consent_page=options.consent_page,
            clock=ports.clock,
            max_age_s=options.max_age_s,
        )
        self._doorway = Doorway(most=options.max_in_flight)
        self._bulkhead = Bulkhead(
            doorway=self._doorway, most=options.max_in_flight, clock=ports.clock
        )
        server = ProxyServer(
            self._handle,
            listener=ListenerName.CONTROL,
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

    def renew_keys(self, keys: Mapping[str, Secret]) -> None:
        """Accept `keys` and no others, from the next call on each connection."""
        self._keys.replace(keys)

    @property
    def in_flight(self) -> int:
        """Calls between their start and their end."""
        return self._doorway.in_flight

    def drain(self) -> None:
        """Refuse new calls from now on, and close each connection after its answer."""
        self._doorway.is_draining = True

    async def drained(self) -> None:
        """Return once nothing is in flight."""
        await self._doorway.empty()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Carry one call from its head to its account; nothing escapes but cancellation."""
        visit = self._open_visit(request)
        is_crowded = self._doorway.is_full
        self._doorway.enter()
        try:
            is_draining = self._doorway.is_draining
            if is_draining or is_crowded:
                reason = ControlReason.DRAINING if is_draining else ControlReason.OVERLOADED
                return self._respond(visit, to_control_problem(reason))
            return self._respond(visit, await self._serve(visit))
        except UploadStopped:
            # The client stayed silent in the midst of its body.
            return self._respond(visit, to_control_problem(ControlReason.REQUEST_INVALID))
        except Exception as error:  # noqa: BLE001 - the outermost edge of a call
            self._report_fault(error)
            return self._respond(visit, to_control_problem(ControlReason.INTERNAL_ERROR))
        finally:
            self._doorway.leave()
            self._account(visit)

    def _open_visit(self, request: web.BaseRequest) -> _Visit:
        shown_id = request.headers.get("X-Request-Id")
        return _Visit(
            request=request,
            request_id=(shown_id and to_plain_id(shown_id)) or self._ports.entropy.new_id(),
            trace_id=parse_traceparent(request.headers.getall("traceparent", ())).trace_id,
            started_at_s=self._ports.clock.elapsed_s(),
        )

    async def _serve(self, visit: _Visit) -> Answer | PageAnswer | Problem:
        """Admit a call and have it carried out.

        Raises:
            UploadStopped: The client did not go on with its body.
        """
        path, _, query = visit.request.raw_path.partition("?")
        # By Basic only there: a browser sends it again unasked, also where another site made it.
        is_page = path == PAGE_PATH and visit.request.method in _READING
        name = self._keys.name_of(_shown_key(visit.request, takes_basic=is_page))
        if name is None:
            problem = to_control_problem(ControlReason.CONTROL_KEY_INVALID)
            return replace(problem, challenge=PAGE_CHALLENGE) if is_page else problem
        visit.client = name
        match find_route(visit.request.method, path):
            case NoSuchPath():
                return to_control_problem(ControlReason.NOT_FOUND)
            case NoSuchMethod(allow=allow):
                return to_control_problem(ControlReason.METHOD_NOT_ALLOWED, allow=allow)
            case Routed() as routed:
                visit.route = routed.route
        body = b""
        if self._calls.takes_body(routed.route):
            received = await self._read_body(visit.request)
            if isinstance(received, Problem):
                return received
            body = received
        asked = Asked(routed=routed, query=query, body=body)
        # Of all calls this one waits for a token; the others must not wait for its slots.
        key = parse_key(routed) if routed.route is Route.REFRESH else None
        with self._bulkhead.waiting(key) if isinstance(key, GrantKey) else nullcontext() as limit:
            if limit is not None:
                return to_control_problem(ControlReason.OVERLOADED)
            answered = await self._calls.carry_out(asked)
        visit.grant = answered.grant
        return answered.answer

    async def _read_body(self, request: web.BaseRequest) -> bytes | Problem:
        """Return the body if it is JSON of a sane size.

        Raises:
            UploadStopped: It will never be whole.
        """
        if not request.body_exists:
            return b""
        if not _is_json(request):
            return to_control_problem(ControlReason.MEDIA_TYPE_UNSUPPORTED)
        too_large = to_control_problem(ControlReason.REQUEST_TOO_LARGE)
        if (request.content_length or 0) > MAX_BODY_BYTES:
            return too_large
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport:
            request.transport.write(CONTINUE)
        body = RequestBody(
            stream=request.content,
            length=request.content_length,
            limit_bytes=MAX_BODY_BYTES,
            silence_s=self._options.client_silence_s,
            pace=_PACE,
        )
        try:
            with self._doorway.aside():
                whole = await body.take_whole(keep_bytes=MAX_BODY_BYTES)
        except UploadStopped:
            if body.refusal is None:
                raise
            is_large = body.refusal.reason is ProblemReason.REQUEST_TOO_LARGE
            return too_large if is_large else to_control_problem(ControlReason.REQUEST_INVALID)
        if self._doorway.is_crowded:
            return to_control_problem(ControlReason.OVERLOADED)
        return too_large if whole is None else whole

    def _respond(self, visit: _Visit, answer: Answer | PageAnswer | Problem) -> web.StreamResponse:
        visit.status = answer.status
        if isinstance(answer, Problem) and answer.status == _UNAVAILABLE and answer.retry_after_s:
            wait_s = retry_after_s(answer.retry_after_s, self._ports.entropy.fraction())
            answer = replace(answer, retry_after_s=wait_s)
        headers = {"Cache-Control": "no-store"}
        if isinstance(answer, Problem):
            answer = replace(answer, request_id=visit.request_id)
            visit.reason = answer.reason
            headers |= dict(answer.headers())
        elif isinstance(answer, PageAnswer):
            headers |= PAGE_HEADERS | {"Content-Type": HTML_TYPE}
        elif answer.document is not None:
            headers["Content-Type"] = _JSON
        headers |= {"X-Request-Id": visit.request_id, "Server": SERVER_NAME}
        response = web.Response(status=answer.status, body=answer.body() or None, headers=headers)
        if self._doorway.is_draining or not may_be_followed(visit.request):
            response.force_close()
        return response

    def _account(self, visit: _Visit) -> None:
        self._ports.observer.observe(
            ControlCompleted(
                request_id=visit.request_id,
                trace_id=visit.trace_id,
                client=visit.client,
                route="" if visit.route is None else visit.route.value,
                status=visit.status,
                reason=visit.reason,
                grant=visit.grant,
                duration_s=self._ports.clock.elapsed_s() - visit.started_at_s,
            )
        )

    def _refuse_malformed(self, reason: ProblemReason) -> Problem:
        """Keep the account of bytes that are no request, and return their answer."""
        problem = to_control_problem(ControlReason(reason.value))
        problem = replace(problem, request_id=self._ports.entropy.new_id())
        self._ports.observer.observe(
            ControlCompleted(
                request_id=problem.request_id,
                trace_id="",
                client="",
                route="",
                status=problem.status,
                reason=problem.reason,
                grant=None,
                duration_s=0.0,
            )
        )
        return problem

    def _report_fault(self, error: BaseException) -> None:
        self._ports.observer.observe(WorkFailed(where=_CALL, error=describe_fault(error)))


def _shown_key(request: web.BaseRequest, *, takes_basic: bool) -> Secret | None:
    """Return the key of the one ``Authorization`` header: a bearer, or a password."""
    shown = request.headers.getall("Authorization", [])
    if len(shown) != 1:
        return None
    scheme, _, key = shown[0].partition(" ")
    if scheme.lower() == _BEARER:
        return Secret(key.strip(" "))
    return _password(key) if takes_basic and scheme.lower() == _BASIC else None


def _password(credentials: str) -> Secret | None:
    """Return the password of HTTP Basic (RFC 7617), whatever the name; ``None``: it is none."""
    try:
        pair = base64.b64decode(credentials.strip(" "), validate=True).decode()
    except ValueError:
        return None
    return Secret(pair.partition(":")[2])


def _is_json(request: web.BaseRequest) -> bool:
    return (
        request.content_type == _JSON
        and (request.charset or "utf-8").lower() in _UTF_8
        and "Content-Encoding" not in request.headers
    )

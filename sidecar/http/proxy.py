"""The proxy listener: each request admitted, given its bearer, asked, and its answer passed on.

It counts what is in flight, keeps the account of each request and drains. How a grant gets its
token is the source's business, what goes over the wire that of its neighbours here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, assert_never, final

from aiohttp import web

from sidecar.domain.bulkhead import SlotLimit
from sidecar.domain.connection_table import ListenerName, PeerPatience
from sidecar.domain.events import RequestOutcome, RequestStarted, TokenLookedUp, WorkFailed
from sidecar.domain.forwarding import to_plain_id
from sidecar.domain.pace import Pace
from sidecar.domain.request_target import Refused
from sidecar.domain.retrying import RetryPolicy
from sidecar.domain.secret import Secret
from sidecar.domain.tokens import ProblemReason, TokenFound, TokenRefused, TokenSource
from sidecar.domain.tracing import parse_traceparent
from sidecar.domain.waiting import retry_after_s
from sidecar.http.access import AccessKeys
from sidecar.http.accounting import Account
from sidecar.http.admission import Admission, Admitted
from sidecar.http.bulkhead import Bulkhead
from sidecar.http.connections import ConnectionLimits, ProxyServer
from sidecar.http.doorway import Doorway
from sidecar.http.exchange import Answered, Call, Exchange, ProxyPorts
from sidecar.http.faults import describe_fault
from sidecar.http.look_up import LookUp, overloaded
from sidecar.http.problems import Problem, to_proxy_problem
from sidecar.http.reply import Ended, Passage, Reply
from sidecar.http.request_body import RequestBody
from sidecar.http.upstream import UploadStopped, Upstream
from sidecar.service.patience import Patience

_UNAVAILABLE: Final = 503
_SLOW_S: Final = 5.0
"""After which a slow client goes for another one; uploads may wait for the upstream meanwhile."""

_PACE: Final = Pace(grace_s=30.0, bytes_per_s=500.0)
_STARTED: Final = RequestStarted()
_LOOKED_UP: Final = {source: TokenLookedUp(source=source) for source in TokenSource}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyOptions:
    """How the proxy listener behaves.

    Attributes:
        user_header: Names the end user.
        methods: Accepted methods, in upper case.
        client_keys: Keys by client; none: nobody is asked for one.
        replay_body_max_bytes: Bodies up to it are kept, so that a request can be repeated.
        max_request_bytes: 0: no limit.
        max_header_bytes: Of all header fields of a request.
        max_in_flight: Beyond it requests are refused.
        max_connections: Beyond it idle or slow connections go, or new ones are refused.
        upstream_retries: Repeats of a GET.
        client_silence_s: How long a client may neither send nor read within a request.
        client_keepalive_s: How long an unused connection of a client is kept.
    """

    user_header: str = "Sidecar-User"
    methods: frozenset[str] = frozenset({"GET", "POST"})
    client_keys: Mapping[str, Secret]
    replay_body_max_bytes: int = 65536
    max_request_bytes: int = 0
    max_header_bytes: int = 65536
    max_in_flight: int = 1000
    max_connections: int = 4000
    upstream_retries: int = 0
    client_silence_s: float = 300.0
    client_keepalive_s: float = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Visit:
    """One request with its answer and its account."""

    request: web.BaseRequest
    account: Account
    reply: Reply
    patience: Patience


@final
class Proxy:
    """Serves the proxy listener. Made inside a running loop; `server` goes to a runner."""

    def __init__(self, *, options: ProxyOptions, upstream: Upstream, ports: ProxyPorts) -> None:
        self._options = options
        self._ports = ports
        self._doorway = Doorway(most=options.max_in_flight)
        self._bulkhead = Bulkhead(
            doorway=self._doorway, most=options.max_in_flight, clock=ports.clock
        )
        self._look_up = LookUp(source=ports.source, tracer=ports.tracer, bulkhead=self._bulkhead)
        self._exchange = Exchange(
            upstream=upstream,
            ports=ports,
            policy=RetryPolicy(retries=options.upstream_retries),
            bulkhead=self._bulkhead,
        )
        self._client_keys = AccessKeys(keys=options.client_keys)
        self._admission = Admission(
            user_header=options.user_header,
            methods=options.methods,
            max_request_bytes=options.max_request_bytes,
            max_header_bytes=options.max_header_bytes,
            client_keys=self._client_keys,
        )
        self._allow = ", ".join(sorted(options.methods))
        self._kept = Ended(keep_alive=True)
        self._closed = Ended(keep_alive=False)
        self.server = ProxyServer(
            self._handle,
            listener=ListenerName.PROXY,
            observer=ports.observer,
            refuse_malformed=self._refuse_malformed,
            report_fault=self._report_fault,
            limits=ConnectionLimits(
                keepalive_s=options.client_keepalive_s,
                max_header_bytes=options.max_header_bytes,
                most=options.max_connections,
                patience=PeerPatience(
                    stalled_s=options.client_silence_s, slow_s=_SLOW_S, has_streams=True
                ),
            ),
        )

    def renew_keys(self, keys: Mapping[str, Secret]) -> None:
        """Accept `keys` and no others, from the next request on each connection."""
        self._client_keys.replace(keys)

    @property
    def in_flight(self) -> int:
        """Requests between their start and their end."""
        return self._doorway.in_flight

    def drain(self) -> None:
        """Refuse new requests from now on, and close each connection after its answer."""
        self._doorway.is_draining = True

    async def drained(self) -> None:
        """Return once nothing is in flight."""
        await self._doorway.empty()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Carry one request from its head to its account; nothing escapes but cancellation."""
        parent = parse_traceparent(request.headers.getall("traceparent", ()))
        with self._ports.tracer.serve(parent) as trace_id:
            return await self._carry(self._open_visit(request, trace_id=trace_id))

    async def _carry(self, visit: _Visit) -> web.StreamResponse:
        account, reply = visit.account, visit.reply
        refused = self._refuse_now(account)
        self._doorway.enter()
        try:
            if refused is None:
                refused = await self._serve(visit)
            if refused is not None:
                self._send_refusal(visit, refused)
        except UploadStopped:
            account.outcome = RequestOutcome.CLIENT_GONE
            reply.abort()
        except asyncio.CancelledError:
            transport = visit.request.transport
            if transport is None or transport.is_closing():
                account.outcome = RequestOutcome.CLIENT_GONE
            else:
                account.reason = ProblemReason.DRAINING
            raise
        except Exception as error:  # noqa: BLE001 - the outermost edge of a request
            self._report_fault(error)
            self._fail(visit)
        finally:
            account.bytes_out = reply.sent_bytes
            self._doorway.leave()
            self._ports.observer.observe(account.close(now_s=self._ports.clock.elapsed_s()))
        return self._kept if reply.is_kept_alive else self._closed

    def _open_visit(self, request: web.BaseRequest, *, trace_id: str) -> _Visit:
        ports = self._ports
        ports.observer.observe(_STARTED)
        headers = request.headers
        shown_id = headers.get("X-Request-Id")
        account = Account(
            method=request.method,
            request_id=(shown_id and to_plain_id(shown_id)) or ports.entropy.new_id(),
            trace_id=trace_id,
            started_at_s=ports.clock.elapsed_s(),
        )
        reply = Reply(request=request, clock=ports.clock, silence_s=self._options.client_silence_s)
        if "Transfer-Encoding" in headers:
            # The parser would take the trailers of a chunked body for headers of the next request.
            reply.is_kept_alive = False
        patience = ports.source.patience()
        return _Visit(request=request, account=account, reply=reply, patience=patience)

    def _refuse_now(self, account: Account) -> Refused | None:
        if self._doorway.is_draining:
            return Refused(reason=ProblemReason.DRAINING)
        if self._doorway.is_full:
            return overloaded(account, SlotLimit.ALL)
        return None

    async def _serve(self, visit: _Visit) -> Refused | None:
        """Answer a request, or return why it is refused.

        Raises:
            UploadStopped: The client did not go on with its body.
        """
        admitted = self._admission.admit(visit.request, visit.account)
        if isinstance(admitted, Refused):
            return admitted
        with self._bulkhead.bank(admitted.key.provider) as limit:
            if limit is not None:
                return overloaded(visit.account, limit)
            return await self._serve_admitted(visit, admitted)

    async def _serve_admitted(self, visit: _Visit, admitted: Admitted) -> Refused | None:
        observer = self._ports.observer
        found = self._ports.source.peek(admitted.key) or await self._look_up.find(
            admitted.key, patience=visit.patience, account=visit.account
        )
        if isinstance(found, Refused):
            observer.observe(_LOOKED_UP[TokenSource.NONE])
            return found
        visit.account.grant = found.grant
        if isinstance(found, TokenRefused):
            observer.observe(_LOOKED_UP[TokenSource.NONE])
            return Refused(reason=found.reason, retry_after_s=found.retry_after_s)
        observer.observe(_LOOKED_UP[found.source])
        self._bulkhead.note_served(admitted.key.provider)
        if not admitted.has_body:
            # A length of 0 goes on: without one, strict servers answer a POST with 411.
            nothing = None if admitted.length is None else b""
            return await self._exchange_and_pass(visit, admitted, found=found, body=nothing)
        body = self._open_body(visit, admitted)
        try:
            return await self._forward(visit, admitted, found=found, body=body)
        finally:
            visit.account.bytes_in = body.received_bytes

    def _open_body(self, visit: _Visit, admitted: Admitted) -> RequestBody:
        if admitted.expects_continue and visit.request.version >= (1, 1):
            visit.reply.send_continue()
        return RequestBody(
            stream=visit.request.content,
            length=admitted.length,
            limit_bytes=self._options.max_request_bytes,
            silence_s=self._options.client_silence_s,
            pace=_PACE,
        )

    async def _forward(
        self, visit: _Visit, admitted: Admitted, *, found: TokenFound, body: RequestBody
    ) -> Refused | None:
        try:
            with self._bulkhead.aside(admitted.key.provider):
                whole = await body.take_whole(keep_bytes=self._options.replay_body_max_bytes)
        except UploadStopped:
            if body.refusal is None:
                raise
            return body.refusal
        crowded = self._bulkhead.crowding(admitted.key.provider)
        if crowded is not None:
            return overloaded(visit.account, crowded)
        refused = await self._exchange_and_pass(
            visit, admitted, found=found, body=body if whole is None else whole
        )
        if refused is not None and body.is_stopped and body.refusal is None:
            raise UploadStopped
        return refused

    async def _exchange_and_pass(
        self,
        visit: _Visit,
        admitted: Admitted,
        *,
        found: TokenFound,
        body: bytes | RequestBody | None,
    ) -> Refused | None:
        call = Call(
            admitted=admitted, method=visit.request.method, body=body, patience=visit.patience
        )
        answered = await self._exchange.carry_out(call, found, account=visit.account)
        if isinstance(answered, Refused):
            return answered
        await self._pass_on(visit, answered)
        return None

    async def _pass_on(self, visit: _Visit, answered: Answered) -> None:
        account = visit.account
        clock = self._ports.clock
        since_s = clock.elapsed_s()
        head = answered.answer.head
        account.status = answered.status
        if self._doorway.is_draining:
            visit.reply.is_kept_alive = False
        try:
            passage = await visit.reply.send_answer(
                answered.head,
                status_line=b"HTTP/1.1 %d %b" % (answered.status, head.reason),
                framing=head.framing,
                start=answered.start,
                body=answered.answer.body,
            )
        finally:
            answered.answer.close()
            account.upstream_s += clock.elapsed_s() - since_s - visit.reply.stalled_s
        match passage:
            case Passage.WHOLE:
                account.outcome = (
                    RequestOutcome.HEALED if answered.is_healed else RequestOutcome.PASSED
                )
            case Passage.UPSTREAM_BROKE:
                account.outcome = RequestOutcome.UPSTREAM_BROKE
                account.cause = visit.reply.broken_by
                visit.reply.abort()
            case Passage.CLIENT_STALLED:
                account.outcome = RequestOutcome.CLIENT_GONE
                visit.reply.abort()
            case _:
                assert_never(passage)

    def _send_refusal(self, visit: _Visit, refused: Refused) -> None:
        problem = self._to_problem(refused, account=visit.account)
        if self._doorway.is_draining:
            visit.reply.is_kept_alive = False
        visit.reply.send_problem(problem)

    def _to_problem(self, refused: Refused, *, account: Account) -> Problem:
        problem = to_proxy_problem(
            refused.reason,
            request_id=account.request_id,
            retry_after_s=refused.retry_after_s,
            allow=self._allow if refused.reason is ProblemReason.METHOD_NOT_ALLOWED else "",
        )
        if problem.status == _UNAVAILABLE and problem.retry_after_s is not None:
            wait_s = retry_after_s(problem.retry_after_s, self._ports.entropy.fraction())
            problem = replace(problem, retry_after_s=wait_s)
        account.status = problem.status
        account.reason = refused.reason
        if account.outcome is not RequestOutcome.CLIENT_GONE:
            account.outcome = RequestOutcome.REFUSED
        return problem

    def _fail(self, visit: _Visit) -> None:
        """Answer for a fault of ours: 500 if nothing was sent yet, else a broken connection."""
        visit.account.reason = ProblemReason.INTERNAL_ERROR
        if visit.reply.has_begun:
            visit.reply.abort()
        else:
            visit.reply.is_kept_alive = False
            self._send_refusal(visit, Refused(reason=ProblemReason.INTERNAL_ERROR))
        visit.account.outcome = RequestOutcome.FAILED

    def _refuse_malformed(self, reason: ProblemReason) -> Problem:
        """Keep the account of bytes that are no request, and return their answer."""
        self._ports.observer.observe(_STARTED)
        account = Account(
            method="",
            request_id=self._ports.entropy.new_id(),
            trace_id="",
            started_at_s=self._ports.clock.elapsed_s(),
        )
        problem = self._to_problem(Refused(reason=reason), account=account)
        self._ports.observer.observe(account.close(now_s=self._ports.clock.elapsed_s()))
        return problem

    def _report_fault(self, error: BaseException) -> None:
        self._ports.observer.observe(WorkFailed(where="proxy.request", error=describe_fault(error)))

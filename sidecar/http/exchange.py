"""One request at the upstream: ask, repeat a GET that failed, heal a rejected token once.

It decides with the domain's rules whether to ask again and hands back an open answer or a refusal.
It does not know the client's connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, replace
from typing import Final, assert_never, final

from sidecar.domain.bulkhead import GLANCE_S
from sidecar.domain.events import ResourceExhausted, UpstreamAnswered, UpstreamClass
from sidecar.domain.forwarding import AnswerHead, sort_answer_headers
from sidecar.domain.request_target import Refused
from sidecar.domain.resources import NeededAt
from sidecar.domain.retrying import (
    RETRIED_STATUSES,
    GiveUp,
    RetryAfterPause,
    RetryBudget,
    RetryPolicy,
    decide_retry,
    deposit_request,
    parse_retry_after,
)
from sidecar.domain.tokens import (
    HealDeclined,
    HealVerdict,
    ProblemReason,
    TokenFound,
    TokenRefused,
)
from sidecar.domain.tracing import SpanName
from sidecar.domain.upstream_answers import PEEK_BYTES, classify, is_told_by_body, read_code
from sidecar.domain.upstream_failures import SHORTAGES, UpstreamCause
from sidecar.http.accounting import Account
from sidecar.http.admission import Admitted
from sidecar.http.answer_body import AnswerBroken
from sidecar.http.bulkhead import Bulkhead
from sidecar.http.request_body import RequestBody
from sidecar.http.upstream import (
    Question,
    Upstream,
    UpstreamAnswer,
    UpstreamFailed,
)
from sidecar.ports import Clock, Entropy, Observer, Tracer
from sidecar.service.patience import Patience
from sidecar.service.token_source import BearerSource

_UNAUTHORIZED: Final = 401
_NO_CONTENT: Final = 204
_FIRST_SUCCESS: Final = 200
_FIRST_REDIRECT: Final = 300
_PEEK_S: Final = 1.0
_UNREACHABLE: Final = Refused(reason=ProblemReason.UPSTREAM_UNREACHABLE)
_TIMED_OUT: Final = Refused(reason=ProblemReason.UPSTREAM_TIMEOUT)
_OVERLOADED: Final = Refused(reason=ProblemReason.OVERLOADED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyPorts:
    """What the proxy needs of the rest of the sidecar."""

    source: BearerSource
    observer: Observer
    tracer: Tracer
    clock: Clock
    entropy: Entropy


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request that has a right to be asked.

    Attributes:
        body: All of it, or a stream that can be sent once, or ``None``.
        patience: What is left of it after the look-up.
    """

    admitted: Admitted
    method: str
    body: bytes | RequestBody | None
    patience: Patience

    @property
    def is_repeatable(self) -> bool:
        """Whether it can be sent a second time."""
        return self.body is None or isinstance(self.body, bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """An answer to pass on; whoever holds it closes `answer`.

    Attributes:
        start: What was read ahead of its body.
        is_healed: It came after a refresh that a 401 had asked for.
    """

    answer: UpstreamAnswer
    head: AnswerHead
    status: int
    start: bytes = b""
    is_healed: bool = False


@final
class Exchange:
    """Asks the upstream on behalf of clients."""

    def __init__(
        self, *, upstream: Upstream, ports: ProxyPorts, policy: RetryPolicy, bulkhead: Bulkhead
    ) -> None:
        self._upstream = upstream
        self._bulkhead = bulkhead
        self._ports = ports
        self._policy = policy
        self._budget = RetryBudget(
            balance=policy.budget.floor, at_s=ports.clock.elapsed_s() if policy.retries else 0.0
        )

    async def carry_out(
        self, call: Call, found: TokenFound, *, account: Account
    ) -> Answered | Refused:
        """Return the answer to pass on, or why there is none."""
        answered = await self._ask(call, found, account=account)
        if isinstance(answered, Refused) or answered.status != _UNAUTHORIZED:
            return answered
        verdict = await self._heal(call, found, open_answer=answered, account=account)
        if isinstance(verdict, TokenRefused):
            # The grant is dead, or cannot be refreshed just now: that says more than the 401.
            answered.answer.close()
            return Refused(reason=verdict.reason, retry_after_s=verdict.retry_after_s)
        if isinstance(verdict, HealDeclined) or not call.is_repeatable:
            return answered
        answered.answer.close()
        repeated = await self._ask(call, verdict.found, account=account)
        if isinstance(repeated, Refused):
            return repeated
        if repeated.status == _UNAUTHORIZED:
            # Told, so that 401s of this product start no refresh for a while; never repeated, so
            # nothing is waited for.
            call.patience.shorten(0.0)
            await self._heal(call, verdict.found, open_answer=repeated, account=account)
            return repeated
        return Answered(
            answer=repeated.answer,
            head=repeated.head,
            status=repeated.status,
            start=repeated.start,
            is_healed=True,
        )

    async def _heal(
        self, call: Call, rejected: TokenFound, *, open_answer: Answered, account: Account
    ) -> HealVerdict:
        key, product = call.admitted.key, call.admitted.product
        try:
            with self._ports.tracer.span(SpanName.HEAL), self._bulkhead.waiting(key) as limit:
                if limit is not None:
                    call.patience.shorten(GLANCE_S)
                verdict = await self._ports.source.heal(
                    key, rejected, product=product, patience=call.patience
                )
        except BaseException:
            open_answer.answer.close()
            raise
        if limit is not None and isinstance(verdict, TokenRefused) and verdict.is_cut_short:
            account.limit = limit
            return replace(verdict, reason=ProblemReason.OVERLOADED, retry_after_s=None)
        return verdict

    async def _ask(self, call: Call, found: TokenFound, *, account: Account) -> Answered | Refused:
        """Ask until there is an answer to pass on; the time it takes is the upstream's."""
        clock = self._ports.clock
        since_s = clock.elapsed_s()
        try:
            if self._policy.retries:
                self._budget = deposit_request(
                    self._budget, terms=self._policy.budget, now_s=since_s
                )
            question = Question(
                method=call.method,
                target=call.admitted.target,
                headers=call.admitted.headers,
                bearer=found.bearer,
                body=call.body,
            )
            repeats = 0
            while True:
                with self._ports.tracer.span(SpanName.UPSTREAM) as span:
                    outcome = await self._ask_once(call, question, account=account)
                    if isinstance(outcome, UpstreamFailed):
                        span.fail(outcome.cause)
                pause_s = self._pause_s(call, outcome, repeats=repeats)
                if pause_s is None:
                    break
                if isinstance(outcome, Answered):
                    outcome.answer.close()
                await asyncio.sleep(pause_s)
                repeats += 1
        finally:
            account.upstream_s += clock.elapsed_s() - since_s
        if isinstance(outcome, UpstreamFailed):
            return _refuse(call, outcome, account=account)
        if _FIRST_SUCCESS <= outcome.status < _FIRST_REDIRECT:
            self._note_accepted(call, found)
        return outcome

    def _note_accepted(self, call: Call, found: TokenFound) -> None:
        product = call.admitted.product
        if found.cooling_product and found.cooling_product == product:
            self._ports.source.accepted(call.admitted.key, found, product=product)

    async def _ask_once(
        self, call: Call, question: Question, *, account: Account
    ) -> Answered | UpstreamFailed:
        answer = await self._upstream.ask(question)
        if isinstance(answer, UpstreamFailed):
            self._note_failure(call, answer)
            return answer
        status = answer.head.status
        head = sort_answer_headers(answer.head.headers, is_length_framed=status != _NO_CONTENT)
        account.interaction_id = head.interaction_id
        start = b""
        code = None
        if is_told_by_body(status):
            try:
                start = await _peek(answer)
            except AnswerBroken as broken:
                answer.close()
                return UpstreamFailed(cause=broken.cause)
            except BaseException:
                answer.close()
                raise
            code = read_code(start, encoding=head.content_encoding)
        self._observe(call, classify(status, code))
        return Answered(answer=answer, head=head, status=status, start=start)

    def _note_failure(self, call: Call, failed: UpstreamFailed) -> None:
        if failed.cause is UpstreamCause.SILENT:
            self._observe(call, UpstreamClass.TIMEOUT)
        elif failed.cause in SHORTAGES:
            self._ports.observer.observe(
                ResourceExhausted(resource=SHORTAGES[failed.cause], where=NeededAt.UPSTREAM)
            )

    def _observe(self, call: Call, upstream_class: UpstreamClass) -> None:
        self._ports.observer.observe(
            UpstreamAnswered(provider=call.admitted.key.provider, upstream_class=upstream_class)
        )

    def _pause_s(
        self, call: Call, outcome: Answered | UpstreamFailed, *, repeats: int
    ) -> float | None:
        """Return how long to wait before asking again, or ``None``: what there is goes on."""
        if not self._policy.retries or call.method != "GET" or not call.is_repeatable:
            return None
        retry_after_s = None
        match outcome:
            case UpstreamFailed(cause=cause):
                if cause is UpstreamCause.SILENT or cause in SHORTAGES:
                    return None
            case Answered(status=status, head=head):
                if status not in RETRIED_STATUSES:
                    return None
                retry_after_s = parse_retry_after(head.retry_after, now_s=self._ports.clock.now_s())
        decision = decide_retry(
            self._budget,
            policy=self._policy,
            repeats=repeats,
            retry_after_s=retry_after_s,
            jitter=self._ports.entropy.fraction(),
        )
        match decision:
            case RetryAfterPause(pause_s=pause_s, budget=budget):
                self._budget = budget
                return pause_s
            case GiveUp():
                return None
            case _:
                assert_never(decision)


def _refuse(call: Call, failed: UpstreamFailed, *, account: Account) -> Refused:
    if isinstance(call.body, RequestBody) and call.body.refusal is not None:
        return call.body.refusal
    if not (isinstance(call.body, RequestBody) and call.body.is_stopped):
        account.cause = failed.cause
    if failed.cause in SHORTAGES:
        return _OVERLOADED
    return _TIMED_OUT if failed.cause is UpstreamCause.SILENT else _UNREACHABLE


async def _peek(answer: UpstreamAnswer) -> bytes:
    """Read ahead what tells the class of an error: little, and not for long.

    Raises:
        AnswerBroken: The body breaks off within it.
    """
    start = b""
    # Where the time is over, what there is has to do.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_PEEK_S):
            while len(start) < PEEK_BYTES and not answer.body.at_eof():
                start += await answer.body.read(PEEK_BYTES - len(start))
    return start

"""A small faithful token service: single-use refresh tokens, consents that replace one another.

Every token can be used once; what was used is refused, or (as some do) kills its whole family. The
ledger is the oracle of the tests: who presented what, when, and what came of it. Faults are planned
by the test. It must not know what a sidecar does with an answer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol, final

from sidecar.domain.failure import Operation
from sidecar.domain.record import GrantKey
from sidecar.domain.wire import Answered, Broken, NotSent, TokenReply, TokenRequest
from sidecar.ports import Clock
from tests.support.scripted_idp import field_of, id_token, pair_answer, refusal

CLAIMED: Final = refusal(
    400,
    "invalid_request",
    "Refresh token is invalid or has already been claimed by another client.",
)
INVALID_CODE: Final = refusal(400, "invalid_request", "Invalid or expired code parameter.")


class Fault(StrEnum):
    """What goes wrong with one request; "lost" means that the connection is reset."""

    NONE = "none"
    UNREACHABLE = "unreachable"
    REQUEST_LOST = "request_lost"
    ANSWER_LOST = "answer_lost"
    ERROR_BEFORE = "error_before"
    ERROR_AFTER = "error_after"
    CUT_BEFORE_TOKEN = "cut_before_token"
    CUT_AFTER_TOKEN = "cut_after_token"

    @property
    def is_processed(self) -> bool:
        """Whether the request reaches the service and does what it asks for."""
        return self not in (Fault.UNREACHABLE, Fault.REQUEST_LOST, Fault.ERROR_BEFORE)


class Wire(Protocol):
    """The sidecar's end of a connection: it may be dead."""

    def point(self, name: str) -> None:
        """Take note of a step; raises where the sidecar dies in it."""
        ...


@dataclass(slots=True, kw_only=True)
class Family:
    """One consent at the token service."""

    key: GrantKey
    number: int
    generation: int = 0
    is_dead: bool = False

    def token(self, generation: int | None = None) -> str:
        """Return the refresh token of a generation, the newest by default."""
        number = self.generation if generation is None else generation
        return f"canary-refresh-{self.key.user}-{self.number}-{number}"

    @property
    def bearer(self) -> str:
        """A part of the subject that names the generation of an id_token."""
        return f"{self.key.user}/{self.number}/{self.generation}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Presentation:
    """One request that reached the token service, or was lost on the way to it."""

    at_s: float
    peer: str
    operation: Operation
    token: str
    is_success: bool
    fault: Fault | None


@final
class RotatingIdp:
    """The service itself; sidecars reach it through `front`.

    Attributes:
        ledger: Every request that left a sidecar.
        plan: What happens to the next requests: a fault, or an answer given instead of any work.
        choose: Asked where the plan is empty.
        answer_after_s: How long the service takes.
        bank_after_s: How long it takes where the refresh has to wait for one of these providers.
        connect_after_s: How long a connection takes.
        life_s: Of an id_token.
        kills_families: A used token ends its family.
        witness: Told (sidecar, token) of each refresh in the step in which it is let go.
    """

    def __init__(self, *, clock: Clock) -> None:
        self.ledger: list[Presentation] = []
        self.plan: deque[Fault | TokenReply] = deque()
        self.choose: Callable[[TokenRequest], Fault] = lambda _: Fault.NONE
        self.answer_after_s = 0.05
        self.bank_after_s: dict[str, float] = {}
        self.connect_after_s = 0.005
        self.life_s = 60
        self.kills_families = False
        self.witness: Callable[[str, str], None] = lambda _peer, _token: None
        self._clock = clock
        self._tokens: dict[str, tuple[Family, int]] = {}
        self._codes: dict[str, GrantKey] = {}
        self._families: dict[GrantKey, list[Family]] = {}

    def new_code(self, key: GrantKey) -> str:
        """Let the end user consent; return the code."""
        code = f"code-{key.user}-{len(self._codes)}"
        self._codes[code] = key
        return code

    def families(self, key: GrantKey) -> list[Family]:
        """Return every consent of the end user, oldest first."""
        return self._families.get(key, [])

    def live_token(self, key: GrantKey) -> str | None:
        """Return the one refresh token that can be used, if there is one."""
        families = self.families(key)
        return families[-1].token() if families and not families[-1].is_dead else None

    def origin(self, token: str) -> tuple[Family, int] | None:
        """Return which generation of which consent a refresh token is."""
        return self._tokens.get(token)

    def takes_s(self, request: TokenRequest) -> float:
        """Return how long the service takes for a request, as things stand now."""
        origin = self.origin(field_of(request, "refresh_token"))
        provider = "" if origin is None else origin[0].key.provider
        return self.bank_after_s.get(provider, self.answer_after_s)

    def end_consent(self, key: GrantKey) -> None:
        """The end user takes the consent back at the bank."""
        self.families(key)[-1].is_dead = True

    def refreshes(self) -> list[Presentation]:
        """Return the presentations of refresh tokens for a successor."""
        return [entry for entry in self.ledger if entry.operation is Operation.REFRESH]

    def revocations(self) -> list[Presentation]:
        """Return the revocations."""
        return [entry for entry in self.ledger if entry.operation is Operation.REVOKE]

    def carry_out(self, request: TokenRequest, peer: str, fault: Fault) -> TokenReply:
        """Do what is asked, unless `fault` keeps it from being done; note it in the ledger."""
        token = field_of(request, "refresh_token") or field_of(request, "token")
        token = token or field_of(request, "code")
        answer: TokenReply = Answered(status=503, body=b"busy")
        if fault.is_processed:
            answer = self._answer(request, token)
        is_success = isinstance(answer, Answered) and answer.status == 200
        self.note(request, peer, token=token, is_success=is_success, fault=fault)
        return _spoiled(answer, fault)

    def note(
        self,
        request: TokenRequest,
        peer: str,
        *,
        token: str,
        is_success: bool,
        fault: Fault | None,
    ) -> None:
        """Write one line of the ledger."""
        self.ledger.append(
            Presentation(
                at_s=self._clock.elapsed_s(),
                peer=peer,
                operation=request.operation,
                token=token,
                is_success=is_success,
                fault=fault,
            )
        )

    def _answer(self, request: TokenRequest, token: str) -> TokenReply:
        match request.operation:
            case Operation.OBTAIN:
                return self._exchange(token)
            case Operation.REFRESH:
                return self._rotate(token)
            case Operation.REVOKE:
                return self._revoke(token)

    def _exchange(self, code: str) -> TokenReply:
        key = self._codes.pop(code, None)
        if key is None:
            return INVALID_CODE
        families = self._families.setdefault(key, [])
        for former in families:
            former.is_dead = True
        family = Family(key=key, number=len(families))
        families.append(family)
        return self._pair(family)

    def _rotate(self, token: str) -> TokenReply:
        found = self._tokens.get(token)
        if found is None:
            return CLAIMED
        family, generation = found
        if generation < family.generation and self.kills_families:
            family.is_dead = True
        if family.is_dead or generation < family.generation:
            return CLAIMED
        family.generation += 1
        return self._pair(family)

    def _revoke(self, token: str) -> TokenReply:
        found = self._tokens.get(token)
        if found is None or found[1] < found[0].generation or found[0].is_dead:
            return refusal(400, "invalid_request")
        found[0].is_dead = True
        return Answered(status=200, body=b"")

    def _pair(self, family: Family) -> TokenReply:
        self._tokens[family.token()] = (family, family.generation)
        bearer = id_token(
            subject=family.bearer, issued_at_s=int(self._clock.now_s()), life_s=self.life_s
        )
        return pair_answer(family.token(), bearer=bearer)


@final
class IdpFront:
    """One sidecar's way to the service; implements `sidecar.ports.IdentityProvider`."""

    def __init__(self, *, service: RotatingIdp, wire: Wire, peer: str) -> None:
        self._service = service
        self._wire = wire
        self._peer = peer

    async def send(
        self,
        request: TokenRequest,
        *,
        before_send: Callable[[], Awaitable[bool]],
        on_answer: Callable[[TokenReply], None],
    ) -> TokenReply:
        """Send the request; the service goes on with it whatever becomes of the sender."""
        service = self._service
        plan = service.plan.popleft() if service.plan else service.choose(request)
        await asyncio.sleep(service.connect_after_s)
        self._wire.point("connected")
        if plan is Fault.UNREACHABLE:
            return self._tell(NotSent(), on_answer)
        if not await before_send():
            return self._tell(NotSent(is_vetoed=True), on_answer)
        if request.operation is Operation.REFRESH:
            service.witness(self._peer, field_of(request, "refresh_token"))
        self._wire.point("admitted")
        arrived: asyncio.Future[TokenReply] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(
            service.takes_s(request) / 2, self._process, request, plan, arrived
        )
        self._wire.point("sent")
        try:
            reply = await arrived
            await asyncio.sleep(service.takes_s(request) / 2)
        except asyncio.CancelledError:
            self._wire.point("cancelled")
            self._tell(Broken(), on_answer)
            raise
        self._wire.point("answered")
        return self._tell(reply, on_answer)

    def _process(
        self, request: TokenRequest, plan: Fault | TokenReply, arrived: asyncio.Future[TokenReply]
    ) -> None:
        if isinstance(plan, Fault):
            reply = self._service.carry_out(request, self._peer, plan)
        else:
            token = field_of(request, "refresh_token") or field_of(request, "token")
            self._service.note(request, self._peer, token=token, is_success=False, fault=None)
            reply = plan
        if not arrived.done():
            arrived.set_result(reply)

    def _tell(self, reply: TokenReply, on_answer: Callable[[TokenReply], None]) -> TokenReply:
        on_answer(reply)
        self._wire.point("told")
        return reply


def _spoiled(answer: TokenReply, fault: Fault) -> TokenReply:
    """Return what arrives of an answer."""
    assert isinstance(answer, Answered)
    match fault:
        case Fault.NONE | Fault.UNREACHABLE:
            return answer
        case Fault.REQUEST_LOST | Fault.ANSWER_LOST:
            return Broken()
        case Fault.ERROR_BEFORE:
            return Answered(status=503, body=b"busy")
        case Fault.ERROR_AFTER:
            return Answered(status=500, body=b"")
        case Fault.CUT_BEFORE_TOKEN | Fault.CUT_AFTER_TOKEN:
            if answer.status != 200:
                return answer
            at = answer.body.find(b'"id_token"')
            end = 20 if fault is Fault.CUT_BEFORE_TOKEN else at + 15
            return Broken(status=200, body=answer.body[:end])

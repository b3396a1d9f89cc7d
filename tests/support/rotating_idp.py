"""A small faithful token service: single-use refresh tokens, consents that replace one another.

Every token can be used once. What becomes of one that is used again depends on the service's
`Temper`. The ledger is the oracle of the tests: who presented what, when, and what came of it.
Faults are planned by the test. It must not know what a sidecar does with an answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, final

from sidecar.domain.failure import Operation
from sidecar.domain.record import GrantKey
from sidecar.domain.token_wire import PairRead, read_reply
from sidecar.domain.tokens import TokenPair
from sidecar.domain.wire import Answered, Broken, TokenReply, TokenRequest
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


class Temper(StrEnum):
    """What the service makes of a refresh token that was used before."""

    STRICT = "strict"
    """It is refused."""
    DEX = "dex"
    """The loser of a race gets a 500, whoever comes later is refused."""
    HYDRA = "hydra"
    """It ends the whole family."""
    GRACE = "grace"
    """For a while it buys one more successor, which is good beside the first."""


RACE_S: Final = 1.0
GRACE_S: Final = 10.0


@dataclass(slots=True, kw_only=True, eq=False)
class Family:
    """One consent at the token service.

    Attributes:
        since_s: When its code was exchanged.
        unspent: Its refresh tokens that can be used; more than one only after a grace.
    """

    key: GrantKey
    number: int
    since_s: float
    generation: int = 0
    is_dead: bool = False
    unspent: list[str] = field(default_factory=list[str])

    def token(self, generation: int | None = None) -> str:
        """Return the refresh token of a generation, the newest by default."""
        number = self.generation if generation is None else generation
        return f"canary-refresh-{self.key.user}-{self.number}-{number}"


@dataclass(slots=True, kw_only=True, eq=False)
class _Token:
    family: Family
    generation: int
    spent_at_s: float | None = None


@dataclass(slots=True, kw_only=True)
class Presentation:
    """One request that reached the token service, or was lost on the way to it.

    Attributes:
        number: Of the sending; what left first may arrive last.
        brought: The refresh token in the answer, as it left the service.
        is_told: Whether a living sidecar has read the whole of what the answer brought.
    """

    at_s: float
    peer: str
    operation: Operation
    token: str
    is_success: bool
    fault: Fault | None
    number: int = 0
    brought: str = ""
    is_told: bool = False


@final
class RotatingIdp:
    """The service itself; sidecars reach it through an `IdpFront`.

    Attributes:
        ledger: Every request that left a sidecar.
        bearers: The refresh token that came with each id_token.
        sent: How many refreshes have left a sidecar.
        plan: What happens to the next requests: a fault, or an answer given instead of any work.
        choose: Asked where the plan is empty.
        answer_after_s: How long the service takes.
        bank_after_s: How long it takes where the refresh has to wait for one of these providers.
        connect_after_s: How long a connection takes.
        close_after_s: How long it takes to close one, once its answer was told.
        life_s: Of an id_token.
        temper: What becomes of a token that was used before.
        witness: Told (sidecar, token, number) of each refresh in the step in which it is let go.
        reader: Told (sidecar, presentation) in the step in which an answer was read.
    """

    def __init__(self, *, clock: Clock) -> None:
        self.ledger: list[Presentation] = []
        self.bearers: dict[str, str] = {}
        self.sent = 0
        self.plan: deque[Fault | TokenReply] = deque()
        self.choose: Callable[[TokenRequest], Fault | TokenReply] = lambda _: Fault.NONE
        self.answer_after_s = 0.05
        self.bank_after_s: dict[str, float] = {}
        self.connect_after_s = 0.005
        self.close_after_s = 0.0
        self.life_s = 60
        self.temper = Temper.STRICT
        self.witness: Callable[[str, str, int], None] = lambda _peer, _token, _number: None
        self.reader: Callable[[str, Presentation], None] = lambda _peer, _presentation: None
        self._clock = clock
        self._tokens: dict[str, _Token] = {}
        self._codes: dict[str, GrantKey] = {}
        self._brought = ""
        self._families: dict[GrantKey, list[Family]] = {}

    def new_code(self, key: GrantKey) -> str:
        """Let the end user consent; return the code."""
        code = f"code-{key.user}-{len(self._codes)}"
        self._codes[code] = key
        return code

    def pair_for_somebody_else(self, key: GrantKey) -> TokenPair:
        """Let the end user consent to an app that exchanges the code itself."""
        answer = self._exchange(self.new_code(key))
        reading = read_reply(Operation.OBTAIN, answer)
        assert isinstance(reading, PairRead)
        return reading.pair

    def families(self, key: GrantKey) -> list[Family]:
        """Return every consent of the end user, oldest first."""
        return self._families.get(key, [])

    def live_token(self, key: GrantKey) -> str | None:
        """Return the one refresh token that can be used, if there is one."""
        return next(iter(self.live_tokens(key)), None)

    def live_tokens(self, key: GrantKey) -> list[str]:
        """Return every refresh token that can be used: a grace may have made more than one."""
        families = self.families(key)
        return list(families[-1].unspent) if families and not families[-1].is_dead else []

    def origin(self, token: str) -> tuple[Family, int] | None:
        """Return which generation of which consent a refresh token is."""
        found = self._tokens.get(token)
        return None if found is None else (found.family, found.generation)

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

    def carry_out(
        self, request: TokenRequest, peer: str, fault: Fault
    ) -> tuple[TokenReply, Presentation]:
        """Do what is asked, unless `fault` keeps it from being done; note it in the ledger."""
        token = field_of(request, "refresh_token") or field_of(request, "token")
        token = token or field_of(request, "code")
        answer: TokenReply = Answered(status=503, body=b"busy")
        self._brought = ""
        if fault.is_processed:
            answer = self._answer(request, token)
        is_success = isinstance(answer, Answered) and answer.status == 200
        noted = self.note(request, peer, token=token, is_success=is_success, fault=fault)
        noted.brought = self._brought
        return _spoiled(answer, fault), noted

    def note(
        self,
        request: TokenRequest,
        peer: str,
        *,
        token: str,
        is_success: bool,
        fault: Fault | None,
    ) -> Presentation:
        """Write one line of the ledger."""
        noted = Presentation(
            at_s=self._clock.elapsed_s(),
            peer=peer,
            operation=request.operation,
            token=token,
            is_success=is_success,
            fault=fault,
        )
        self.ledger.append(noted)
        return noted

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
        family = Family(key=key, number=len(families), since_s=self._clock.elapsed_s())
        families.append(family)
        return self._issue(family, 0)

    def _rotate(self, token: str) -> TokenReply:
        found = self._tokens.get(token)
        if found is None or found.family.is_dead:
            return CLAIMED
        now_s = self._clock.elapsed_s()
        if found.spent_at_s is None:
            found.spent_at_s = now_s
            found.family.unspent.remove(token)
            return self._issue(found.family, found.generation + 1)
        age_s = now_s - found.spent_at_s
        match self.temper:
            case Temper.HYDRA:
                found.family.is_dead = True
            case Temper.GRACE if age_s < GRACE_S:
                return self._issue(found.family, found.generation + 1)
            case Temper.DEX if age_s < RACE_S:
                return Answered(status=500, body=b"")
            case _:
                pass
        return CLAIMED

    def _revoke(self, token: str) -> TokenReply:
        found = self._tokens.get(token)
        if found is None or found.spent_at_s is not None or found.family.is_dead:
            return refusal(400, "invalid_request")
        found.family.is_dead = True
        return Answered(status=200, body=b"")

    def _issue(self, family: Family, generation: int) -> TokenReply:
        family.generation = max(family.generation, generation)
        token = family.token(generation)
        subject = f"{family.key.user}/{family.number}/{generation}"
        while token in self._tokens:
            token += "-again"
            subject += "-again"  # else two bearers of one second would be the same
        self._tokens[token] = _Token(family=family, generation=generation)
        family.unspent.append(token)
        self._brought = token
        bearer = id_token(
            subject=subject,
            issued_at_s=int(self._clock.now_s()),
            life_s=self.life_s,
            akoya_grant_id=token,  # tells two bearers of one generation and second apart
        )
        self.bearers[bearer] = token
        return pair_answer(token, bearer=bearer)


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

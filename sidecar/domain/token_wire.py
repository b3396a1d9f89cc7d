"""What a reply of the token service means: a pair, a kept token, a revocation done, or a failure.

Whatever arrived is searched for tokens first, since they may be the only live ones; a refusal is
judged by the table of `sidecar.domain.token_refusals`. What the claim engine may conclude for the
refresh token that was presented follows from the failure alone (`fate_of`). Any bytes are read
without raising. It must not know the store, clocks or who waits for the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, assert_never

from sidecar.domain.answer_reading import ErrorMembers, is_page, read_error, read_tokens
from sidecar.domain.bounds import bounded_wait_s
from sidecar.domain.failure import DISPOSITIONS, Disposition, FailureReason, Operation
from sidecar.domain.secret import Secret
from sidecar.domain.token_claims import (
    IdTokenClaims,
    IssuerMoment,
    age_when_asked_s,
    read_claims,
    read_text,
    trusted_life_s,
)
from sidecar.domain.token_refusals import reason_of, showable_description, showable_error
from sidecar.domain.tokens import TokenFailure, TokenPair
from sidecar.domain.wire import Answered, Broken, NotSent, TokenReply

DEFAULT_MAX_AGE_S: Final = 86_400
"""The longest life Akoya gives an id_token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRead:
    """A successor came.

    Attributes:
        pair: Its ``id_token`` is ``None`` where only the refresh token was there: keep the pair
            and refresh again at once.
        is_salvaged: The answer was torn or garbled and the pair was saved from what arrived.
    """

    pair: TokenPair
    is_salvaged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PairKept:
    """A new id_token without a successor: the refresh token stays (RFC 6749 section 6)."""

    id_token: Secret
    life_s: int
    issued_at_s: int = 0
    subject: str = ""
    akoya_grant_id: str = ""
    age_s: int = 0

    def paired_with(self, refresh_token: Secret) -> TokenPair:
        """Return the next generation's pair: the new bearer, and the token that was sent."""
        return TokenPair(
            id_token=self.id_token,
            refresh_token=refresh_token,
            life_s=self.life_s,
            issued_at_s=self.issued_at_s,
            subject=self.subject,
            akoya_grant_id=self.akoya_grant_id,
            age_s=self.age_s,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeDone:
    """The grant is revoked at Akoya."""


Reading = PairRead | PairKept | RevokeDone | TokenFailure


class ClaimFate(StrEnum):
    """What a failed refresh did to the refresh token that it presented."""

    UNSPENT = "unspent"
    """Not used by this attempt: release the claim; asked again after a pause."""
    AMBIGUOUS = "ambiguous"
    """Perhaps used, but nobody can hold or still receive a successor: the owner may repeat it."""
    DENIED = "denied"
    """Refused as used, unknown or expired: newer pairs are looked for before that is believed."""


def read_reply(
    operation: Operation,
    reply: TokenReply,
    *,
    carried_token: bool = True,
    max_age_s: int = DEFAULT_MAX_AGE_S,
    took_s: float = 0.0,
) -> Reading:
    """Return what `reply` means. Never raises, whatever the bytes.

    Args:
        operation: What was asked.
        reply: What came.
        carried_token: The request held a refresh token, so that an answer that says otherwise
            speaks of the token and not of a bug here.
        max_age_s: Upper bound of the life of an id_token.
        took_s: Time from the sending of the request to now.
    """
    match reply:
        case NotSent():
            return _failed(operation, FailureReason.UNREACHABLE)
        case Broken(status=status, body=body):
            reading: Reading | None = None
            is_promising = status is None or _is_success(status)
            if is_promising and operation is not Operation.REVOKE:
                reading = _read_pair(operation, body, is_complete=False, max_age_s=max_age_s)
            if status is None and not _is_of_a_token_service(reading):
                reading = None
            return reading or _failed(operation, FailureReason.ANSWER_LOST, status=status)
        case Answered(status=status) if _is_success(status):
            moment = IssuerMoment(date_s=reply.date_s, took_s=took_s) if reply.date_s else None
            return _read_success(operation, reply, max_age_s=max_age_s, moment=moment)
        case Answered():
            return _read_refusal(operation, reply, carried_token=carried_token)
        case _:
            assert_never(reply)


def fate_of(failure: TokenFailure) -> ClaimFate:
    """Return what became of the refresh token that a failed refresh presented.

    A whole answer of any kind, and a connection that was closed with a reset, both prove that no
    successor is on its way to anybody.
    """
    match failure.reason:
        case FailureReason.SERVER_ERROR | FailureReason.ANSWER_LOST:
            return ClaimFate.AMBIGUOUS
        case (
            FailureReason.REFRESH_TOKEN_CLAIMED
            | FailureReason.REFRESH_TOKEN_EXPIRED
            | FailureReason.ROTATION_LOST
        ):
            return ClaimFate.DENIED
        case FailureReason.REFRESH_TOKEN_MISSING:
            was_sent = failure.disposition is not Disposition.OPERATOR
            return ClaimFate.DENIED if was_sent else ClaimFate.UNSPENT
        case FailureReason.MALFORMED_RESPONSE:
            is_of_a_stranger = failure.disposition is Disposition.RETRY_LATER
            return ClaimFate.UNSPENT if is_of_a_stranger else ClaimFate.AMBIGUOUS
        case (
            FailureReason.CODE_INVALID
            | FailureReason.REDIRECT_URI_MISMATCH
            | FailureReason.GRANT_TYPE_INVALID
            | FailureReason.CLIENT_CREDENTIALS_INVALID
            | FailureReason.ENDPOINT_REFUSED
            | FailureReason.REVOKE_REJECTED
            | FailureReason.TOKEN_TYPE_HINT_UNSUPPORTED
            | FailureReason.RATE_LIMITED
            | FailureReason.UNREACHABLE
            | FailureReason.UNKNOWN
        ):
            return ClaimFate.UNSPENT
        case _:
            assert_never(failure.reason)


def _is_success(status: int) -> bool:
    return 200 <= status < 300  # noqa: PLR2004 - the class of HTTP's successes


def _read_success(
    operation: Operation, answer: Answered, *, max_age_s: int, moment: IssuerMoment | None
) -> Reading:
    """Judge a whole 2xx. A page for people came from a gateway that kept the request from Akoya."""
    is_foreign = is_page(answer.body, answer.content_type)
    if operation is Operation.REVOKE:
        # RFC 7009: the body says nothing; but a page is no answer of the token service.
        return _refused(operation, FailureReason.UNKNOWN, answer) if is_foreign else RevokeDone()
    reading = _read_pair(
        operation, answer.body, is_complete=True, max_age_s=max_age_s, moment=moment
    )
    if reading is not None:
        return reading
    return _refused(
        operation,
        FailureReason.MALFORMED_RESPONSE,
        answer,
        disposition=Disposition.RETRY_LATER if is_foreign else None,
    )


def _read_pair(
    operation: Operation,
    body: bytes,
    *,
    is_complete: bool,
    max_age_s: int,
    moment: IssuerMoment | None = None,
) -> PairRead | PairKept | None:
    members = read_tokens(body)
    bearer = members.id_token
    claims = IdTokenClaims() if bearer is None else read_claims(bearer.reveal())
    life_s = trusted_life_s(
        claims, expires_in=members.expires_in, max_age_s=max_age_s, moment=moment
    )
    age_s = age_when_asked_s(claims, moment)
    grant_id = claims.akoya_grant_id or read_text(members.grant_id)
    if members.refresh_token is not None:
        pair = TokenPair(
            id_token=bearer,
            refresh_token=members.refresh_token,
            life_s=0 if bearer is None else life_s,
            issued_at_s=claims.issued_at_s,
            subject=claims.subject,
            akoya_grant_id=grant_id,
            age_s=age_s,
        )
        return PairRead(pair=pair, is_salvaged=not (is_complete and members.is_whole))
    if bearer is None or not members.is_whole or operation is not Operation.REFRESH:
        return None
    return PairKept(
        id_token=bearer,
        life_s=life_s,
        issued_at_s=claims.issued_at_s,
        subject=claims.subject,
        akoya_grant_id=grant_id,
        age_s=age_s,
    )


def _is_of_a_token_service(reading: Reading | None) -> bool:
    """Whether bytes without a status are its success: nobody else has both tokens to tell."""
    return isinstance(reading, PairRead) and reading.pair.id_token is not None


def _read_refusal(operation: Operation, answer: Answered, *, carried_token: bool) -> TokenFailure:
    told = read_error(answer.body)
    reason = reason_of(operation, answer.status, told)
    was_never_sent = reason is FailureReason.REFRESH_TOKEN_MISSING and not carried_token
    disposition = Disposition.OPERATOR if was_never_sent else None
    return _refused(operation, reason, answer, told=told, disposition=disposition)


def _refused(
    operation: Operation,
    reason: FailureReason,
    answer: Answered,
    *,
    told: ErrorMembers | None = None,
    disposition: Disposition | None = None,
) -> TokenFailure:
    told = told or ErrorMembers()
    return TokenFailure(
        operation=operation,
        reason=reason,
        akoya_status=answer.status,
        akoya_error=showable_error(told),
        akoya_error_description=showable_description(told),
        retry_after_s=bounded_wait_s(answer.retry_after_s),
        disposition=disposition or DISPOSITIONS[reason],
    )


def _failed(
    operation: Operation, reason: FailureReason, *, status: int | None = None
) -> TokenFailure:
    return TokenFailure(
        operation=operation,
        reason=reason,
        akoya_status=status,
        disposition=DISPOSITIONS[reason],
    )

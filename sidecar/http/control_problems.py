"""The problems of the control listener: its own reasons, and those of the token error catalogue.

It knows the closed table of reasons, their statuses and their sentences; it must not know requests
or who is asked. Nothing here repeats what a client sent but the names of members.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sidecar.domain.failure import DISPOSITIONS, HINTS, Disposition, FailureReason, Operation
from sidecar.domain.outcomes import GrantGone, Obstacle, Postponed
from sidecar.domain.tokens import TokenFailure
from sidecar.http.problems import Problem


class ControlReason(StrEnum):
    """Every reason of a problem on the control listener but those of `FailureReason`."""

    REQUEST_INVALID = "request_invalid"
    PATH_INVALID = "path_invalid"
    CONTROL_KEY_INVALID = "control_key_invalid"
    REAUTH_REQUIRED = "reauth_required"
    NOT_FOUND = "not_found"
    CONNECT_OFF = "connect_off"
    GRANT_UNKNOWN = "grant_unknown"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    GRANT_EXISTS = "grant_exists"
    CONSENT_SUPERSEDED = "consent_superseded"
    PURGE_TOO_EARLY = "purge_too_early"
    COUNT_DIFFERS = "count_differs"
    REQUEST_TOO_LARGE = "request_too_large"
    MEDIA_TYPE_UNSUPPORTED = "media_type_unsupported"
    HEADERS_TOO_LARGE = "headers_too_large"
    INTERNAL_ERROR = "internal_error"
    TOKEN_UNAVAILABLE = "token_unavailable"  # noqa: S105 - a reason, no token
    OVERLOADED = "overloaded"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldError:
    """What is wrong with one member, parameter or path segment."""

    name: str
    detail: str


CONTROL_PROBLEMS: Final[Mapping[ControlReason, tuple[int, str]]] = {
    ControlReason.REQUEST_INVALID: (400, "The request is not as this call wants it; see `errors`."),
    ControlReason.PATH_INVALID: (400, "The request target cannot be read."),
    ControlReason.CONTROL_KEY_INVALID: (
        401,
        "Send one header `Authorization: Bearer <control key>` with a key that is known.",
    ),
    ControlReason.REAUTH_REQUIRED: (401, "The grant is dead: the end user must consent again."),
    ControlReason.NOT_FOUND: (404, "There is no such call."),
    ControlReason.CONNECT_OFF: (
        404,
        "Consent in the browser is off: the operator sets SIDECAR_CONNECT_LISTEN.",
    ),
    ControlReason.GRANT_UNKNOWN: (404, "No grant is stored for this user and provider."),
    ControlReason.METHOD_NOT_ALLOWED: (405, "This path does not take this method."),
    ControlReason.GRANT_EXISTS: (
        409,
        "A live grant stands: send a newer `consented_at`, or `?replace=true` to replace it.",
    ),
    ControlReason.CONSENT_SUPERSEDED: (
        409,
        "A newer consent of this user, or a revocation of this one, came in between and stands.",
    ),
    ControlReason.PURGE_TOO_EARLY: (
        409,
        "The grant is revoked; its record is erased only later, so that no late copy revives it.",
    ),
    ControlReason.COUNT_DIFFERS: (
        409,
        "Nothing was released: `held_back` grants are in doubt, not as many as `expected`.",
    ),
    ControlReason.REQUEST_TOO_LARGE: (413, "The body is larger than 64 KiB."),
    ControlReason.MEDIA_TYPE_UNSUPPORTED: (
        415,
        "Send `Content-Type: application/json` in UTF-8, not compressed.",
    ),
    ControlReason.HEADERS_TOO_LARGE: (431, "The request line or its headers are too large."),
    ControlReason.INTERNAL_ERROR: (500, "The sidecar failed; the operator was told."),
    ControlReason.TOKEN_UNAVAILABLE: (503, "Not possible just now; this can heal by itself."),
    ControlReason.OVERLOADED: (503, "Too many calls are in flight."),
    ControlReason.DRAINING: (503, "This sidecar is stopping; ask another one."),
}

FAILURE_STATUSES: Final[Mapping[FailureReason, int]] = {
    FailureReason.CODE_INVALID: 400,
    FailureReason.REDIRECT_URI_MISMATCH: 400,
    FailureReason.GRANT_TYPE_INVALID: 502,
    FailureReason.CLIENT_CREDENTIALS_INVALID: 502,
    FailureReason.ENDPOINT_REFUSED: 502,
    FailureReason.REFRESH_TOKEN_MISSING: 401,
    FailureReason.REFRESH_TOKEN_CLAIMED: 401,
    FailureReason.REFRESH_TOKEN_EXPIRED: 401,
    FailureReason.ROTATION_LOST: 401,
    FailureReason.REVOKE_REJECTED: 502,
    FailureReason.TOKEN_TYPE_HINT_UNSUPPORTED: 502,
    FailureReason.RATE_LIMITED: 503,
    FailureReason.SERVER_ERROR: 502,
    FailureReason.UNREACHABLE: 503,
    FailureReason.ANSWER_LOST: 502,
    FailureReason.MALFORMED_RESPONSE: 502,
    FailureReason.UNKNOWN: 502,
}

PAGE_CHALLENGE: Final = 'Basic realm="akoya-sidecar-control", charset="UTF-8"'
"""For the one page that a browser may open, since a browser cannot send a bearer."""

_CHALLENGES: Final = {
    ControlReason.CONTROL_KEY_INVALID: 'Bearer realm="akoya-sidecar-control"',
    ControlReason.REAUTH_REQUIRED: 'Bearer realm="akoya-sidecar", error="invalid_token"',
}
_SOON_S: Final = 1.0
_UNAVAILABLE: Final = 503
_UNAUTHORIZED: Final = 401
_BAD_GATEWAY: Final = 502

_CODE_UNTOUCHED: Final = frozenset(
    {
        FailureReason.UNREACHABLE,
        FailureReason.RATE_LIMITED,
        FailureReason.CLIENT_CREDENTIALS_INVALID,
        FailureReason.GRANT_TYPE_INVALID,
        FailureReason.REDIRECT_URI_MISMATCH,
    }
)


def to_control_problem(
    reason: ControlReason,
    *,
    retry_after_s: float | None = None,
    detail: str = "",
    allow: str = "",
    members: Mapping[str, object] | None = None,
) -> Problem:
    """Return the answer for a reason; every 503 says when to ask again."""
    status, usual = CONTROL_PROBLEMS[reason]
    if retry_after_s is None and status == _UNAVAILABLE:
        retry_after_s = _SOON_S
    return Problem(
        status=status,
        reason=reason.value,
        detail=detail or usual,
        retry_after_s=retry_after_s,
        challenge=_CHALLENGES.get(reason, ""),
        allow=allow,
        members=members or {},
    )


def invalid(errors: Sequence[FieldError]) -> Problem:
    """Return the answer to a request of which all this is wrong."""
    told = [{"name": error.name, "detail": error.detail} for error in errors]
    return to_control_problem(ControlReason.REQUEST_INVALID, members={"errors": told})


def postponed(outcome: Postponed, *, detail: str = "") -> Problem:
    """Return the answer where something must heal first: Akoya's failure, or an obstacle here."""
    if outcome.failure is not None:
        return failed(outcome.failure, retry_in_s=outcome.retry_in_s)
    is_draining = outcome.obstacle is Obstacle.DRAINING
    return to_control_problem(
        ControlReason.DRAINING if is_draining else ControlReason.TOKEN_UNAVAILABLE,
        retry_after_s=outcome.retry_in_s,
        detail=detail,
        members={"obstacle": outcome.obstacle.value},
    )


def gone(outcome: GrantGone) -> Problem:
    """Return the answer where there is nothing to refresh or to change."""
    if outcome.state is None:
        return to_control_problem(ControlReason.GRANT_UNKNOWN)
    if outcome.failure is not None:
        return failed(outcome.failure, state=outcome.state.public)
    return to_control_problem(
        ControlReason.REAUTH_REQUIRED, members={"state": outcome.state.public}
    )


def failed(failure: TokenFailure, *, retry_in_s: float | None = None, state: str = "") -> Problem:
    """Return the answer for a failure of the catalogue.

    Args:
        failure: What came of the request to Akoya.
        retry_in_s: When asking again may help; then a denied grant may still be healed by a peer
            that holds a newer pair, and its end user must not be sent to consent yet.
        state: Of a grant that this failure ended.
    """
    status = FAILURE_STATUSES[failure.reason]
    if failure.disposition is Disposition.OPERATOR and status == _UNAUTHORIZED:
        status = _BAD_GATEWAY
    elif retry_in_s is not None and status == _UNAUTHORIZED:
        status = _UNAVAILABLE
    if retry_in_s is None:
        retry_in_s = failure.retry_after_s
    if retry_in_s is None and status == _UNAVAILABLE:
        retry_in_s = _SOON_S
    return Problem(
        status=status,
        reason=failure.reason.value,
        detail=_detail(failure, is_dead=bool(state)),
        retry_after_s=retry_in_s,
        challenge=_CHALLENGES[ControlReason.REAUTH_REQUIRED],
        members=failure_members(failure) | ({"state": state} if state else {}),
    )


def failure_statuses(reason: FailureReason) -> tuple[int, ...]:
    """Return every status that `failed` gives a reason: another one while a doubt may be healed."""
    status = FAILURE_STATUSES[reason]
    if status != _UNAUTHORIZED:
        return (status,)
    return (_BAD_GATEWAY, _UNAVAILABLE) if _is_operators(reason) else (status, _UNAVAILABLE)


def _is_operators(reason: FailureReason) -> bool:
    return DISPOSITIONS[reason] is Disposition.OPERATOR


def failure_members(failure: TokenFailure) -> dict[str, object]:
    """Return what of a failure is told, in a problem and beside a revocation that is kept."""
    told: dict[str, object] = {
        "operation": failure.operation.value,
        "disposition": failure.disposition.value,
        "hint": HINTS[failure.reason],
    }
    if failure.akoya_status is not None:
        told["akoya"] = {
            "status": failure.akoya_status,
            "error": failure.akoya_error or None,
            "error_description": failure.akoya_error_description or None,
        }
    return told


def _detail(failure: TokenFailure, *, is_dead: bool) -> str:
    match failure.operation:
        case Operation.OBTAIN if failure.reason in _CODE_UNTOUCHED:
            return "No pair was obtained, and the code was not used up by this call."
        case Operation.OBTAIN:
            return (
                "No pair was obtained, and the code may be used up: "
                "send the end user through consent again."
            )
        case Operation.REFRESH if is_dead:
            return "The grant is dead: the end user must consent again."
        case Operation.REFRESH:
            return "No newer pair came; the grant is kept, and its state says what it can still do."
        case Operation.REVOKE:
            return "Akoya does not know of the revocation yet; it will be told again."

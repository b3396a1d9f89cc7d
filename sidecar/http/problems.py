"""Answers that the sidecar makes itself: problem+json (RFC 9457) with a reason to script against.

It knows the closed table of the proxy's reasons and how a problem looks on the wire; it must not
know requests, tokens or who is asked. No text here repeats anything that a client sent.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from sidecar.domain.tokens import ProblemReason

PROBLEM_TYPE: Final = "application/problem+json"
SOON_S: Final = 1.0
_UNAUTHORIZED: Final = 401


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One answer of the sidecar itself, on any of its listeners.

    Attributes:
        reason: Stable name, also in ``Sidecar-Error``.
        detail: One sentence for people; says what to do and repeats nothing of the request.
        retry_after_s: From when asking again may help, or ``None``.
        challenge: ``WWW-Authenticate``; every 401 has one.
        allow: ``Allow`` of a 405, or empty.
        members: Further members of the document.
    """

    status: int
    reason: str
    detail: str
    request_id: str = ""
    retry_after_s: float | None = None
    challenge: str = 'Bearer realm="akoya-sidecar"'
    allow: str = ""
    members: Mapping[str, object] = field(default_factory=dict[str, object])

    @property
    def title(self) -> str:
        """The phrase of the status."""
        return HTTPStatus(self.status).phrase

    def body(self) -> bytes:
        """Return the document."""
        document: dict[str, object] = {
            "type": f"urn:akoya-sidecar:problem:{self.reason}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "reason": self.reason,
        }
        if self.request_id:
            document["request_id"] = self.request_id
        return json.dumps(document | dict(self.members), separators=(",", ":")).encode()

    def headers(self) -> Sequence[tuple[str, str]]:
        """Return the header fields, without those that frame the message."""
        fields = [
            ("Content-Type", PROBLEM_TYPE),
            ("Cache-Control", "no-store"),
            ("Sidecar-Error", self.reason),
        ]
        if self.retry_after_s is not None:
            fields.append(("Retry-After", str(max(1, math.ceil(self.retry_after_s)))))
        if self.status == _UNAUTHORIZED:
            fields.append(("WWW-Authenticate", self.challenge))
        if self.allow:
            fields.append(("Allow", self.allow))
        return fields


def to_proxy_problem(
    reason: ProblemReason,
    *,
    request_id: str = "",
    retry_after_s: float | None = None,
    allow: str = "",
) -> Problem:
    """Return the proxy's answer for `reason`; `allow` lists the methods of a 405."""
    status, waits_s, detail = _PROXY_PROBLEMS[reason]
    return Problem(
        status=status,
        reason=reason.value,
        detail=detail,
        request_id=request_id,
        retry_after_s=retry_after_s if retry_after_s is not None else waits_s,
        challenge=_CHALLENGES.get(reason, ""),
        allow=allow,
    )


_CHALLENGES: Final = {
    ProblemReason.CLIENT_KEY_INVALID: 'Sidecar-Key realm="akoya-sidecar"',
    ProblemReason.GRANT_UNKNOWN: 'Bearer realm="akoya-sidecar", error="invalid_token"',
    ProblemReason.REAUTH_REQUIRED: 'Bearer realm="akoya-sidecar", error="invalid_token"',
}

_PROXY_PROBLEMS: Final[Mapping[ProblemReason, tuple[int, float | None, str]]] = {
    ProblemReason.USER_MISSING: (
        400,
        None,
        "Name the end user: one user header of 1 to 255 visible ASCII characters.",
    ),
    ProblemReason.PATH_INVALID: (
        400,
        None,
        "The path must be /{product}/{version}/{provider}... and have one reading only.",
    ),
    ProblemReason.REQUEST_INVALID: (
        400,
        None,
        "The request is no well-formed HTTP/1.1, or its headers contradict one another.",
    ),
    ProblemReason.GRANT_UNKNOWN: (
        401,
        None,
        "No grant is stored for this user and provider: onboard the user first.",
    ),
    ProblemReason.REAUTH_REQUIRED: (
        401,
        None,
        "The grant is dead: the end user must consent again.",
    ),
    ProblemReason.CLIENT_KEY_INVALID: (401, None, "The client key is missing or unknown."),
    ProblemReason.METHOD_NOT_ALLOWED: (405, None, "The proxy does not accept this method."),
    ProblemReason.REQUEST_TOO_LARGE: (413, None, "The request body is larger than configured."),
    ProblemReason.HEADERS_TOO_LARGE: (431, None, "The request line or its headers are too large."),
    ProblemReason.UPSTREAM_UNREACHABLE: (502, SOON_S, "The data API gave no answer."),
    ProblemReason.TOKEN_UNAVAILABLE: (
        503,
        SOON_S,
        "There is no valid token now; this can heal by itself.",
    ),
    ProblemReason.OVERLOADED: (
        503,
        SOON_S,
        "This sidecar is full: too many requests are in flight, or no file descriptor is left.",
    ),
    ProblemReason.DRAINING: (503, SOON_S, "This sidecar is stopping."),
    ProblemReason.UPSTREAM_TIMEOUT: (504, SOON_S, "The data API stayed silent for too long."),
    ProblemReason.INTERNAL_ERROR: (500, None, "The sidecar failed; the operator was told."),
}

"""Why the token service refused: the one table of its answers, and what of them may be shown.

Each answer is judged on its status, its ``error`` and its normalised ``error_description`` together
and never on one of them alone: Akoya's ``invalid_request`` means four different things. Two
families of texts are known, dex's (which Akoya documents) and Ory Hydra's (which its tokens show).
It must not know what follows from a reason (see `sidecar.domain.failure`), nor sockets or tokens.
"""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass
from typing import Final

from sidecar.domain.answer_reading import ErrorMembers
from sidecar.domain.failure import FailureReason, Operation


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """One row of the table; an empty `errors` or `says` fits anything."""

    reason: FailureReason
    operations: frozenset[Operation] = frozenset(Operation)
    statuses: Container[int]
    errors: frozenset[str] = frozenset()
    says: str = ""

    def fits(self, operation: Operation, *, status: int, error: str, description: str) -> bool:
        """Whether the row speaks of this answer; `error` and `description` are normalised."""
        return (
            operation in self.operations
            and status in self.statuses
            and (not self.errors or error in self.errors)
            and (not self.says or re.search(self.says, description) is not None)
        )


_400: Final = range(400, 401)
_4XX: Final = range(400, 500)
_NOT_TAKEN: Final = frozenset({403, 404, 405, 415})
_OBTAIN: Final = frozenset({Operation.OBTAIN})
_REFRESH: Final = frozenset({Operation.REFRESH})
_REVOKE: Final = frozenset({Operation.REVOKE})
_INVALID_REQUEST: Final = frozenset({"invalid_request"})
_INVALID_GRANT: Final = frozenset({"invalid_grant"})
_R: Final = FailureReason

# fmt: off
_RULES: Final[tuple[_Rule, ...]] = (
    # Whatever was asked.
    _Rule(reason=_R.RATE_LIMITED, statuses=range(429, 430)),
    _Rule(reason=_R.SERVER_ERROR, statuses=range(408, 409)),
    _Rule(reason=_R.SERVER_ERROR, statuses=range(500, 600)),
    _Rule(reason=_R.CLIENT_CREDENTIALS_INVALID, statuses=_4XX,
          errors=frozenset({"invalid_client", "unauthorized_client"})),
    # An authorization code. `\b`: "code", but not "code_verifier". dex says invalid_request,
    # Hydra invalid_grant with one long sentence or with the name of what did not match.
    _Rule(reason=_R.GRANT_TYPE_INVALID, operations=_OBTAIN, statuses=_400,
          errors=_INVALID_GRANT, says=r"^$|\bgrant_type\b"),
    _Rule(reason=_R.REDIRECT_URI_MISMATCH, operations=_OBTAIN, statuses=_400,
          errors=_INVALID_REQUEST | _INVALID_GRANT, says=r"\bredirect_uri\b"),
    _Rule(reason=_R.CODE_INVALID, operations=_OBTAIN, statuses=_400,
          errors=_INVALID_REQUEST, says=r"\bcode\b"),
    _Rule(reason=_R.CODE_INVALID, operations=_OBTAIN, statuses=_400, errors=_INVALID_GRANT),
    # A refresh token.
    _Rule(reason=_R.REFRESH_TOKEN_CLAIMED, operations=_REFRESH, statuses=_400,
          errors=_INVALID_REQUEST, says=r"\bclaimed by another client\b"),
    _Rule(reason=_R.REFRESH_TOKEN_MISSING, operations=_REFRESH, statuses=_400,
          errors=_INVALID_REQUEST, says=r"\bno refresh token in request\b"),
    _Rule(reason=_R.REFRESH_TOKEN_EXPIRED, operations=_REFRESH, statuses=_400,
          errors=_INVALID_REQUEST, says=r"\brefresh token expired\b"),
    _Rule(reason=_R.SERVER_ERROR, operations=_REFRESH, statuses=_400,
          errors=_INVALID_REQUEST, says=r"\btry again\b|\bretry\b|concurren|seriali[sz]"),
    _Rule(reason=_R.GRANT_TYPE_INVALID, operations=_REFRESH, statuses=_400,
          errors=_INVALID_GRANT, says=r"\bgrant_type\b"),
    _Rule(reason=_R.REFRESH_TOKEN_EXPIRED, operations=_REFRESH, statuses=_400,
          errors=_INVALID_GRANT),
    _Rule(reason=_R.REFRESH_TOKEN_EXPIRED, operations=_REFRESH, statuses=range(400, 402),
          errors=frozenset({"token_inactive"})),
    # Either grant, as RFC 6749 names it; Akoya documents invalid_grant for it.
    _Rule(reason=_R.GRANT_TYPE_INVALID, operations=_OBTAIN | _REFRESH, statuses=_400,
          errors=frozenset({"unsupported_grant_type"})),
    # A revocation.
    _Rule(reason=_R.REVOKE_REJECTED, operations=_REVOKE, statuses=_400, errors=_INVALID_REQUEST),
    _Rule(reason=_R.TOKEN_TYPE_HINT_UNSUPPORTED, operations=_REVOKE, statuses=_400,
          errors=frozenset({"unsupported_token_type"})),
    # Nobody there, or nobody who takes it: wrong addresses, a firewall.
    _Rule(reason=_R.ENDPOINT_REFUSED, statuses=_NOT_TAKEN),
)
# fmt: on

_DOCUMENTED_TEXTS: Final = (
    "Invalid client credentials.",
    "Missing or incorrect grant_type field. Must be authorization_code",
    "Missing or incorrect grant_type field. Must be refresh_token",
    "Invalid or expired code parameter.",
    "redirect_uri did not match URI from initial request.",
    "No refresh token in request.",
    "Refresh token is invalid or has already been claimed by another client.",
    "Refresh token expired.",
)
"""The only descriptions that are passed on: an unknown text could hold anything."""

_RFC_6749_ERROR: Final = re.compile(r"[ !#-\[\]-~]{1,64}")


def reason_of(operation: Operation, status: int, told: ErrorMembers) -> FailureReason:
    """Return why a whole answer that is no success refused; ``unknown`` where no row fits."""
    error, description = told.error.strip().lower(), _normalised(told.description)
    for rule in _RULES:
        if rule.fits(operation, status=status, error=error, description=description):
            return rule.reason
    return FailureReason.UNKNOWN


def showable_error(told: ErrorMembers) -> str:
    """Return ``error`` if it has RFC 6749's form and at most 64 characters, else ``""``."""
    return told.error if _RFC_6749_ERROR.fullmatch(told.error) else ""


def showable_description(told: ErrorMembers) -> str:
    """Return the documented text that was told, or ``""``."""
    normalised = _normalised(told.description)
    return next((text for text in _DOCUMENTED_TEXTS if _normalised(text) == normalised), "")


def _normalised(text: str) -> str:
    return " ".join(text.split()).casefold().removesuffix(".")

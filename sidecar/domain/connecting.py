"""Consent in the browser: whose bank is to be connected, and what each visit comes to.

Decides what an answer of the authorize endpoint, or a failed exchange of its code, means for the
person in front of the browser. It knows no page, no cookie and no store.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sidecar.domain.events import ConnectOutcome
from sidecar.domain.failure import Disposition, FailureReason
from sidecar.domain.grant_input import is_code
from sidecar.domain.record import GrantKey
from sidecar.domain.secret import Secret
from sidecar.domain.tokens import TokenFailure

LINK_LIFE_S: Final = 300
"""From the making of a link until the person goes on to the bank."""

JOURNEY_LIFE_S: Final = 1800
"""From there until the person is back: a login, a second factor, the choice of accounts."""

ACCOUNT_MAX_CHARACTERS: Final = 100


class AuthorizeError(StrEnum):
    """What the authorize endpoint can say (RFC 6749 section 4.1.2.1)."""

    INVALID_REQUEST = "invalid_request"
    UNAUTHORIZED_CLIENT = "unauthorized_client"
    ACCESS_DENIED = "access_denied"
    UNSUPPORTED_RESPONSE_TYPE = "unsupported_response_type"
    INVALID_SCOPE = "invalid_scope"
    SERVER_ERROR = "server_error"
    TEMPORARILY_UNAVAILABLE = "temporarily_unavailable"
    UNKNOWN = "unknown"
    """Another word than those, or neither a code nor an error."""


OF_AUTHORIZE_ERRORS: Final = {
    AuthorizeError.INVALID_REQUEST: ConnectOutcome.FAILED,
    AuthorizeError.UNAUTHORIZED_CLIENT: ConnectOutcome.FAILED,
    AuthorizeError.ACCESS_DENIED: ConnectOutcome.DENIED,
    AuthorizeError.UNSUPPORTED_RESPONSE_TYPE: ConnectOutcome.FAILED,
    AuthorizeError.INVALID_SCOPE: ConnectOutcome.FAILED,
    AuthorizeError.SERVER_ERROR: ConnectOutcome.UNAVAILABLE,
    AuthorizeError.TEMPORARILY_UNAVAILABLE: ConnectOutcome.UNAVAILABLE,
    AuthorizeError.UNKNOWN: ConnectOutcome.FAILED,
}

_SAID: Final = {error.value: error for error in AuthorizeError}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectOrder:
    """What an app ordered with a link.

    Attributes:
        return_to: Where the person goes at the end.
        account: How the app names the account to the person it belongs to, or ``""``.
    """

    key: GrantKey
    return_to: str
    account: str = ""


def is_account(text: str) -> bool:
    """Whether a page can show this name of an account."""
    return len(text.strip()) > 0 and len(text) <= ACCOUNT_MAX_CHARACTERS and text.isprintable()


def read_authorize_answer(code: str | None, error: str | None) -> Secret | AuthorizeError:
    """Return the code that a person brought back, or what the authorize endpoint said instead.

    An error wins over a code: an answer with both is none of Akoya's.
    """
    if error is not None:
        return _SAID.get(error, AuthorizeError.UNKNOWN)
    if code is None or not is_code(code):
        return AuthorizeError.UNKNOWN
    return Secret(code)


def outcome_of_failure(failure: TokenFailure) -> ConnectOutcome:
    """Return what a failed exchange means for the person who brought the code."""
    if failure.reason is FailureReason.CODE_INVALID:
        return ConnectOutcome.EXPIRED
    if failure.disposition is Disposition.OPERATOR:
        return ConnectOutcome.FAILED
    return ConnectOutcome.UNAVAILABLE

"""The token error catalogue: every way a token request can fail, and what follows from it.

One closed set of reasons; their values are public (metric label, log field, reason of a problem).
The disposition says what the sidecar does next, the hint what a person should know. Which answer of
Akoya has which reason is decided in `sidecar.domain.token_refusals`, and nowhere else.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Operation(StrEnum):
    """What was asked of the identity provider's token service."""

    OBTAIN = "obtain"
    REFRESH = "refresh"
    REVOKE = "revoke"


class FailureReason(StrEnum):
    """Why a token request failed."""

    CODE_INVALID = "code_invalid"
    REDIRECT_URI_MISMATCH = "redirect_uri_mismatch"
    GRANT_TYPE_INVALID = "grant_type_invalid"
    CLIENT_CREDENTIALS_INVALID = "client_credentials_invalid"
    ENDPOINT_REFUSED = "endpoint_refused"
    REFRESH_TOKEN_MISSING = "refresh_token_missing"  # noqa: S105 - a reason, no token
    REFRESH_TOKEN_CLAIMED = "refresh_token_claimed"  # noqa: S105 - a reason, no token
    REFRESH_TOKEN_EXPIRED = "refresh_token_expired"  # noqa: S105 - a reason, no token
    ROTATION_LOST = "rotation_lost"
    REVOKE_REJECTED = "revoke_rejected"
    TOKEN_TYPE_HINT_UNSUPPORTED = "token_type_hint_unsupported"  # noqa: S105 - a reason, no token
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    UNREACHABLE = "unreachable"
    ANSWER_LOST = "answer_lost"
    MALFORMED_RESPONSE = "malformed_response"
    UNKNOWN = "unknown"


class Disposition(StrEnum):
    """What the sidecar does next."""

    RETRY_NOW = "retry_now"
    """The owner of the claim repeats it, at most three times, then backs off."""
    RETRY_LATER = "retry_later"
    """Nothing was lost; asked again after a pause."""
    IN_DOUBT = "in_doubt"
    """The store, the own spool and the fleet are asked for a newer pair first."""
    REAUTH = "reauth"
    """The end user must consent again."""
    OPERATOR = "operator"
    """No grant is blamed; a person who runs the sidecar must act."""
    DONE = "done"
    """What was wanted is the case already."""


DISPOSITIONS: Final[dict[FailureReason, Disposition]] = {
    FailureReason.CODE_INVALID: Disposition.REAUTH,
    FailureReason.REDIRECT_URI_MISMATCH: Disposition.OPERATOR,
    FailureReason.GRANT_TYPE_INVALID: Disposition.OPERATOR,
    FailureReason.CLIENT_CREDENTIALS_INVALID: Disposition.OPERATOR,
    FailureReason.ENDPOINT_REFUSED: Disposition.OPERATOR,
    FailureReason.REFRESH_TOKEN_MISSING: Disposition.IN_DOUBT,
    FailureReason.REFRESH_TOKEN_CLAIMED: Disposition.IN_DOUBT,
    FailureReason.REFRESH_TOKEN_EXPIRED: Disposition.IN_DOUBT,
    FailureReason.ROTATION_LOST: Disposition.REAUTH,
    FailureReason.REVOKE_REJECTED: Disposition.DONE,
    FailureReason.TOKEN_TYPE_HINT_UNSUPPORTED: Disposition.OPERATOR,
    FailureReason.RATE_LIMITED: Disposition.RETRY_LATER,
    FailureReason.SERVER_ERROR: Disposition.RETRY_NOW,
    FailureReason.UNREACHABLE: Disposition.RETRY_LATER,
    FailureReason.ANSWER_LOST: Disposition.RETRY_NOW,
    FailureReason.MALFORMED_RESPONSE: Disposition.IN_DOUBT,
    FailureReason.UNKNOWN: Disposition.RETRY_LATER,
}

HINTS: Final[dict[FailureReason, str]] = {
    FailureReason.CODE_INVALID: (
        "The authorization code is wrong, already used or older than five minutes; "
        "send the end user through consent again."
    ),
    FailureReason.REDIRECT_URI_MISMATCH: (
        "The redirect URI of the exchange is not the one of the authorize URL; "
        "compare SIDECAR_REDIRECT_URI with the app's registration at Akoya."
    ),
    FailureReason.GRANT_TYPE_INVALID: (
        "Akoya did not understand the request itself; this is a fault of the sidecar or of a proxy "
        "between it and Akoya. No grant is blamed."
    ),
    FailureReason.CLIENT_CREDENTIALS_INVALID: (
        "Akoya refused the client id or secret; check SIDECAR_AKOYA_CLIENT_ID, its secret and "
        "SIDECAR_AKOYA_ENVIRONMENT. No grant is blamed and no refresh token was spent."
    ),
    FailureReason.ENDPOINT_REFUSED: (
        "Akoya's token service, or something before it, takes no such request from here; check "
        "SIDECAR_IDP_URL, SIDECAR_REVOKE_PATH, SIDECAR_EGRESS_PROXY and Akoya's list of addresses. "
        "No grant is blamed and no refresh token was spent."
    ),
    FailureReason.REFRESH_TOKEN_MISSING: (
        "Akoya says that the request carried no refresh token, although it did; "
        "the grant is checked against the fleet before anything is concluded."
    ),
    FailureReason.REFRESH_TOKEN_CLAIMED: (
        "Akoya says that the refresh token was used before or is invalid; a newer pair is looked "
        "for first. Without one the end user must consent again."
    ),
    FailureReason.REFRESH_TOKEN_EXPIRED: (
        "Akoya says that the refresh token expired or was revoked; "
        "without a newer pair the end user must consent again."
    ),
    FailureReason.ROTATION_LOST: (
        "The refresh token was spent, but the answer with its successor never arrived here; "
        "the end user must consent again. Look at the network and at killed sidecars."
    ),
    FailureReason.REVOKE_REJECTED: (
        "Akoya does not know the token that was to be revoked; it is treated as already gone."
    ),
    FailureReason.TOKEN_TYPE_HINT_UNSUPPORTED: (
        "Akoya refused the token type hint; this is a fault of the sidecar."
    ),
    FailureReason.RATE_LIMITED: "Akoya asked for fewer requests; the next try waits as it said.",
    FailureReason.SERVER_ERROR: (
        "Akoya or the bank behind it failed; the refresh token may or may not be spent."
    ),
    FailureReason.UNREACHABLE: (
        "No connection to Akoya's token service; nothing was sent. Check the network, DNS, "
        "SIDECAR_IDP_URL and SIDECAR_EGRESS_PROXY."
    ),
    FailureReason.ANSWER_LOST: (
        "The request was sent, but no whole answer came back; "
        "the owner of the claim asks again, since nobody else can hold the answer."
    ),
    FailureReason.MALFORMED_RESPONSE: (
        "Akoya answered 200 without a usable pair of tokens; whatever could be kept was kept."
    ),
    FailureReason.UNKNOWN: (
        "An answer that is in no documentation; nothing is concluded from it and the grant is kept."
    ),
}

OPERATION_REASONS: Final[dict[Operation, tuple[FailureReason, ...]]] = {
    Operation.OBTAIN: (
        FailureReason.CODE_INVALID,
        FailureReason.REDIRECT_URI_MISMATCH,
        FailureReason.GRANT_TYPE_INVALID,
        FailureReason.CLIENT_CREDENTIALS_INVALID,
        FailureReason.ENDPOINT_REFUSED,
        FailureReason.RATE_LIMITED,
        FailureReason.SERVER_ERROR,
        FailureReason.UNREACHABLE,
        FailureReason.ANSWER_LOST,
        FailureReason.MALFORMED_RESPONSE,
        FailureReason.UNKNOWN,
    ),
    Operation.REFRESH: (
        FailureReason.GRANT_TYPE_INVALID,
        FailureReason.CLIENT_CREDENTIALS_INVALID,
        FailureReason.ENDPOINT_REFUSED,
        FailureReason.REFRESH_TOKEN_MISSING,
        FailureReason.REFRESH_TOKEN_CLAIMED,
        FailureReason.REFRESH_TOKEN_EXPIRED,
        FailureReason.ROTATION_LOST,
        FailureReason.RATE_LIMITED,
        FailureReason.SERVER_ERROR,
        FailureReason.UNREACHABLE,
        FailureReason.ANSWER_LOST,
        FailureReason.MALFORMED_RESPONSE,
        FailureReason.UNKNOWN,
    ),
    Operation.REVOKE: (
        FailureReason.REVOKE_REJECTED,
        FailureReason.TOKEN_TYPE_HINT_UNSUPPORTED,
        FailureReason.CLIENT_CREDENTIALS_INVALID,
        FailureReason.ENDPOINT_REFUSED,
        FailureReason.RATE_LIMITED,
        FailureReason.SERVER_ERROR,
        FailureReason.UNREACHABLE,
        FailureReason.ANSWER_LOST,
        FailureReason.UNKNOWN,
    ),
}
"""Which reasons each operation can have: its series and its rows in the reference."""

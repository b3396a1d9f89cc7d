"""Tokens in the clear, for as long as somebody must hold them, and what a look-up of one can say.

Everything here masks its secrets in `repr`; nothing here is stored (`record.StoredPair` is).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sidecar.domain.failure import Disposition, FailureReason, Operation
from sidecar.domain.record import GrantId, Position
from sidecar.domain.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPair:
    """What one answer of the token service brought.

    Attributes:
        id_token: The bearer of data calls; ``None`` where only the refresh token could be saved.
        refresh_token: The single-use successor.
        life_s: How long the id_token is good for, counted from when it was asked for; 0: not at
            all.
        age_s: How old it was by then, where the IdP had issued it for an earlier request.
        issued_at_s: ``iat`` of the id_token (the IdP's clock), or 0.
        subject: ``sub`` of the id_token, or ``""``.
        akoya_grant_id: ``grant_id`` of the id_token, or ``""``.
    """

    id_token: Secret | None
    refresh_token: Secret
    life_s: int
    issued_at_s: int = 0
    subject: str = ""
    akoya_grant_id: str = ""
    age_s: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFailure:
    """A token request that brought nothing usable, as the caller and the operator may see it.

    Attributes:
        akoya_status: HTTP status of Akoya's answer, or ``None`` where none came.
        akoya_error: ``error`` of the answer, at most 64 characters of RFC 6749's set, or ``""``.
        akoya_error_description: Its description, only where it is one of the documented texts.
        retry_after_s: What ``Retry-After`` asked for, within `domain.bounds`, or ``None``.
    """

    operation: Operation
    reason: FailureReason
    akoya_status: int | None = None
    akoya_error: str = ""
    akoya_error_description: str = ""
    retry_after_s: float | None = None
    disposition: Disposition


class TokenSource(StrEnum):
    """Where the token of a request came from."""

    MEMORY = "memory"
    STORE = "store"
    REFRESH = "refresh"
    STALE = "stale"
    NONE = "none"


class ProblemReason(StrEnum):
    """Every reason of an answer that the sidecar itself makes on the proxy listener."""

    USER_MISSING = "user_missing"
    PATH_INVALID = "path_invalid"
    REQUEST_INVALID = "request_invalid"
    GRANT_UNKNOWN = "grant_unknown"
    REAUTH_REQUIRED = "reauth_required"
    CLIENT_KEY_INVALID = "client_key_invalid"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    REQUEST_TOO_LARGE = "request_too_large"
    HEADERS_TOO_LARGE = "headers_too_large"
    UPSTREAM_UNREACHABLE = "upstream_unreachable"
    TOKEN_UNAVAILABLE = "token_unavailable"  # noqa: S105 - a reason, no token
    OVERLOADED = "overloaded"
    DRAINING = "draining"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    INTERNAL_ERROR = "internal_error"
    """A fault of the sidecar: the request's outcome is ``failed``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFound:
    """A bearer for the upstream.

    Attributes:
        position: What to name as rejected if the upstream answers 401 to it.
        cooling_product: The product whose 401 opened a cool-down that a 2xx on it ends, or ``""``.
    """

    grant: GrantId
    bearer: Secret
    position: Position
    source: TokenSource
    cooling_product: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRefused:
    """No bearer now: ``grant_unknown``, ``reauth_required`` or ``token_unavailable``.

    Attributes:
        retry_after_s: How long what stands in the way is known to last.
        is_cut_short: The call had no patience left, and nothing is known of what it waited for.
    """

    grant: GrantId
    reason: ProblemReason
    retry_after_s: float | None = None
    is_cut_short: bool = False


TokenLookup = TokenFound | TokenRefused


@dataclass(frozen=True, slots=True, kw_only=True)
class HealGranted:
    """The rejected token was replaced; repeat the request with this one."""

    found: TokenFound


@dataclass(frozen=True, slots=True, kw_only=True)
class HealDeclined:
    """Another token would not help (a cool-down): pass the upstream's 401 on, untouched."""


HealVerdict = HealGranted | HealDeclined | TokenRefused
"""`TokenRefused`: answer with its problem instead of the upstream's 401, since the grant is dead
(``reauth_required``) or no newer token can be had just now (``token_unavailable``)."""

"""How the token service refuses: in the words Akoya documents, which are dex's, or in Ory Hydra's.

Both refuse the same requests; status, `error` and `error_description` differ. A revocation is
refused as Akoya documents it under either. It must not know when a refusal is due.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from sidecar.sandbox.replies import Reply, token_error

if TYPE_CHECKING:
    from sidecar.sandbox.settings import Profile


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TokenErrors:
    """Every refusal of an obtain or a refresh, by its cause.

    Attributes:
        client: The client id or secret is not the app's.
        grant_type: There is no such grant type, and nothing tells which one was meant.
        not_obtain: There is no such grant type, and a code was sent.
        not_refresh: There is no such grant type, and a refresh token was sent.
        code: The code is wrong, used or too old.
        redirect: The code is good for another redirect URI.
        token_missing: No refresh token was sent.
        token_dead: The refresh token is unknown, has ended, or its grant has.
        token_reused: It was used before, which has just ended its family.
        race: Another request is spending it.
    """

    client: Reply
    grant_type: Reply
    not_obtain: Reply
    not_refresh: Reply
    code: Reply
    redirect: Reply
    token_missing: Reply
    token_dead: Reply
    token_reused: Reply
    race: Reply


_CLAIMED: Final = token_error(
    400,
    "invalid_request",
    "Refresh token is invalid or has already been claimed by another client.",
)
_DEX: Final = TokenErrors(
    client=token_error(401, "invalid_client", "Invalid client credentials.", basic=True),
    grant_type=token_error(400, "invalid_grant"),
    not_obtain=token_error(
        400, "invalid_grant", "Missing or incorrect grant_type field. Must be authorization_code"
    ),
    not_refresh=token_error(
        400, "invalid_grant", "Missing or incorrect grant_type field. Must be refresh_token"
    ),
    code=token_error(400, "invalid_request", "Invalid or expired code parameter."),
    redirect=token_error(
        400, "invalid_request", "redirect_uri did not match URI from initial request"
    ),
    token_missing=token_error(400, "invalid_request", "No refresh token in request"),
    token_dead=_CLAIMED,
    token_reused=_CLAIMED,
    race=token_error(500, "server_error"),
)

# One general sentence for each error, and a hint behind it.
_GRANT: Final = (
    "The provided authorization grant (e.g., authorization code, resource owner credentials) or"
    " refresh token is invalid, expired, revoked, does not match the redirection URI used in the"
    " authorization request, or was issued to another client."
)
_REQUEST: Final = (
    "The request is missing a required parameter, includes an invalid parameter value, includes a"
    " parameter more than once, or is otherwise malformed."
)
_GRANT_TYPE: Final = token_error(
    400,
    "unsupported_grant_type",
    "The authorization grant type is not supported by the authorization server.",
)
_DEAD: Final = token_error(400, "invalid_grant", _GRANT)
_HYDRA: Final = TokenErrors(
    client=token_error(
        401,
        "invalid_client",
        "Client authentication failed (e.g., unknown client, no client authentication included, or"
        " unsupported authentication method).",
        basic=True,
    ),
    grant_type=token_error(
        400, "invalid_request", f"{_REQUEST} Request parameter 'grant_type' is missing"
    ),
    not_obtain=_GRANT_TYPE,
    not_refresh=_GRANT_TYPE,
    code=_DEAD,
    redirect=token_error(
        400,
        "invalid_grant",
        f"{_GRANT} The 'redirect_uri' from this request does not match the one from the authorize"
        " request.",
    ),
    token_missing=_DEAD,
    token_dead=_DEAD,
    token_reused=token_error(400, "invalid_grant", f"{_GRANT} The refresh token was already used."),
    race=token_error(
        400,
        "invalid_request",
        f"{_REQUEST} Failed to refresh token because of multiple concurrent requests using the same"
        " token which is not allowed.",
    ),
)

TOKEN_ERRORS: Final[Mapping[Profile, TokenErrors]] = {"dex": _DEX, "hydra": _HYDRA}

PROVIDER_DOWN: Final = token_error(500, "server_error")
REVOKE_INVALID: Final = token_error(400, "invalid_request")
REVOKE_HINT_UNSUPPORTED: Final = token_error(400, "unsupported_token_type")
REVOKE_UNAUTHORIZED: Final = token_error(401, "unauthorized_client")

"""What is asked of the token service: the requests for a pair, a successor, a revocation.

Fields, their order and the place of the client's credentials are those of Akoya's documentation.
It must not know how a request is sent, nor what an answer means (see `token_wire`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import quote, urlencode

from sidecar.domain.failure import Operation
from sidecar.domain.secret import Secret
from sidecar.domain.wire import TokenRequest

TOKEN_PATH: Final = "/token"  # noqa: S105 - a path, no token
AUTHORIZE_PATH: Final = "/auth"

_PLAIN_IN_BASIC: Final = "".join(
    character for character in map(chr, range(0x21, 0x7F)) if character not in "%+:"
)


class RefreshAuth(StrEnum):
    """Where the client's credentials go when a token is refreshed."""

    BODY = "body"
    """In the form, as Akoya documents it."""
    BASIC = "basic"
    """In the Authorization header, as OpenID discovery of such servers announces it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCredentials:
    """The app's id and secret at Akoya."""

    client_id: str
    client_secret: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizeQuery:
    """What the consent page must be told.

    Attributes:
        connector: Akoya's provider id.
        scope: Space separated.
        state: Comes back unchanged with the code; the app checks it.
    """

    client_id: str
    connector: str
    redirect_uri: str
    scope: str
    state: str


def authorize_url(idp_url: str, query: AuthorizeQuery) -> str:
    """Return where to send the end user for consent."""
    fields = {
        "connector": query.connector,
        "client_id": query.client_id,
        "redirect_uri": query.redirect_uri,
        "response_type": "code",
        "scope": query.scope,
        "state": query.state,
    }
    return f"{idp_url.rstrip('/')}{AUTHORIZE_PATH}?{urlencode(fields, quote_via=quote)}"


def obtain_request(client: ClientCredentials, code: Secret, redirect_uri: str) -> TokenRequest:
    """Return the exchange of an authorization code; Akoya wants HTTP Basic for it."""
    return TokenRequest(
        operation=Operation.OBTAIN,
        path=TOKEN_PATH,
        form=(
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_uri),
        ),
        basic_auth=_basic(client),
    )


def refresh_request(
    client: ClientCredentials, refresh_token: Secret, auth: RefreshAuth
) -> TokenRequest:
    """Return the claim of a refresh token's successor."""
    form: tuple[tuple[str, str | Secret], ...] = (
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh_token),
    )
    is_basic = auth is RefreshAuth.BASIC
    return TokenRequest(
        operation=Operation.REFRESH,
        path=TOKEN_PATH,
        form=form if is_basic else form + _in_form(client),
        basic_auth=_basic(client) if is_basic else None,
    )


def revoke_request(client: ClientCredentials, refresh_token: Secret, path: str) -> TokenRequest:
    """Return the revocation of a whole grant by its newest refresh token.

    Args:
        client: Goes into the form; Akoya takes no HTTP Basic here.
        refresh_token: An older one may be unknown to Akoya already.
        path: Akoya's pages disagree on it.
    """
    return TokenRequest(
        operation=Operation.REVOKE,
        path=path,
        form=(
            ("token", refresh_token),
            ("token_type_hint", "refresh_token"),
            *_in_form(client),
        ),
    )


def _in_form(client: ClientCredentials) -> tuple[tuple[str, str | Secret], ...]:
    return (("client_id", client.client_id), ("client_secret", client.client_secret))


def _basic(client: ClientCredentials) -> tuple[str, Secret]:
    """Escape the credentials for HTTP Basic, as little as is right.

    RFC 6749 section 2.3.1 has both form-encoded before base64, and the servers that Akoya's texts
    point to decode them; Akoya's samples encode nothing. So only that is escaped which a decoding
    server would otherwise change (``%``, ``+``) or Basic cannot carry (``:``, a blank, anything
    beyond ASCII). Every other credential is the same for both kinds of server.
    """
    secret = quote(client.client_secret.reveal(), safe=_PLAIN_IN_BASIC)
    return quote(client.client_id, safe=_PLAIN_IN_BASIC), Secret(secret)

"""The requests to the token service are those of Akoya's documentation."""

from __future__ import annotations

from urllib.parse import parse_qs, unquote_plus, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.domain.failure import Operation
from sidecar.domain.secret import Secret
from sidecar.domain.token_requests import (
    AuthorizeQuery,
    ClientCredentials,
    RefreshAuth,
    authorize_url,
    obtain_request,
    refresh_request,
    revoke_request,
)

CLIENT = ClientCredentials(client_id="app-1", client_secret=Secret("s3cret"))


def test_a_code_is_exchanged_with_basic_credentials() -> None:
    """Akoya wants HTTP Basic for the exchange, and nothing of the client in the form."""
    request = obtain_request(CLIENT, Secret("code-1"), "https://app.example/cb")

    assert request.operation is Operation.OBTAIN
    assert request.path == "/token"
    assert request.form == (
        ("grant_type", "authorization_code"),
        ("code", Secret("code-1")),
        ("redirect_uri", "https://app.example/cb"),
    )
    assert request.basic_auth == ("app-1", Secret("s3cret"))


def test_a_refresh_has_its_credentials_in_the_body() -> None:
    """Akoya's documentation takes the Basic header off this request."""
    request = refresh_request(CLIENT, Secret("r-1"), RefreshAuth.BODY)

    assert request.operation is Operation.REFRESH
    assert request.path == "/token"
    assert request.form == (
        ("grant_type", "refresh_token"),
        ("refresh_token", Secret("r-1")),
        ("client_id", "app-1"),
        ("client_secret", Secret("s3cret")),
    )
    assert request.basic_auth is None


def test_a_refresh_can_have_its_credentials_in_the_header() -> None:
    """Then they are in the header alone: two places at once are an error for some servers."""
    request = refresh_request(CLIENT, Secret("r-1"), RefreshAuth.BASIC)

    assert dict(request.form).keys() == {"grant_type", "refresh_token"}
    assert request.basic_auth == ("app-1", Secret("s3cret"))


def test_a_revocation_names_the_refresh_token_and_its_kind() -> None:
    """The path is configurable, since Akoya's pages disagree on it."""
    request = revoke_request(CLIENT, Secret("r-1"), "/token/revoke")

    assert request.operation is Operation.REVOKE
    assert request.path == "/token/revoke"
    assert request.form == (
        ("token", Secret("r-1")),
        ("token_type_hint", "refresh_token"),
        ("client_id", "app-1"),
        ("client_secret", Secret("s3cret")),
    )
    assert request.basic_auth is None


def test_the_authorize_url_says_everything_the_consent_page_needs() -> None:
    """Values are escaped so that any reader of a query gets them back."""
    query = AuthorizeQuery(
        client_id="app-1",
        connector="mikomo",
        redirect_uri="https://app.example/cb?x=1&y=2",
        scope="openid profile offline_access",
        state="a+b/c=",
    )

    url = authorize_url("https://sandbox-idp.ddp.akoya.com/", query)

    assert url.startswith("https://sandbox-idp.ddp.akoya.com/auth?connector=mikomo&")
    assert "+" not in url
    assert parse_qs(urlsplit(url).query) == {
        "connector": ["mikomo"],
        "client_id": ["app-1"],
        "redirect_uri": ["https://app.example/cb?x=1&y=2"],
        "response_type": ["code"],
        "scope": ["openid profile offline_access"],
        "state": ["a+b/c="],
    }


@given(client_id=st.text(min_size=1), secret=st.text())
def test_a_server_that_decodes_basic_credentials_gets_them_back(
    client_id: str, secret: str
) -> None:
    """RFC 6749 section 2.3.1: whatever the credentials hold, decoding restores it."""
    client = ClientCredentials(client_id=client_id, client_secret=Secret(secret))

    basic_auth = obtain_request(client, Secret("c"), "https://app.example/cb").basic_auth

    assert basic_auth is not None
    assert ":" not in basic_auth[0]
    assert f"{basic_auth[0]}{basic_auth[1].reveal()}".isascii()
    assert unquote_plus(basic_auth[0]) == client_id
    assert unquote_plus(basic_auth[1].reveal()) == secret


@pytest.mark.parametrize("secret", ["abc-DEF_123", "a/b==", "s3cr3t!~*'(){}", "$#&=?@"])
def test_ordinary_credentials_are_the_same_for_a_server_that_does_not_decode(secret: str) -> None:
    """Akoya's own samples encode nothing, so as little as is right is encoded."""
    client = ClientCredentials(client_id="app-1", client_secret=Secret(secret))

    request = obtain_request(client, Secret("c"), "https://app.example/cb")

    assert request.basic_auth == ("app-1", Secret(secret))


def test_a_request_prints_no_secret() -> None:
    """Requests may be logged by mistake; what they carry may not."""
    shown = "".join(
        repr(request)
        for request in (
            obtain_request(CLIENT, Secret("code-1"), "https://app.example/cb"),
            refresh_request(CLIENT, Secret("r-1"), RefreshAuth.BODY),
            revoke_request(CLIENT, Secret("r-1"), "/revoke"),
        )
    )

    assert "s3cret" not in shown
    assert "code-1" not in shown
    assert "r-1" not in shown

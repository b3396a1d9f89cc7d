"""The table of refusals, row by row, with the texts as Akoya, dex and Hydra say them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.domain.failure import (
    DISPOSITIONS,
    OPERATION_REASONS,
    Disposition,
    FailureReason,
    Operation,
)
from sidecar.domain.token_wire import ClaimFate, fate_of, read_reply
from sidecar.domain.tokens import TokenFailure
from sidecar.domain.wire import Answered, Broken, NotSent

CLAIMED = "Refresh token is invalid or has already been claimed by another client."
HYDRA_DEAD = (
    "The provided authorization grant (e.g., authorization code, resource owner credentials) or "
    "refresh token is invalid, expired, revoked, does not match the redirection URI used in the "
    "authorization request, or was issued to another client."
)
HYDRA_RACE = (
    "The request could not be completed due to concurrent use. "
    "Failed to refresh token because of multiple concurrent requests using the same token which "
    "is not allowed. Please retry."
)

REFUSALS = [
    # operation, status, error, description, reason, fate of a refresh
    ("obtain", 400, "invalid_request", "Invalid or expired code parameter.", "code_invalid"),
    ("obtain", 400, "invalid_request", "invalid or expired  code parameter", "code_invalid"),
    (
        "obtain",
        400,
        "invalid_request",
        "redirect_uri did not match URI from initial request.",
        "redirect_uri_mismatch",
    ),
    ("obtain", 400, "invalid_grant", "", "grant_type_invalid"),
    (
        "obtain",
        400,
        "invalid_grant",
        "Missing or incorrect grant_type field. Must be authorization_code",
        "grant_type_invalid",
    ),
    ("obtain", 400, "invalid_grant", HYDRA_DEAD, "code_invalid"),
    ("obtain", 400, "unsupported_grant_type", "", "grant_type_invalid"),
    ("obtain", 400, "invalid_request", "code_verifier is too short", "unknown"),
    ("obtain", 400, "invalid_request", CLAIMED, "unknown"),
    ("obtain", 401, "invalid_client", "Invalid client credentials.", "client_credentials_invalid"),
    ("obtain", 503, "", "", "server_error"),
    ("refresh", 400, "invalid_request", CLAIMED, "refresh_token_claimed"),
    ("refresh", 400, "invalid_request", CLAIMED.upper()[:-1], "refresh_token_claimed"),
    (
        "refresh",
        400,
        "invalid_request",
        "No refresh token in request.",
        "refresh_token_missing",
    ),
    ("refresh", 400, "invalid_request", "Refresh token expired.", "refresh_token_expired"),
    ("refresh", 400, "invalid_request", HYDRA_RACE, "server_error"),
    ("refresh", 400, "invalid_request", "Something went wrong; try again", "server_error"),
    ("refresh", 400, "invalid_request", "could not serialize access", "server_error"),
    ("refresh", 400, "invalid_request", "", "unknown"),
    ("refresh", 400, "invalid_request", "A text from nowhere", "unknown"),
    ("refresh", 400, "", "", "unknown"),
    ("refresh", 400, "invalid_scope", "", "unknown"),
    (
        "refresh",
        400,
        "invalid_grant",
        "Missing or incorrect grant_type field. Must be refresh_token",
        "grant_type_invalid",
    ),
    ("refresh", 400, "unsupported_grant_type", "", "grant_type_invalid"),
    ("refresh", 400, "invalid_grant", HYDRA_DEAD, "refresh_token_expired"),
    ("refresh", 400, "invalid_grant", "Token is expired", "refresh_token_expired"),
    ("refresh", 400, "invalid_grant", "Token is inactive", "refresh_token_expired"),
    ("refresh", 400, "invalid_grant", "", "refresh_token_expired"),
    ("refresh", 401, "token_inactive", "Token is inactive", "refresh_token_expired"),
    ("refresh", 401, "invalid_grant", "", "unknown"),
    ("refresh", 401, "invalid_client", "Invalid client credentials.", "client_credentials_invalid"),
    ("refresh", 401, "unauthorized_client", "", "client_credentials_invalid"),
    ("refresh", 400, "invalid_client", "", "client_credentials_invalid"),
    ("refresh", 403, "invalid_client", "", "client_credentials_invalid"),
    ("refresh", 401, "", "", "unknown"),
    ("refresh", 403, "", "", "endpoint_refused"),
    ("refresh", 404, "", "", "endpoint_refused"),
    ("refresh", 405, "", "", "endpoint_refused"),
    ("refresh", 415, "", "", "endpoint_refused"),
    ("refresh", 425, "", "", "unknown"),
    ("refresh", 408, "", "", "server_error"),
    ("refresh", 429, "", "", "rate_limited"),
    ("refresh", 429, "invalid_request", CLAIMED, "rate_limited"),
    ("refresh", 500, "server_error", "", "server_error"),
    ("refresh", 500, "invalid_request", CLAIMED, "server_error"),
    ("refresh", 502, "", "", "server_error"),
    ("refresh", 599, "", "", "server_error"),
    ("refresh", 301, "", "", "unknown"),
    ("refresh", 307, "invalid_grant", "", "unknown"),
    ("revoke", 400, "invalid_request", "", "revoke_rejected"),
    ("revoke", 400, "invalid_request", "whatever", "revoke_rejected"),
    ("revoke", 400, "unsupported_token_type", "", "token_type_hint_unsupported"),
    ("revoke", 401, "unauthorized_client", "", "client_credentials_invalid"),
    ("revoke", 401, "invalid_client", "", "client_credentials_invalid"),
    ("revoke", 400, "invalid_grant", "", "unknown"),
    ("revoke", 404, "", "", "endpoint_refused"),
    ("revoke", 500, "", "", "server_error"),
]

FATES = {
    "grant_type_invalid": ClaimFate.UNSPENT,
    "client_credentials_invalid": ClaimFate.UNSPENT,
    "rate_limited": ClaimFate.UNSPENT,
    "unknown": ClaimFate.UNSPENT,
    "endpoint_refused": ClaimFate.UNSPENT,
    "server_error": ClaimFate.AMBIGUOUS,
    "refresh_token_claimed": ClaimFate.DENIED,
    "refresh_token_missing": ClaimFate.DENIED,
    "refresh_token_expired": ClaimFate.DENIED,
}


def refusal(status: int, error: str = "", description: str = "") -> Answered:
    members = {"error": error, "error_description": description}
    body = json.dumps({name: text for name, text in members.items() if text}).encode()
    return Answered(status=status, body=body if error else b"<h1>no</h1>")


def failure_of(operation: Operation, answer: Answered) -> TokenFailure:
    reading = read_reply(operation, answer)
    assert isinstance(reading, TokenFailure)
    return reading


@pytest.mark.parametrize(("operation", "status", "error", "description", "reason"), REFUSALS)
def test_every_known_refusal_has_its_reason(
    operation: str, status: int, error: str, description: str, reason: str
) -> None:
    """Status, error and description together name the reason, in either server's words."""
    failure = failure_of(Operation(operation), refusal(status, error, description))

    assert failure.reason == reason
    assert failure.disposition is DISPOSITIONS[FailureReason(reason)]
    assert failure.akoya_status == status
    assert failure.akoya_error == error


@pytest.mark.parametrize(
    ("status", "error", "description", "reason"),
    [row[1:] for row in REFUSALS if row[0] == "refresh"],
)
def test_every_refused_refresh_says_what_became_of_its_token(
    status: int, error: str, description: str, reason: str
) -> None:
    """Only a denial doubts the token, and only an outage leaves it open whether it was used."""
    failure = failure_of(Operation.REFRESH, refusal(status, error, description))

    assert fate_of(failure) is FATES[reason]


def test_a_token_that_was_really_missing_is_a_bug_and_not_a_denial() -> None:
    """Where our request held no refresh token, the answer about it blames no grant."""
    answer = refusal(400, "invalid_request", "No refresh token in request.")

    failure = read_reply(Operation.REFRESH, answer, carried_token=False)

    assert isinstance(failure, TokenFailure)
    assert failure.reason is FailureReason.REFRESH_TOKEN_MISSING
    assert failure.disposition is Disposition.OPERATOR
    assert fate_of(failure) is ClaimFate.UNSPENT


def test_a_request_that_never_left_is_unreachable_and_spent_nothing() -> None:
    """Without a connection nothing was sent, so it may be repeated by anybody."""
    failure = read_reply(Operation.REFRESH, NotSent())

    assert isinstance(failure, TokenFailure)
    assert failure.reason is FailureReason.UNREACHABLE
    assert fate_of(failure) is ClaimFate.UNSPENT


@pytest.mark.parametrize("status", [None, 200, 400, 401, 500])
def test_a_torn_answer_without_tokens_is_ambiguous_whatever_it_began_with(
    status: int | None,
) -> None:
    """Half a refusal proves nothing: the owner asks again."""
    torn = json.dumps({"error": "invalid_request", "error_description": CLAIMED}).encode()

    failure = read_reply(Operation.REFRESH, Broken(status=status, body=torn))

    assert isinstance(failure, TokenFailure)
    assert failure.reason is FailureReason.ANSWER_LOST
    assert failure.akoya_status == status
    assert fate_of(failure) is ClaimFate.AMBIGUOUS


def test_a_documented_description_is_shown_in_the_documented_form() -> None:
    """A known text is passed on, however it was spaced or ended."""
    failure = failure_of(
        Operation.REFRESH, refusal(400, "invalid_request", "  no refresh  TOKEN in request ")
    )

    assert failure.akoya_error_description == "No refresh token in request."


def test_an_unknown_description_is_never_shown() -> None:
    """A text that is in no documentation could hold a token."""
    failure = failure_of(
        Operation.REFRESH, refusal(400, "invalid_grant", "token ory_rt_canary is expired")
    )

    assert failure.akoya_error_description == ""
    assert "canary" not in repr(failure)


@pytest.mark.parametrize(
    "error", ["e" * 65, 'a"b', "a\\b", "naïve", "a\nb", "", 7, None, ["invalid_grant"]]
)
def test_an_error_outside_the_standard_form_is_not_shown(error: object) -> None:
    """Only RFC 6749's characters, at most 64 of them, reach a log."""
    body = json.dumps({"error": error}).encode()

    failure = failure_of(Operation.REFRESH, Answered(status=400, body=body))

    assert failure.akoya_error == ""
    assert failure.reason is FailureReason.UNKNOWN


def test_the_wish_to_wait_is_handed_on() -> None:
    """What Retry-After asked for reaches whoever plans the next try."""
    failure = failure_of(
        Operation.REFRESH, Answered(status=429, body=b"slow down", retry_after_s=7.5)
    )

    assert failure.retry_after_s == 7.5


@given(
    operation=st.sampled_from(Operation),
    status=st.integers(300, 599),
    error=st.sampled_from(
        ["", "invalid_request", "invalid_grant", "invalid_client", "server_error", "new_error"]
    ),
    description=st.one_of(st.text(), st.sampled_from([row[3] for row in REFUSALS])),
)
def test_every_refusal_has_a_reason_of_its_operation(
    operation: Operation, status: int, error: str, description: str
) -> None:
    """No answer can make a series that the catalogue does not list for the operation."""
    failure = failure_of(operation, refusal(status, error, description))

    assert failure.reason in OPERATION_REASONS[operation]

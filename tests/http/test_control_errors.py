"""What an app is told when Akoya refuses: the reason, what happens next, and no token."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sidecar.domain.failure import FailureReason
from sidecar.domain.outcomes import Obstacle
from sidecar.domain.record import GrantState
from sidecar.domain.wire import Answered, Broken, NotSent
from sidecar.http.control_problems import (
    CONTROL_PROBLEMS,
    FAILURE_STATUSES,
    ControlReason,
)
from tests.support.control_rig import CODE, GRANT, ONBOARDING, ControlRig, Got, running_control
from tests.support.scripted_idp import Step, json_answer, refusal
from tests.support.wait import until

CLAIMED = "Refresh token is invalid or has already been claimed by another client."
CREDENTIALS = "Invalid client credentials."

DOCUMENTED = [
    # operation, Akoya's status, error, description, our status, reason, disposition
    ("obtain", 400, "invalid_request", "Invalid or expired code parameter.",
     400, "code_invalid", "reauth"),
    ("obtain", 400, "invalid_request", "redirect_uri did not match URI from initial request.",
     400, "redirect_uri_mismatch", "operator"),
    ("obtain", 400, "invalid_grant",
     "Missing or incorrect grant_type field. Must be authorization_code",
     502, "grant_type_invalid", "operator"),
    ("obtain", 401, "invalid_client", CREDENTIALS, 502, "client_credentials_invalid", "operator"),
    ("refresh", 400, "invalid_request", "No refresh token in request.",
     503, "refresh_token_missing", "in_doubt"),
    ("refresh", 400, "invalid_request", CLAIMED, 401, "refresh_token_claimed", "in_doubt"),
    ("refresh", 400, "invalid_grant",
     "Missing or incorrect grant_type field. Must be refresh_token",
     502, "grant_type_invalid", "operator"),
    ("refresh", 401, "invalid_client", CREDENTIALS, 502, "client_credentials_invalid", "operator"),
    ("revoke", 400, "unsupported_token_type", "", 202, "token_type_hint_unsupported", "operator"),
    ("revoke", 401, "unauthorized_client", "", 202, "client_credentials_invalid", "operator"),
]  # fmt: skip


async def ask(control: ControlRig, operation: str, step: Step) -> Got:
    """Make Akoya answer one operation with `step`."""
    if operation == "obtain":
        control.rig.idp.then(step)
        return await control.ask("POST", "/grants", body=ONBOARDING)
    await control.onboard("canary-refresh-token")
    control.rig.idp.then(step)
    if operation == "refresh":
        return await control.ask("POST", f"{GRANT}/refresh")
    return await control.ask("DELETE", GRANT)


@pytest.mark.parametrize(
    ("operation", "akoya_status", "error", "description", "status", "reason", "disposition"),
    DOCUMENTED,
)
async def test_each_documented_refusal_has_its_reason_and_next_step(  # noqa: PLR0913, PLR0917 - columns
    operation: str,
    akoya_status: int,
    error: str,
    description: str,
    status: int,
    reason: str,
    disposition: str,
) -> None:
    """An app can script against every row of Akoya's three error tables."""
    async with running_control() as control:
        got = await ask(control, operation, refusal(akoya_status, error, description))

    is_kept = status == 202
    told = got.document["failure"] if is_kept else got.document
    assert got.status == status
    assert (told["operation"], told["reason"], told["disposition"]) == (
        operation,
        reason,
        disposition,
    )
    assert told["akoya"]["status"] == akoya_status
    assert told["akoya"]["error"] == error
    assert told["akoya"]["error_description"] == (description or None)
    assert told["hint"]
    if not is_kept:
        assert got.headers["Content-Type"] == "application/problem+json"
        assert got.headers["Sidecar-Error"] == reason
        assert ("WWW-Authenticate" in got.headers) == (status == 401)


async def test_a_revocation_that_akoya_does_not_know_is_done() -> None:
    """400 invalid_request at /revoke means that the token is gone: what was wanted is the case."""
    async with running_control() as control:
        got = await ask(control, "revoke", refusal(400, "invalid_request"))
        shown = await control.ask("GET", GRANT)

    assert got.status == 204
    assert shown.document["state"] == "revoked"


@pytest.mark.parametrize(
    ("step", "status", "reason", "waits"),
    [
        (refusal(429, "slow_down", retry_after_s=7.0), 503, "rate_limited", "7"),
        (json_answer(503, {}), 502, "server_error", None),
        (NotSent(), 503, "unreachable", "1"),
        (Broken(), 502, "answer_lost", None),
        (json_answer(200, {}), 502, "malformed_response", None),
        (refusal(418, "teapot", "canary-unknown-text"), 502, "unknown", None),
    ],
)
async def test_an_exchange_that_fails_otherwise_says_how(
    step: Step, status: int, reason: str, waits: str | None
) -> None:
    """Whatever comes of an exchange is one reason of the catalogue, and stores nothing."""
    async with running_control() as control:
        got = await ask(control, "obtain", step)
        shown = await control.ask("GET", GRANT)

    assert (got.status, got.document["reason"]) == (status, reason)
    assert got.headers.get("Retry-After") == waits
    assert "canary" not in got.text
    assert shown.status == 404


async def test_a_lost_exchange_sends_the_user_to_consent_again() -> None:
    """A code works once: after a lost answer the app must not try it again."""
    async with running_control() as control:
        lost = await ask(control, "obtain", Broken())
        untouched = await ask(control, "obtain", NotSent())

    assert "consent again" in lost.document["detail"]
    assert "not used up" in untouched.document["detail"]
    assert "akoya" not in lost.document


async def test_a_denial_that_a_peer_may_heal_ends_no_consent() -> None:
    """After an ambiguous try a denied grant is in doubt: 503 and a time, not yet 401."""
    async with running_control() as control, asyncio.TaskGroup() as group:
        await control.onboard()
        control.rig.idp.then(Broken(), refusal(400, "invalid_request", CLAIMED))
        asking = group.create_task(control.ask("POST", f"{GRANT}/refresh"))
        waiting = vars(control.rig.parts.serving_parts.hints)["_waiting"]
        await until(
            lambda: bool(control.rig.store.distress and waiting),
            within_s=30,
            what="the call to the fleet, and the caller to wait for its answer",
        )
        control.rig.clock.advance(20)
        got = await asking
        shown = await control.ask("GET", GRANT)

    assert (got.status, got.document["reason"]) == (503, "rotation_lost")
    assert int(got.headers["Retry-After"]) == 120, "what remains, bounded"
    assert shown.document["state"] == "in_doubt"
    assert shown.document["last_error"]["reason"] == "rotation_lost"


async def test_a_refresh_that_may_heal_says_when_to_ask_again() -> None:
    """A refused refresh keeps the grant, tells the pause, and the next call is told to wait."""
    async with running_control() as control:
        await control.onboard()
        control.rig.idp.then(refusal(429, "slow_down", retry_after_s=7.0))
        first = await control.ask("POST", f"{GRANT}/refresh")
        second = await control.ask("POST", f"{GRANT}/refresh")
        sent = len(control.rig.idp.sent)

    assert (first.status, first.document["reason"]) == (503, "rate_limited")
    assert first.headers["Retry-After"] == "7"
    assert (second.status, second.document["reason"]) == (503, "token_unavailable")
    assert second.document["obstacle"] == "backing_off"
    assert second.headers["Retry-After"] == "7"
    assert sent == 2


async def test_a_dead_grant_is_not_refreshed() -> None:
    """After a clean denial the end user must consent again, and Akoya is not asked any more."""
    async with running_control() as control:
        denied = await ask(control, "refresh", refusal(400, "invalid_request", CLAIMED))
        sent = len(control.rig.idp.sent)
        got = await control.ask("POST", f"{GRANT}/refresh")

        assert denied.document["state"] == "reauth_required"
        assert (got.status, got.document["reason"]) == (401, "reauth_required")
        assert len(control.rig.idp.sent) == sent


async def test_no_error_repeats_a_token_or_a_code() -> None:
    """Whatever an app sends in the wrong place does not come back, nor what Akoya says unasked."""
    leaky = Answered(
        status=400, body=b'{"error":"canary error \\u0000","error_description":"canary"}'
    )
    async with running_control() as control:
        answers = [
            await ask(control, "obtain", leaky),
            await control.ask("POST", "/grants", body={"canary" * 9: 1, "code": "canary canary"}),
            await control.ask("GET", "/grants?canary-canary-canary-canary-canary-canary=1"),
            await control.ask("POST", "/grants", body=b'{"canary'),
            await control.ask("GET", "/grants/canary%00/canary%20"),
            await control.ask("GET", "/grants", key="canary"),
            await control.ask("GET", f"/{CODE}"),
        ]

    assert all("canary" not in got.text for got in answers)
    assert all(got.status in (400, 401, 404, 502) for got in answers)


def test_every_reason_of_the_control_listener_is_on_the_page() -> None:
    """An app's author finds each reason and each call where the calls are described."""
    page = (Path(__file__).parents[2] / "docs" / "reference" / "http.md").read_text()
    missing = [
        name
        for name in (*ControlReason, *FAILURE_STATUSES, *Obstacle, *(s.public for s in GrantState))
        if f"`{name}`" not in page
    ]

    assert missing == []
    assert set(CONTROL_PROBLEMS) == set(ControlReason)
    assert set(FAILURE_STATUSES) == set(FailureReason)

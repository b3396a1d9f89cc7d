"""Each documented refusal of Akoya is told in a metric, a log line and an answer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from sidecar.domain.failure import HINTS, FailureReason
from sidecar.sandbox import Fault, Sandbox
from tests.promises.conftest import StartSidecar
from tests.support.fleet import REDIRECT_URI, App, FleetPlace, SidecarProcess
from tests.support.wait import eventually, until

WRONG_SECRET = "wrong-secret"
ELSEWHERE = "http://127.0.0.1:9999/elsewhere"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of Akoya's tables and what the sidecar makes of it.

    `cause` names the real cause at the sandbox; without one a fault answers in its place.
    """

    operation: str
    status: int
    error: str
    text: str | None
    reason: str
    disposition: str
    answered: int
    cause: str = "fault"

    def __str__(self) -> str:
        return f"{self.operation}-{self.reason}"


ROWS = (
    Row(
        operation="obtain",
        status=400,
        error="invalid_request",
        text="Invalid or expired code parameter.",
        reason="code_invalid",
        disposition="reauth",
        answered=400,
        cause="unknown code",
    ),
    Row(
        operation="obtain",
        status=400,
        error="invalid_request",
        text="redirect_uri did not match URI from initial request.",
        reason="redirect_uri_mismatch",
        disposition="operator",
        answered=400,
        cause="other redirect",
    ),
    Row(
        operation="obtain",
        status=400,
        error="invalid_grant",
        text="Missing or incorrect grant_type field. Must be authorization_code",
        reason="grant_type_invalid",
        disposition="operator",
        answered=502,
    ),
    Row(
        operation="obtain",
        status=401,
        error="invalid_client",
        text="Invalid client credentials.",
        reason="client_credentials_invalid",
        disposition="operator",
        answered=502,
        cause=WRONG_SECRET,
    ),
    Row(
        operation="refresh",
        status=400,
        error="invalid_request",
        text="No refresh token in request.",
        reason="refresh_token_missing",
        disposition="in_doubt",
        answered=503,
    ),
    Row(
        operation="refresh",
        status=400,
        error="invalid_request",
        text="Refresh token is invalid or has already been claimed by another client.",
        reason="refresh_token_claimed",
        disposition="in_doubt",
        answered=401,
        cause="withdrawn",
    ),
    Row(
        operation="refresh",
        status=400,
        error="invalid_grant",
        text="Missing or incorrect grant_type field. Must be refresh_token",
        reason="grant_type_invalid",
        disposition="operator",
        answered=502,
    ),
    Row(
        operation="refresh",
        status=401,
        error="invalid_client",
        text="Invalid client credentials.",
        reason="client_credentials_invalid",
        disposition="operator",
        answered=502,
        cause=WRONG_SECRET,
    ),
    Row(
        operation="revoke",
        status=400,
        error="invalid_request",
        text=None,
        reason="revoke_rejected",
        disposition="done",
        answered=204,
        cause="withdrawn",
    ),
    Row(
        operation="revoke",
        status=400,
        error="unsupported_token_type",
        text=None,
        reason="token_type_hint_unsupported",
        disposition="operator",
        answered=202,
    ),
    Row(
        operation="revoke",
        status=401,
        error="unauthorized_client",
        text=None,
        reason="client_credentials_invalid",
        disposition="operator",
        answered=202,
        cause=WRONG_SECRET,
    ),
)


def series(row: Row) -> str:
    provider = "other" if row.operation == "obtain" else "mikomo"
    first, last = f'disposition="{row.disposition}"', f'reason="{row.reason}"'
    middle = f'operation="{row.operation}",provider="{provider}"'
    return f"sidecar_token_errors_total{{{first},{middle},{last}}}"


def failures(sidecar: SidecarProcess) -> list[dict[str, Any]]:
    return [line for line in sidecar.log if line["event"] == "token.request_failed"]


async def act(app: App, sidecar: SidecarProcess, row: Row, user: str) -> tuple[int, dict[str, Any]]:
    """Do what meets the refusal; return the status and the document of the grants API."""
    match row.operation:
        case "obtain":
            code = "nonexistent" if row.cause == "unknown code" else app.consent(user)
            redirect = ELSEWHERE if row.cause == "other redirect" else REDIRECT_URI
            body = {"user": user, "provider": "mikomo", "code": code, "redirect_uri": redirect}
            call = app.control(sidecar, "POST", "/grants", json=body)
        case "refresh":
            call = app.control(sidecar, "POST", f"/grants/mikomo/{user}/refresh")
        case _:
            call = app.control(sidecar, "DELETE", f"/grants/mikomo/{user}")
    async with call as answer:
        told = "{}" if answer.status == 204 else await answer.text()
        document: dict[str, Any] = json.loads(told)
        return answer.status, document


def provoke(sandbox: Sandbox, row: Row, user: str) -> None:
    if row.cause == "withdrawn":
        sandbox.grants.revoke_consent(user=user, provider="mikomo")
    if row.cause == "fault":
        sandbox.faults.add(
            Fault(
                operation=row.operation,  # type: ignore[arg-type]  # one of its three
                kind="error",
                status=row.status,
                error=row.error,
                error_description=row.text,
            )
        )


@pytest.mark.parametrize("row", ROWS, ids=str)
async def test_a_documented_refusal_has_its_series_its_line_and_its_answer(
    row: Row, sandbox: Sandbox, place: FleetPlace, start: StartSidecar, app: App
) -> None:
    """The catalogue's reason and disposition are what operators, dashboards and apps all see."""
    user = f"u-{uuid4().hex}"
    if row.operation != "obtain":
        await app.onboard(await start("right"), user)
    if row.cause == WRONG_SECRET:
        place.environ = {"SIDECAR_AKOYA_CLIENT_SECRET": WRONG_SECRET}
    sidecar = await start("asked")
    provoke(sandbox, row, user)

    status, document = await act(app, sidecar, row, user)

    told = document.get("failure", {}) if row.operation == "revoke" else document
    hint = HINTS[FailureReason(row.reason)]
    assert status == row.answered
    assert await app.metric(sidecar, series(row)) == 1.0
    await until(lambda: bool(failures(sidecar)), within_s=20, what="the line")
    assert (
        failures(sidecar)[0].items()
        >= {
            "operation": row.operation,
            "reason": row.reason,
            "next": row.disposition,
            "hint": hint,
            "akoya_error": row.error,
            "akoya_status": row.status,
        }.items()
    )
    if status != 204:
        assert told["reason"] == row.reason
        assert (told["operation"], told["disposition"]) == (row.operation, row.disposition)
        assert told["hint"] == hint
        akoya = {"status": row.status, "error": row.error, "error_description": row.text}
        assert told["akoya"] == akoya


async def test_an_unfamiliar_text_is_unknown_and_changes_no_grant(
    sandbox: Sandbox, start: StartSidecar, app: App
) -> None:
    """A 400 invalid_request in words of no documentation is no verdict on the refresh token."""
    sidecar = await start("only")
    user = f"u-{uuid4().hex}"
    before = await app.onboard(sidecar, user)
    sandbox.faults.add(
        Fault(
            operation="refresh",
            kind="error",
            error="invalid_request",
            error_description="The moon is in the wrong house.",
        )
    )

    call = app.control(sidecar, "POST", f"/grants/mikomo/{user}/refresh")
    async with call as answer:
        problem = await answer.json(content_type=None)

    after = await eventually(  # the caller is told before the lease is given back
        lambda: app.show(sidecar, user),
        lambda grant: bool(grant["state"] != "refreshing"),
        within_s=30,
        what="the lease to be given back",
    )
    assert (answer.status, problem["reason"]) == (502, "unknown")
    assert problem["akoya"]["error_description"] is None, "an unknown text may hold anything"
    assert (after["state"], after["generation"]) == ("active", before["generation"])
    assert await app.fetch(sidecar, user) == (200, "")


async def test_wrong_credentials_open_the_breaker_and_blame_no_grant(
    sandbox: Sandbox, place: FleetPlace, start: StartSidecar, app: App
) -> None:
    """The second refusal stops the refreshes of the fleet; every grant stays active."""
    right = await start("right")
    users = [f"u-{uuid4().hex}" for _ in range(6)]
    for user in users:
        await app.onboard(right, user)
    place.environ = {"SIDECAR_AKOYA_CLIENT_SECRET": WRONG_SECRET}
    misled = await start("misled")
    statuses: list[str] = []
    for user in users:
        async with app.control(misled, "POST", f"/grants/mikomo/{user}/refresh") as answer:
            problem = await answer.json(content_type=None)
            statuses.append(problem.get("obstacle", problem["reason"]))

    refused = "client_credentials_invalid"
    assert statuses == [refused, refused, *["breaker_open"] * 4], "the canary comes later"
    assert await app.metric(misled, 'sidecar_breaker_open{name="credentials"}') == 1.0
    assert sum(entry.presentation == "refresh" for entry in sandbox.ledger) == 2
    for user in users:
        assert (await app.show(right, user))["state"] == "active"
        assert await app.fetch(right, user) == (200, "")

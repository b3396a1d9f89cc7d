from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from sidecar.domain.answer_reading import ErrorMembers
from sidecar.domain.failure import HINTS, OPERATION_REASONS, FailureReason, Operation
from sidecar.domain.token_refusals import reason_of
from sidecar.domain.tokens import ProblemReason
from sidecar.reference import PAGES
from sidecar.reference.errors import ANSWERS, NEXT_STEPS
from sidecar.settings.description import variables
from sidecar.settings.model import Settings
from sidecar.telemetry.catalogue import SPECS
from sidecar.telemetry.lines import LINES
from tests.support.sample_events import EVENT_TYPES

ROOT = Path(__file__).parent.parent.parent
FILES = {
    "configuration": ROOT / "docs/reference/configuration.md",
    "metrics": ROOT / "docs/reference/metrics.md",
    "log-events": ROOT / "docs/reference/log-events.md",
    "errors": ROOT / "docs/reference/errors.md",
    "env-example": ROOT / "config/sidecar.env.example",
    "openapi": ROOT / "docs/reference/openapi.json",
    "dashboard": ROOT / "config/grafana/dashboards/akoya-sidecar.json",
}


@pytest.mark.parametrize("page", PAGES)
def test_the_reference_in_the_repository_is_what_the_code_makes(page: str) -> None:
    """`make docs` was run: nobody reads a reference of yesterday's code."""
    assert FILES[page].read_text() == PAGES[page]()


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_the_same_each_time(page: str) -> None:
    """A page depends on the code alone, so that its comparison means something."""
    assert PAGES[page]() == PAGES[page]()


def test_every_variable_is_on_the_page_and_in_the_example_file() -> None:
    """No setting is a secret of the code."""
    page, example = PAGES["configuration"](), PAGES["env-example"]()

    assert len(list(variables())) == len(fields(Settings))
    for variable in variables():
        assert f"| `{variable.name}` |" in page
        assert f"\n#{variable.name}=" in example or f"\n{variable.name}=" in example
        assert variable.meaning.endswith("."), variable.name
        assert (f"{variable.name}_FILE=" in example) == variable.is_from_file


def test_every_metric_event_and_error_is_on_its_page() -> None:
    """What an operator meets in a dashboard, a log or an answer can be looked up."""
    metrics, lines, errors = PAGES["metrics"](), PAGES["log-events"](), PAGES["errors"]()

    assert all(f"| `{spec.name}` |" in metrics for spec in SPECS)
    assert all(f"| `{event.event}` |" in lines for event in LINES)
    for operation, reasons in OPERATION_REASONS.items():
        for reason in reasons:
            (row,) = [
                line
                for line in errors.splitlines()
                if line.startswith(f"| `{operation}` |") and f"| `{reason}` |" in line
            ]
            assert HINTS[reason] in row
    assert all(f"| `{reason}` |" in errors for reason in ProblemReason)
    assert set(ANSWERS) == set(FailureReason)
    assert all(f"| `{disposition}` | {text}" in errors for disposition, text in NEXT_STEPS.items())


def test_an_event_is_a_line_or_says_that_it_is_a_metric_only() -> None:
    """A new event is either logged or says in its docstring why no line of it is to be found."""
    unlogged = [event for event in EVENT_TYPES if event not in LINES]

    assert set(LINES) <= set(EVENT_TYPES)
    assert all("(metric only)" in (event.__doc__ or "") for event in unlogged), unlogged
    assert len({event.event for event in EVENT_TYPES}) == len(EVENT_TYPES)


@pytest.mark.parametrize(
    ("operation", "status", "error", "description", "reason"),
    [
        (Operation.OBTAIN, 400, "invalid_request", "bad code", FailureReason.CODE_INVALID),
        (Operation.OBTAIN, 400, "invalid_grant", "expired", FailureReason.CODE_INVALID),
        (
            Operation.OBTAIN,
            400,
            "invalid_grant",
            "redirect_uri differs",
            FailureReason.REDIRECT_URI_MISMATCH,
        ),
        (Operation.OBTAIN, 400, "invalid_grant", "", FailureReason.GRANT_TYPE_INVALID),
        (
            Operation.REFRESH,
            400,
            "unsupported_grant_type",
            "",
            FailureReason.GRANT_TYPE_INVALID,
        ),
        (Operation.REFRESH, 401, "invalid_client", "", FailureReason.CLIENT_CREDENTIALS_INVALID),
        (
            Operation.REVOKE,
            401,
            "unauthorized_client",
            "",
            FailureReason.CLIENT_CREDENTIALS_INVALID,
        ),
        (Operation.REFRESH, 401, "token_inactive", "", FailureReason.REFRESH_TOKEN_EXPIRED),
        (Operation.REFRESH, 400, "invalid_grant", "inactive", FailureReason.REFRESH_TOKEN_EXPIRED),
        (Operation.REFRESH, 400, "invalid_request", "try again", FailureReason.SERVER_ERROR),
        (Operation.REVOKE, 400, "invalid_request", "", FailureReason.REVOKE_REJECTED),
        (
            Operation.REVOKE,
            400,
            "unsupported_token_type",
            "",
            FailureReason.TOKEN_TYPE_HINT_UNSUPPORTED,
        ),
        (Operation.OBTAIN, 429, "", "", FailureReason.RATE_LIMITED),
        (Operation.REFRESH, 408, "", "", FailureReason.SERVER_ERROR),
        (Operation.REFRESH, 418, "", "", FailureReason.UNKNOWN),
    ],
)
def test_the_answers_told_on_the_page_have_the_reasons_told_there(
    *, operation: Operation, status: int, error: str, description: str, reason: FailureReason
) -> None:
    """The words of the page and the table that decides do not drift apart."""
    told = ErrorMembers(error=error, description=description)

    assert reason_of(operation, status, told) is reason
    assert reason in OPERATION_REASONS[operation]

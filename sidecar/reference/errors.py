"""The page of errors: the catalogue of token errors, the sidecar's own answers, and its pages.

Akoya's answers are told here in words; which answer has which reason is decided in
`sidecar.domain.token_refusals`, what follows from it in `sidecar.domain.failure`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sidecar.domain.connecting import OF_AUTHORIZE_ERRORS
from sidecar.domain.failure import (
    DISPOSITIONS,
    HINTS,
    OPERATION_REASONS,
    Disposition,
    FailureReason,
    Operation,
)
from sidecar.domain.return_targets import OUTCOME_PARAMETER
from sidecar.domain.tokens import ProblemReason
from sidecar.domain.upstream_failures import CAUSES
from sidecar.http.connect_pages import WORDS
from sidecar.http.problems import to_proxy_problem
from sidecar.reference.tables import code, heading, table

ANSWERS: Final[Mapping[FailureReason, str]] = {
    FailureReason.CODE_INVALID: "400 `invalid_request` that names the code; "
    "400 `invalid_grant` otherwise",
    FailureReason.REDIRECT_URI_MISMATCH: "400 `invalid_request` or `invalid_grant` that names "
    "redirect_uri",
    FailureReason.GRANT_TYPE_INVALID: "400 `invalid_grant` that names grant_type; "
    "400 `unsupported_grant_type`",
    FailureReason.CLIENT_CREDENTIALS_INVALID: "401 (or another 4xx) `invalid_client` or "
    "`unauthorized_client`",
    FailureReason.ENDPOINT_REFUSED: "403, 404, 405 or 415 otherwise",
    FailureReason.REFRESH_TOKEN_MISSING: "400 `invalid_request`: no refresh token in request",
    FailureReason.REFRESH_TOKEN_CLAIMED: "400 `invalid_request`: invalid or claimed by another "
    "client",
    FailureReason.REFRESH_TOKEN_EXPIRED: "400 `invalid_grant` otherwise; 400 `invalid_request`: "
    "refresh token expired; 400 or 401 `token_inactive`",
    FailureReason.ROTATION_LOST: "as `refresh_token_claimed`, after an answer of ours was lost",
    FailureReason.REVOKE_REJECTED: "400 `invalid_request`",
    FailureReason.TOKEN_TYPE_HINT_UNSUPPORTED: "400 `unsupported_token_type`",
    FailureReason.RATE_LIMITED: "429",
    FailureReason.SERVER_ERROR: "408 or 5xx",
    FailureReason.UNREACHABLE: "none: no connection, nothing was sent",
    FailureReason.ANSWER_LOST: "none, or not the whole of it: the request was sent",
    FailureReason.MALFORMED_RESPONSE: "200 without a usable pair of tokens, or no JSON",
    FailureReason.UNKNOWN: "anything else",
}
MORE_ANSWERS: Final[Mapping[tuple[Operation, FailureReason], str]] = {
    (Operation.OBTAIN, FailureReason.GRANT_TYPE_INVALID): "400 `invalid_grant` without a "
    "description",
    (Operation.REFRESH, FailureReason.SERVER_ERROR): "400 `invalid_request` that asks to try again",
}
"""What else has the reason for one operation."""

NEXT_STEPS: Final[Mapping[Disposition, str]] = {
    Disposition.RETRY_NOW: "The owner of the claim repeats it, at most three times, then waits.",
    Disposition.RETRY_LATER: "Nothing was lost; it is asked again after a pause.",
    Disposition.IN_DOUBT: "The store, the own spool and the fleet are asked for a newer pair.",
    Disposition.REAUTH: "The end user must consent again.",
    Disposition.OPERATOR: "A person who runs the sidecar must act; no grant is blamed.",
    Disposition.DONE: "What was wanted is the case already.",
}


def errors_page() -> str:
    """Return `docs/reference/errors.md`."""
    parts = [
        heading(
            "Errors",
            "errors",
            "Three catalogues: what a request to Akoya's token service can come to, what the "
            "sidecar itself answers to a proxied request, and what a person reads who connects a "
            "bank in the browser.",
        ),
        "## Token errors\n",
        (
            "An answer is judged on its status, its `error` and its description together.\n"
            "Each row is a series of `sidecar_token_errors_total` and a log line "
            "`token.request_failed`.\n"
        ),
        table(("operation", "Akoya's answer", "reason", "disposition", "hint"), _token_rows()),
        "### Dispositions\n",
        table(("disposition", "what happens next"), _disposition_rows()),
        "## Answers of the proxy\n",
        (
            "As `application/problem+json` (RFC 9457) with the header `Sidecar-Error: <reason>`.\n"
            "Nothing else carries that header: an answer without it is the upstream's own.\n"
            "`Retry-After` is there where waiting helps: on a 503 the time that the obstacle is "
            "known to last, at most 120 s, plus up to a fifth of it by chance, in whole seconds, "
            "and 1 where nothing is known.\n"
        ),
        table(("status", "reason", "Retry-After", "detail"), _problem_rows()),
        "### Why the upstream gave no answer\n",
        (
            "The `cause` of `upstream_unreachable`, `upstream_timeout`, and one kind of "
            "`overloaded`, in the line `request.completed` and in "
            "`sidecar_upstream_failures_total`.\n"
            "If an answer ends too early, `outcome` is `upstream_broke`, and `cause` says why.\n"
        ),
        table(("cause", "meaning"), [(code(cause), text) for cause, text in CAUSES.items()]),
        *_connect_parts(),
    ]
    return "\n".join(parts)


def _connect_parts() -> list[str]:
    return [
        "## Pages of the connect listener\n",
        (
            "What a person is told who [connects a bank in the browser]"
            "(../how-to/connect-users-in-the-browser.md).\n"
            "The outcome is a value of `sidecar_connects_total` and of the log line "
            "`connect.completed`.\n"
            "Where the app is told, the person takes it along as the parameter "
            f"`{OUTCOME_PARAMETER}`.\n"
        ),
        table(("outcome", "status", "app is told", "title", "text"), _page_rows()),
        "### What Akoya's authorize page can say\n",
        "Another `error`, or neither an error nor a code, is `unknown`.\n",
        table(("error", "outcome"), _authorize_rows()),
    ]


def _page_rows() -> list[tuple[str, ...]]:
    return [
        (
            code(outcome),
            str(words.status),
            "yes" if outcome.is_told else "",
            words.title,
            words.text,
        )
        for outcome, words in WORDS.items()
    ]


def _authorize_rows() -> list[tuple[str, str]]:
    return [(code(error), code(outcome)) for error, outcome in OF_AUTHORIZE_ERRORS.items()]


def _token_rows() -> list[tuple[str, ...]]:
    return [
        (
            code(operation),
            _answers(operation, reason),
            code(reason),
            code(DISPOSITIONS[reason]),
            HINTS[reason],
        )
        for operation in Operation
        for reason in OPERATION_REASONS[operation]
    ]


def _answers(operation: Operation, reason: FailureReason) -> str:
    more = MORE_ANSWERS.get((operation, reason))
    return ANSWERS[reason] + (f"; {more}" if more else "")


def _disposition_rows() -> list[tuple[str, str]]:
    return [(code(disposition), NEXT_STEPS[disposition]) for disposition in Disposition]


def _problem_rows() -> list[tuple[str, ...]]:
    problems = [to_proxy_problem(reason) for reason in ProblemReason]
    problems.sort(key=lambda problem: problem.status)
    return [
        (
            str(problem.status),
            code(problem.reason),
            "yes" if problem.retry_after_s is not None else "",
            problem.detail,
        )
        for problem in problems
    ]

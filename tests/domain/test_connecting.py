from __future__ import annotations

import pytest

from sidecar.domain.connecting import (
    OF_AUTHORIZE_ERRORS,
    AuthorizeError,
    is_account,
    outcome_of_failure,
    read_authorize_answer,
)
from sidecar.domain.events import ConnectOutcome
from sidecar.domain.failure import (
    DISPOSITIONS,
    OPERATION_REASONS,
    Disposition,
    FailureReason,
    Operation,
)
from sidecar.domain.secret import Secret
from sidecar.domain.tokens import TokenFailure


def failure(reason: FailureReason) -> TokenFailure:
    return TokenFailure(operation=Operation.OBTAIN, reason=reason, disposition=DISPOSITIONS[reason])


def test_every_error_of_the_authorize_page_has_an_outcome_that_the_app_hears_of() -> None:
    """No answer of Akoya leaves a person on a page without a way back."""
    assert set(OF_AUTHORIZE_ERRORS) == set(AuthorizeError)
    assert all(outcome.is_told for outcome in OF_AUTHORIZE_ERRORS.values())


@pytest.mark.parametrize(
    ("code", "error", "read"),
    [
        ("a-code", None, Secret("a-code")),
        (None, "access_denied", AuthorizeError.ACCESS_DENIED),
        (None, "temporarily_unavailable", AuthorizeError.TEMPORARILY_UNAVAILABLE),
        ("a-code", "access_denied", AuthorizeError.ACCESS_DENIED),
        (None, "a_new_word", AuthorizeError.UNKNOWN),
        (None, "", AuthorizeError.UNKNOWN),
        (None, None, AuthorizeError.UNKNOWN),
        ("", None, AuthorizeError.UNKNOWN),
        ("a code", None, AuthorizeError.UNKNOWN),
        ("x" * 4097, None, AuthorizeError.UNKNOWN),
    ],
)
def test_an_answer_is_a_code_or_a_known_error_or_unknown(
    code: str | None, error: str | None, read: Secret | AuthorizeError
) -> None:
    """What is neither is unknown, and an error beside a code is believed."""
    assert read_authorize_answer(code, error) == read


@pytest.mark.parametrize("reason", OPERATION_REASONS[Operation.OBTAIN])
def test_a_failed_exchange_says_whether_to_begin_again_to_wait_or_to_ask_the_operator(
    reason: FailureReason,
) -> None:
    """A person is told to begin again only where that can help, and never that it worked."""
    outcome = outcome_of_failure(failure(reason))

    if reason is FailureReason.CODE_INVALID:
        assert outcome is ConnectOutcome.EXPIRED
    elif DISPOSITIONS[reason] is Disposition.OPERATOR:
        assert outcome is ConnectOutcome.FAILED
    else:
        assert outcome is ConnectOutcome.UNAVAILABLE


@pytest.mark.parametrize("text", ["Anna at Example Budget", "Ännchen's <b>", "x" * 100])
def test_an_account_has_any_name_that_can_be_printed(text: str) -> None:
    """Names of people are not ASCII; what HTML means by a character is the page's business."""
    assert is_account(text)


@pytest.mark.parametrize("text", ["", " ", "x" * 101, "two\nlines", "turned\u202earound"])
def test_an_account_that_would_not_look_like_what_it_is_has_no_name(text: str) -> None:
    """Line ends and marks that turn the writing around could make a page say something else."""
    assert not is_account(text)

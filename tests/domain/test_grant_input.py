"""Which values an application may hand in about a grant, and what they mean."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sidecar.domain import grant_input
from sidecar.domain.secret import Secret
from tests.support.scripted_idp import id_token

NOW_S = 1_700_000_000.0


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("2023-11-14T22:13:20Z", 1_700_000_000_000),
        ("2023-11-14t22:13:20.125z", 1_700_000_000_125),
        ("2023-11-14T23:13:20+01:00", 1_700_000_000_000),
        ("2023-11-14T22:18:20Z", 1_700_000_300_000),
        ("2023-11-14T22:18:21Z", None),
        ("2023-11-14T22:13:20", None),
        ("2023-11-14", None),
        ("2023-11-14 22:13:20Z", None),
        ("2023-02-30T00:00:00Z", None),
        ("1970-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00+23:59", None),
        ("٢٠٢٣-11-14T22:13:20Z", None),
        ("1700000000", None),
        ("", None),
    ],
)
def test_an_instant_of_consent_is_rfc_3339_and_not_of_the_future(
    text: str, at_ms: int | None
) -> None:
    """A consent from the future could not be replaced for as long; five minutes are for clocks."""
    assert grant_input.parse_consent_instant_ms(text, now_s=NOW_S) == at_ms


@pytest.mark.parametrize(
    ("accepts", "good", "bad"),
    [
        (grant_input.is_code, ["a", "~" * 4096], ["", "a b", "a\n", "é", "a" * 4097]),
        (grant_input.is_id_token, ["a.b.c", "a" * 16384], ["", "a b", "a\r\n", "é", "a" * 16385]),
        (
            grant_input.is_refresh_token,
            ["a", "é", "a" * 8192],
            ["", "a b", "a\n", "\x7f", "\ud800", "a" * 8193, "é" * 4097],
        ),
        (
            grant_input.is_redirect_uri,
            ["https://app.example/cb?x=1", "com.example.app:/cb"],
            ["", "/cb", "app.example/cb", "https://app.example/#x", "https://a b/", "https:"],
        ),
        (
            grant_input.is_consent_state,
            ["12345678", "a" * 512],
            ["1234567", "1234 5678", "a" * 513],
        ),
        (grant_input.is_span, [0, 1, 900.5], [-1, True, "900", None, float("nan"), 10**12]),
    ],
    ids=["code", "id_token", "refresh_token", "redirect_uri", "state", "expires_in"],
)
def test_a_value_is_accepted_up_to_its_bounds(
    accepts: Callable[[object], bool], good: list[object], bad: list[object]
) -> None:
    """Each rule takes what is right to the last byte, and nothing beyond."""
    assert [value for value in good if not accepts(value)] == []
    assert [value for value in bad if accepts(value)] == []


@pytest.mark.parametrize(
    ("bearer", "expires_in", "life_s"),
    [
        (id_token(issued_at_s=1_700_000_000 - 600, life_s=900), 86_400, 300),
        (id_token(issued_at_s=1_700_000_000 - 900, life_s=600), 86_400, 0),
        (id_token(issued_at_s=1_700_000_000, life_s=10**6), None, 3600),
        (id_token(issued_at_s=1_700_000_000 + 600, life_s=900), 86_400, 900),
        ("opaque", 120, 120),
        ("opaque", 0, 0),
        ("opaque", 10**6, 3600),
        ("opaque", None, 900),
    ],
)
def test_the_life_of_imported_tokens_is_what_is_left_of_it(
    bearer: str, expires_in: float | None, life_s: int
) -> None:
    """The token's own end wins over what the application says, and neither outlives the bound."""
    pair = grant_input.read_tokens_from_elsewhere(
        Secret(bearer), Secret("refresh"), expires_in=expires_in, now_s=NOW_S, max_age_s=3600
    )

    assert pair.life_s == life_s

"""How long an id_token is trusted, and whose it says it is."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.domain.token_claims import (
    IdTokenClaims,
    IssuerMoment,
    age_when_asked_s,
    read_claims,
    read_seconds,
    trusted_life_s,
)

NOW_S = 1_790_000_000


def token(payload: bytes) -> str:
    return f"e30.{base64.urlsafe_b64encode(payload).rstrip(b'=').decode()}.c2ln"


def claims_of(**payload: object) -> IdTokenClaims:
    return read_claims(token(json.dumps(payload).encode()))


def test_the_life_of_a_token_is_between_its_own_two_instants() -> None:
    """Both are of the IdP's clock, so no clock of ours is asked."""
    claims = claims_of(iat=NOW_S, exp=NOW_S + 86_400)

    assert claims.life_s == 86_400
    assert trusted_life_s(claims, expires_in=60, max_age_s=86_400) == 86_400


@pytest.mark.parametrize(
    ("issued_ago_s", "took_s", "life_s", "age_s"),
    [
        (0, 0.1, 900, 0),
        (1, 0.1, 900, 0),  # both instants are rounded
        (30, 29.5, 900, 0),  # a slow answer, not an old token
        (45, 60.0, 900, 0),  # read late, in a process that had stopped
        (600, 0.1, 300, 600),
        (600, 60.0, 300, 600),
        (899, 0.1, 1, 899),
        (900, 0.1, 900, 0),  # ended when it was handed out: the date is of another clock
        (7200, 0.1, 900, 0),
        (-7200, 0.1, 900, 0),
    ],
)
def test_a_token_older_than_its_exchange_has_only_the_rest_of_its_life(
    issued_ago_s: int, took_s: float, life_s: int, age_s: int
) -> None:
    """The IdP's own date tells an old token from a clock that differs from ours."""
    claims = claims_of(iat=NOW_S - issued_ago_s, exp=NOW_S - issued_ago_s + 900)
    moment = IssuerMoment(date_s=NOW_S, took_s=took_s)

    assert age_when_asked_s(claims, moment) == age_s
    assert (
        trusted_life_s(claims, expires_in=86_400, max_age_s=86_400, moment=moment),
        trusted_life_s(claims, expires_in=86_400, max_age_s=200, moment=moment),
    ) == (life_s, min(life_s, 200))


def test_a_token_that_tells_only_its_end_ends_then() -> None:
    """Without an `iat` the date of the answer stands in for it; without both, `expires_in`."""
    claims = claims_of(exp=NOW_S + 40)

    def life_s(moment: IssuerMoment | None) -> int:
        return trusted_life_s(claims, expires_in=300, max_age_s=86_400, moment=moment)

    assert life_s(IssuerMoment(date_s=NOW_S, took_s=0.1)) == 40
    assert life_s(IssuerMoment(date_s=NOW_S + 40, took_s=0.1)) == 300
    assert life_s(None) == 300
    assert age_when_asked_s(claims, IssuerMoment(date_s=NOW_S, took_s=0.1)) == 0


def test_instants_with_fractions_are_instants() -> None:
    """RFC 7519 allows them."""
    assert claims_of(iat=NOW_S + 0.75, exp=NOW_S + 900.25).life_s == 900


@pytest.mark.parametrize(
    ("iat", "exp"),
    [
        (NOW_S, NOW_S),
        (NOW_S, NOW_S - 1),
        (None, NOW_S),
        (NOW_S, None),
        (True, NOW_S),
        (str(NOW_S), NOW_S + 900),
        (-NOW_S, NOW_S),
        (0, 900),
        (NOW_S * 1000, NOW_S * 1000 + 900_000),
        (NOW_S, float("inf")),
        (float("nan"), NOW_S),
        (NOW_S, 10**400),
    ],
)
def test_instants_that_make_no_sense_give_no_life(iat: object, exp: object) -> None:
    """The answer's own word, or fifteen minutes, then stand in for them."""
    claims = claims_of(iat=iat, exp=exp)

    assert claims.life_s == 0
    assert trusted_life_s(claims, expires_in=300, max_age_s=86_400) == 300
    assert trusted_life_s(claims, expires_in=None, max_age_s=86_400) == 900


def test_instants_in_milliseconds_are_no_consent_epoch() -> None:
    """A consent dated in the far future could never be replaced."""
    assert claims_of(iat=NOW_S * 1000).issued_at_s == 0


def test_nobody_outlives_the_upper_bound() -> None:
    """The bound caps each of the three sources."""
    long_lived = claims_of(iat=NOW_S, exp=NOW_S + 10**8)

    assert trusted_life_s(long_lived, expires_in=None, max_age_s=600) == 600
    assert trusted_life_s(IdTokenClaims(), expires_in=10**6, max_age_s=600) == 600
    assert trusted_life_s(IdTokenClaims(), expires_in=None, max_age_s=600) == 600


@pytest.mark.parametrize(
    ("told", "believed"),
    [
        (3600, 3600),
        ("3600", 3600),
        (3600.9, 3600),
        (0, 0),
        (-1, 0),
        ("-1", 0),
        ("", 0),
        (" 60", 0),
        ("٣٦٠٠", 0),
        ("1e3", 0),
        ("9" * 20, 0),
        (True, 0),
        (None, 0),
        ([3600], 0),
        ({}, 0),
        (float("nan"), 0),
        (float("inf"), 0),
        (10**12, 0),
    ],
    ids=repr,
)
def test_a_told_span_is_believed_only_if_it_is_one(told: object, believed: int) -> None:
    """A number or digits between a second and ten years; nothing else."""
    assert read_seconds(told) == believed


@pytest.mark.parametrize(
    "text",
    [
        "opaque",
        "",
        "a.b",
        "a.b.c.d",
        "..",
        "e30.!!!.c2ln",
        "e30.é.c2ln",
        token(b"\xff\xff"),
        token(b"[1]"),
        token(b"{"),
    ],
)
def test_a_token_that_is_no_jwt_says_nothing(text: str) -> None:
    """It is still a bearer; only its life is guessed."""
    assert read_claims(text) == IdTokenClaims()


def test_a_token_with_a_bottomless_payload_says_nothing() -> None:
    """Depth is no way to make the reader fall."""
    assert read_claims(token(b"[" * 100_000)) == IdTokenClaims()


@pytest.mark.parametrize("subject", [7, None, "x" * 256, "a\nb", ["s"]])
def test_an_owner_that_is_no_short_text_is_left_out(subject: object) -> None:
    """What goes into records and answers is bounded and printable."""
    assert claims_of(sub=subject, grant_id=subject) == IdTokenClaims()


@given(text=st.text() | st.binary().map(token))
def test_no_token_makes_the_reader_raise(text: str) -> None:
    """Claims come from outside and are never trusted to be well formed."""
    assert read_claims(text).life_s >= 0

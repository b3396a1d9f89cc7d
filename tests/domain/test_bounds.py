"""How far a number is believed that somebody else wrote: both ends of each bound."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime

import pytest

from sidecar.domain.bounds import (
    LONGEST_WAIT_MS,
    LONGEST_WAIT_S,
    bounded_until_ms,
    bounded_wait_s,
    is_running,
)
from sidecar.domain.failure import FailureReason, Operation
from sidecar.domain.policy import ProtocolTimes, RefreshPolicy, believed_expiry_ms
from sidecar.domain.retrying import parse_retry_after
from sidecar.domain.token_wire import PairRead, read_reply
from sidecar.domain.tokens import TokenFailure
from sidecar.domain.wire import Answered
from tests.support.scripted_idp import id_token

YEAR_S = 31_536_000
NOW_MS = 1_700_000_000_000
DEFAULT_LIFE_S = 900
MAX_AGE_S = 86_400


def test_the_longest_wait_is_the_longest_of_the_protocol() -> None:
    """No time constant that a record can hold is longer, so none is ever cut."""
    times = ProtocolTimes()

    longest_s = max(
        times.lease_s,
        times.hold_s,
        times.quarantine_s,
        times.heal_s,
        times.backoff_limit_s,
        times.unknown_backoff_limit_s,
    )

    assert longest_s == LONGEST_WAIT_S == LONGEST_WAIT_MS / 1000


@pytest.mark.parametrize(
    ("told_s", "wait_s"),
    [
        (None, None),
        (math.nan, None),
        (-math.inf, 0.0),
        (-1.0, 0.0),
        (0.0, 0.0),
        (599.5, 599.5),
        (600.0, 600.0),
        (600.5, 600.0),
        (YEAR_S, 600.0),
        (math.inf, 600.0),
    ],
)
def test_a_wait_that_a_peer_asks_for_has_two_ends(
    told_s: float | None, wait_s: float | None
) -> None:
    """Never negative, never longer than the longest wait in the protocol."""
    assert bounded_wait_s(told_s) == wait_s


def test_an_instant_far_ahead_is_cut_and_one_within_reach_is_kept() -> None:
    """What is over stays over; what is far ahead ends with the longest wait."""
    last_ms = NOW_MS + LONGEST_WAIT_MS

    for until_ms in (0, NOW_MS - 1, NOW_MS, last_ms):
        assert bounded_until_ms(until_ms, now_ms=NOW_MS) == until_ms
    assert bounded_until_ms(last_ms + 1, now_ms=NOW_MS) == last_ms


@pytest.mark.parametrize(
    ("ahead_ms", "runs"), [(-1, False), (0, False), (1, True), (30, True), (31, False)]
)
def test_a_span_runs_from_its_end_back_to_its_length(ahead_ms: int, runs: bool) -> None:  # noqa: FBT001
    """One that ends later than it can have begun was not begun on this clock."""
    assert is_running(NOW_MS + ahead_ms, now_ms=NOW_MS, longest_ms=30) is runs


@pytest.mark.parametrize("operation", list(Operation))
@pytest.mark.parametrize("status", [429, 503, 401, 400, 408, 500])
def test_no_refusal_keeps_a_grant_waiting_for_a_year(operation: Operation, status: int) -> None:
    """Whatever is refused, and however: the wait that goes on from here is bounded."""
    reply = Answered(status=status, body=b"{}", retry_after_s=float(YEAR_S))

    reading = read_reply(operation, reply)

    assert isinstance(reading, TokenFailure)
    assert reading.retry_after_s == LONGEST_WAIT_S


@pytest.mark.parametrize(
    ("told", "life_s"),
    [
        ("1", 1),
        ("86400", MAX_AGE_S),
        ("86401", MAX_AGE_S),
        ("316224000", MAX_AGE_S),  # ten years
        ("316224001", DEFAULT_LIFE_S),
        ("0", DEFAULT_LIFE_S),
        ("0.5", DEFAULT_LIFE_S),
        ("-1", DEFAULT_LIFE_S),
        ("-1e300", DEFAULT_LIFE_S),
        ("1e300", DEFAULT_LIFE_S),
        ("1e999", DEFAULT_LIFE_S),
        ("NaN", DEFAULT_LIFE_S),
        ("Infinity", DEFAULT_LIFE_S),
        ("599.9", 599),
        ('"600"', 600),
        ('"-600"', DEFAULT_LIFE_S),
        ('"6e2"', DEFAULT_LIFE_S),
        ('"99999999999999999999"', DEFAULT_LIFE_S),
        ("true", DEFAULT_LIFE_S),
        ("[600]", DEFAULT_LIFE_S),
        ("null", DEFAULT_LIFE_S),
        ("9" * 400, DEFAULT_LIFE_S),
    ],
    ids=lambda told: str(told)[:24],
)
def test_an_odd_life_costs_no_pair(told: str, life_s: int) -> None:
    """Whatever `expires_in` says, the pair is kept and its bearer trusted for a sane while."""
    body = f'{{"refresh_token": "r", "id_token": "opaque", "expires_in": {told}}}'.encode()

    reading = read_reply(Operation.REFRESH, Answered(status=200, body=body))

    assert isinstance(reading, PairRead)
    assert reading.pair.refresh_token.reveal() == "r"
    assert reading.pair.id_token is not None
    assert reading.pair.life_s == life_s


def test_a_life_with_more_digits_than_python_reads_costs_no_refresh_token() -> None:
    """A number that no parser takes leaves the tokens beside it."""
    body = b'{"refresh_token": "r", "id_token": "opaque", "expires_in": ' + b"9" * 5000 + b"}"

    reading = read_reply(Operation.REFRESH, Answered(status=200, body=body))

    assert isinstance(reading, PairRead)
    assert reading.pair.refresh_token.reveal() == "r"


@pytest.mark.parametrize(
    ("issued_at", "expires_at", "life_s"),
    [
        (1_700_000_000, 1_700_000_600, 600),
        (1_700_000_000, 9_999_999_999, MAX_AGE_S),
        (1_700_000_000, 10_000_000_000, DEFAULT_LIFE_S),
        (1_700_000_000, 1_700_000_000, DEFAULT_LIFE_S),
        (1_700_000_000, 1_699_999_999, DEFAULT_LIFE_S),
        (999_999_999, 1_700_000_600, DEFAULT_LIFE_S),
        (-1, 1_700_000_600, DEFAULT_LIFE_S),
        (1e300, 1e301, DEFAULT_LIFE_S),
        (math.nan, math.inf, DEFAULT_LIFE_S),
        ("1700000000", "1700000600", DEFAULT_LIFE_S),
    ],
    ids=repr,
)
def test_odd_instants_in_an_id_token_cost_no_pair(
    issued_at: object, expires_at: object, life_s: int
) -> None:
    """`iat` and `exp` are believed within this era, and their difference within the bound."""
    bearer = id_token(claims={"iat": issued_at, "exp": expires_at})
    body = json.dumps({"refresh_token": "r", "id_token": bearer}).encode()

    reading = read_reply(Operation.REFRESH, Answered(status=200, body=body))

    assert isinstance(reading, PairRead)
    assert reading.pair.life_s == life_s


def test_a_stored_expiry_is_believed_for_the_longest_life_after_its_commit() -> None:
    """A record of another version does not make a bearer eternal."""
    policy = RefreshPolicy(max_age_s=100)

    def believed(expires_at_ms: int) -> int:
        return believed_expiry_ms(
            expires_at_ms=expires_at_ms, committed_at_ms=NOW_MS, policy=policy
        )

    assert believed(0) == 0
    assert believed(NOW_MS + 100_000) == NOW_MS + 100_000
    assert believed(NOW_MS + 100_001) == NOW_MS + 100_000


@pytest.mark.parametrize(
    ("value", "wait_s"),
    [
        (b"600", 600.0),
        (b"601", 600.0),
        (b"9" * 5000, 600.0),
        (b"Fri, 01 Jan 2099 00:00:00 GMT", 600.0),
        (b"Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        (b"Fri, 31 Dec 9999 23:59:59 -2359", 600.0),
        (b"Mon, 01 Jan 0001 00:00:00 +2359", 0.0),
        (b"-1", None),
        (b"\xff\xfe", None),
    ],
    ids=lambda value: str(value)[:34],
)
def test_what_a_data_api_asks_for_is_bounded_too(value: bytes, wait_s: float | None) -> None:
    """It decides about a retry only; the client reads what the data API sent."""
    assert parse_retry_after(value, now_s=1_700_000_000.0) == wait_s


def test_a_date_without_a_zone_is_utc_and_not_that_of_this_machine() -> None:
    """The zone "-0000" is of no machine: each reads the same."""
    at_s = datetime(2026, 11, 23, 20, 0, 30, tzinfo=UTC).timestamp()

    assert parse_retry_after(b"Mon, 23 Nov 2026 20:00:30 -0000", now_s=at_s - 30) == 30.0


def test_a_refusal_that_asks_for_no_wait_has_none() -> None:
    """The protocol's own backoff applies then."""
    reading = read_reply(Operation.REFRESH, Answered(status=429, body=b"{}"))

    assert isinstance(reading, TokenFailure)
    assert (reading.reason, reading.retry_after_s) == (FailureReason.RATE_LIMITED, None)

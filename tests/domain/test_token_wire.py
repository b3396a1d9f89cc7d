"""What a success means: pairs, kept tokens, torn and foreign answers, whatever the bytes."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sidecar.domain.failure import Disposition, FailureReason, Operation
from sidecar.domain.secret import Secret
from sidecar.domain.token_wire import (
    ClaimFate,
    PairKept,
    PairRead,
    Reading,
    RevokeDone,
    fate_of,
    read_reply,
)
from sidecar.domain.tokens import TokenFailure
from sidecar.domain.wire import Answered, Broken, NotSent, TokenReply

ISSUED_AT_S = 1_790_000_000


def jwt(payload: object) -> str:
    def segment(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{segment({'alg': 'RS256'})}.{segment(payload)}.c2lnbmF0dXJl"


ID_TOKEN = jwt(
    {
        "iss": "https://sandbox-idp.ddp.akoya.com/",
        "sub": "CghtaWtvbW9fMRIGbWlrb21v",
        "aud": ["app"],
        "iat": ISSUED_AT_S,
        "exp": ISSUED_AT_S + 3600,
        "grant_id": "0c9d9a1e-58a0-4d6f-9d0e-6f8c3b1d2a77",
    }
)
REFRESH_TOKEN = 'Chl"\\n/é-successor'
WHOLE = json.dumps(
    {
        "token_type": "bearer",
        "expires_in": 899,
        "refresh_token": REFRESH_TOKEN,
        "id_token": ID_TOKEN,
    }
).encode()


def ok(body: bytes, content_type: str = "application/json") -> Answered:
    return Answered(status=200, body=body, content_type=content_type)


def pair_read(reply: TokenReply, operation: Operation = Operation.REFRESH) -> PairRead:
    reading = read_reply(operation, reply)
    assert isinstance(reading, PairRead)
    return reading


def failed(reply: TokenReply, operation: Operation = Operation.REFRESH) -> TokenFailure:
    reading = read_reply(operation, reply)
    assert isinstance(reading, TokenFailure)
    return reading


@pytest.mark.parametrize("operation", [Operation.OBTAIN, Operation.REFRESH])
@pytest.mark.parametrize("status", [200, 201])
def test_a_whole_answer_brings_the_pair_and_what_its_token_says(
    operation: Operation, status: int
) -> None:
    """Both tokens, the life, the owner and Akoya's grant id are read from one answer."""
    reading = pair_read(Answered(status=status, body=WHOLE), operation)

    assert not reading.is_salvaged
    assert reading.pair.id_token == Secret(ID_TOKEN)
    assert reading.pair.refresh_token == Secret(REFRESH_TOKEN)
    assert reading.pair.life_s == 3600
    assert reading.pair.issued_at_s == ISSUED_AT_S
    assert reading.pair.subject == "CghtaWtvbW9fMRIGbWlrb21v"
    assert reading.pair.akoya_grant_id == "0c9d9a1e-58a0-4d6f-9d0e-6f8c3b1d2a77"


@pytest.mark.parametrize("status", [200, None])
def test_a_cut_answer_is_saved_exactly_once_the_refresh_token_is_closed(
    status: int | None,
) -> None:
    """Cut at every byte offset: the pair is saved if and only if its closing quote arrived."""
    closed_at = WHOLE.index(b'"id_token"') - 2
    bearer_closed_at = len(WHOLE) - 1

    for cut in range(len(WHOLE)):
        body = WHOLE[:cut]
        broken = read_reply(Operation.REFRESH, Broken(status=200, body=body))
        answered = read_reply(Operation.REFRESH, ok(body))

        for reading in (broken, answered):
            assert isinstance(reading, PairRead) is (cut >= closed_at), cut
            if isinstance(reading, PairRead):
                assert reading.is_salvaged
                assert reading.pair.refresh_token == Secret(REFRESH_TOKEN)
                has_bearer = cut >= bearer_closed_at
                assert (reading.pair.id_token == Secret(ID_TOKEN)) is has_bearer
                assert reading.pair.life_s == (3600 if has_bearer else 0)
    assert isinstance(read_reply(Operation.REFRESH, Broken(status=status)), TokenFailure)


def test_a_whole_body_on_a_broken_connection_counts_as_saved() -> None:
    """The tokens are all there; that the connection broke is still told."""
    reading = pair_read(Broken(status=200, body=WHOLE))

    assert reading.is_salvaged
    assert reading.pair.id_token == Secret(ID_TOKEN)


def test_a_torn_refusal_is_not_searched_for_tokens() -> None:
    """What an error page quotes is no successor."""
    assert failed(Broken(status=500, body=WHOLE)).reason is FailureReason.ANSWER_LOST


@pytest.mark.parametrize(
    "body",
    [
        WHOLE + b"<!-- cached -->",
        b"\xff\xfe garbage " + WHOLE,
        WHOLE.replace(b"899", b"899,,"),
        b'{"refresh_token" \n:\t"old", "refresh_token": '
        + json.dumps(REFRESH_TOKEN).encode()
        + b",",
        WHOLE.replace(b'"token_type"', b'"\\"refresh_token\\":\\"no\\""'),
    ],
)
def test_a_garbled_answer_gives_its_refresh_token(body: bytes) -> None:
    """What surrounds the token may be broken; its own value may not."""
    reading = pair_read(ok(body))

    assert reading.pair.refresh_token == Secret(REFRESH_TOKEN)


def test_a_successor_without_a_bearer_is_kept_with_no_life() -> None:
    """The chain goes on although nothing can be served from this pair."""
    reading = pair_read(ok(b'{"refresh_token": "next", "expires_in": 900}'))

    assert reading.pair.id_token is None
    assert reading.pair.life_s == 0


def test_a_bearer_that_cannot_stand_in_a_header_is_no_bearer() -> None:
    """An answer cannot smuggle a header line into data calls."""
    body = json.dumps({"refresh_token": "next", "id_token": "a\r\nX-Evil: 1"}).encode()

    assert pair_read(ok(body)).pair.id_token is None


@pytest.mark.parametrize("rest", [{}, {"refresh_token": ""}, {"refresh_token": None}])
def test_a_refresh_without_a_successor_keeps_the_token_it_sent(rest: dict[str, object]) -> None:
    """RFC 6749 section 6: the old refresh token stays good, under the new bearer."""
    reading = read_reply(Operation.REFRESH, ok(json.dumps({"id_token": ID_TOKEN, **rest}).encode()))

    assert isinstance(reading, PairKept)
    pair = reading.paired_with(Secret("sent"))
    assert pair.refresh_token == Secret("sent")
    assert pair.id_token == Secret(ID_TOKEN)
    assert pair.life_s == 3600
    assert pair.subject == "CghtaWtvbW9fMRIGbWlrb21v"


def test_a_cut_answer_without_a_successor_does_not_keep_the_old_token() -> None:
    """The successor may have been in the part that was lost."""
    torn = json.dumps({"id_token": ID_TOKEN}).encode()[:-1]

    assert failed(Broken(status=200, body=torn)).reason is FailureReason.ANSWER_LOST
    assert failed(ok(torn)).reason is FailureReason.MALFORMED_RESPONSE


def test_an_exchange_without_a_refresh_token_is_malformed() -> None:
    """There is no older token that could be kept."""
    failure = failed(ok(json.dumps({"id_token": ID_TOKEN}).encode()), Operation.OBTAIN)

    assert failure.reason is FailureReason.MALFORMED_RESPONSE


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"7",
        b'{"access_token": "a"}',
        b"plain",
        b'{"refresh_token": 7}',
        b'{"refresh_token": "\\ud800"}',
        b'{"refresh_token": "a\\u0000"}',
    ],
)
def test_a_success_without_tokens_is_malformed_and_leaves_the_token_open(body: bytes) -> None:
    """The token service answered, so the token may be used, and nobody holds a successor."""
    failure = failed(ok(body))

    assert failure.reason is FailureReason.MALFORMED_RESPONSE
    assert failure.disposition is Disposition.IN_DOUBT
    assert fate_of(failure) is ClaimFate.AMBIGUOUS


def test_a_bottomless_answer_is_malformed() -> None:
    """Depth is no way to make the reader fall."""
    assert failed(ok(b"[" * 100_000)).reason is FailureReason.MALFORMED_RESPONSE


@pytest.mark.parametrize(
    ("body", "content_type"),
    [(b"<html>Sign in to the guest network</html>", ""), (b"hello", "text/html")],
)
def test_a_page_for_people_is_malformed_and_spent_nothing(body: bytes, content_type: str) -> None:
    """A gateway answered in place of the token service: the claim is simply given back."""
    failure = failed(ok(body, content_type))

    assert failure.reason is FailureReason.MALFORMED_RESPONSE
    assert failure.disposition is Disposition.RETRY_LATER
    assert fate_of(failure) is ClaimFate.UNSPENT


@pytest.mark.parametrize("body", [b"", b"{}", b"ok"])
def test_a_revocation_is_done_with_any_success(body: bytes) -> None:
    """RFC 7009: the body of a revocation's success says nothing."""
    assert read_reply(Operation.REVOKE, ok(body, "")) == RevokeDone()


def test_a_page_for_people_revokes_nothing() -> None:
    """A captive portal's 200 must not make anybody believe that access was ended."""
    assert failed(ok(b"<html>", "text/html"), Operation.REVOKE).reason is FailureReason.UNKNOWN
    assert failed(Broken(status=200), Operation.REVOKE).reason is FailureReason.ANSWER_LOST


def test_a_reading_prints_no_token() -> None:
    """Readings may be logged by mistake; their tokens may not."""
    kept = read_reply(Operation.REFRESH, ok(json.dumps({"id_token": ID_TOKEN}).encode()))

    shown = repr(pair_read(ok(WHOLE))) + repr(kept) + repr(ok(WHOLE)) + repr(Broken(body=WHOLE))

    assert ID_TOKEN not in shown
    assert "successor" not in shown


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
token_answers = st.fixed_dictionaries(
    {},
    optional={
        "id_token": st.text() | st.just(ID_TOKEN) | json_values,
        "refresh_token": st.text() | json_values,
        "expires_in": json_values,
        "grant_id": json_values,
        "error": json_values,
        "error_description": json_values,
    },
)
bodies = st.binary() | st.one_of(json_values, token_answers).map(
    lambda value: json.dumps(value).encode()
)
replies = st.one_of(
    st.builds(Answered, status=st.integers(100, 999), body=bodies),
    st.builds(Broken, status=st.none() | st.integers(100, 999), body=bodies),
    st.just(NotSent()),
)


@given(operation=st.sampled_from(Operation), reply=replies, cut=st.integers(0, 200))
def test_no_bytes_make_the_reader_raise(operation: Operation, reply: TokenReply, cut: int) -> None:
    """Whatever arrives becomes a reading."""
    body = b"" if isinstance(reply, NotSent) else reply.body
    cut_body = body[: len(body) - cut]

    torn = read_reply(operation, Broken(status=200, body=cut_body))
    reading = read_reply(operation, reply, max_age_s=86_400)

    assert isinstance(torn, Reading)
    assert isinstance(reading, Reading)


@given(answer=token_answers, refresh_token=st.text(min_size=1))
def test_a_pair_that_was_read_fits_into_a_form_and_a_header(
    answer: dict[str, object], refresh_token: str
) -> None:
    """Whatever else is in the answer, its tokens can be sent on, and its life is one."""
    body = json.dumps(answer | {"refresh_token": refresh_token}).encode()

    reading = read_reply(Operation.REFRESH, ok(body), max_age_s=86_400)

    assume(isinstance(reading, PairRead))  # Hypothesis fails if too few are
    assert isinstance(reading, PairRead)
    assert reading.pair.refresh_token.reveal().encode()
    assert 0 <= reading.pair.life_s <= 86_400
    assert reading.pair.id_token is None or reading.pair.id_token.reveal().isascii()

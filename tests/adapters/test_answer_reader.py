"""What the reader of token answers says of bytes that come in pieces."""

from __future__ import annotations

from sidecar.adapters.answer_reader import AnswerReader
from sidecar.domain.wire import Answered
from tests.support.idp_calls import BODY

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def test_the_date_of_an_answer_is_kept() -> None:
    """K4: the age of a token that Akoya had kept is reckoned from the answer's own `Date`."""
    reader = AnswerReader()

    reader.feed(HEAD + b"Date: Mon, 01 Jan 2024 00:00:10 GMT\r\n")
    reader.feed(b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY)
    reply = reader.reply(is_ended=False)

    assert isinstance(reply, Answered)
    assert reply.date_s == 1_704_067_210


def test_a_length_that_is_too_short_cuts_off_no_successor() -> None:
    """The rest of the object comes in a later segment, beyond the length; it is waited for."""
    reader = AnswerReader()

    is_over = reader.feed(HEAD + b"Content-Length: %d\r\n\r\n" % (len(BODY) - 2) + BODY[:-2])
    is_over_then = reader.feed(BODY[-2:])
    reply = reader.reply(is_ended=False)

    assert (is_over, is_over_then) == (False, True)
    assert isinstance(reply, Answered)
    assert reply.body == BODY


def test_a_last_chunk_within_the_object_cuts_off_no_successor() -> None:
    """The same with chunks that end too early."""
    reader = AnswerReader()
    chunked = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (
        len(BODY) - 2,
        BODY[:-2],
    )

    is_over = reader.feed(HEAD + chunked)
    is_over_then = reader.feed(BODY[-2:])
    reply = reader.reply(is_ended=False)

    assert (is_over, is_over_then) == (False, True)
    assert isinstance(reply, Answered)
    assert reply.body == BODY


def test_a_body_that_is_no_object_ends_with_its_length() -> None:
    """Nothing is waited for that no pair can be in: a page of a gateway, or an empty body."""
    page = AnswerReader()
    nothing = AnswerReader()

    assert page.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n<p>\n")
    assert nothing.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

"""What a hostile caller of the grants API cannot do: to the next call, or to the event loop."""

from __future__ import annotations

from sidecar.http.control_input import parse_object
from tests.support.control_rig import CONTROL_KEY, running_control
from tests.support.raw_http import connected

KEY = b"Authorization: Bearer " + CONTROL_KEY.encode()
TRAILED = (
    b"POST /brake/release HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n%b\r\n\r\n2\r\n{}\r\n0\r\nX-Request-Id: smuggled\r\n\r\n"
)
NEXT = b"GET /grants HTTP/1.1\r\nHost: a\r\n\r\n"


async def test_trailers_of_a_call_become_headers_of_none() -> None:
    """A chunked call is the last of its connection, with a key or without one."""
    async with running_control() as control:
        for header in (KEY, b"X-No-Key: 1"):
            async with connected(control.port) as client:
                await client.send(TRAILED % header + NEXT)
                first = await client.read_head()
                rest = await client.reader.read()

            assert first.values(b"connection") == [b"close"]
            assert b"HTTP/1.1" not in rest
        assert "smuggled" not in {event.request_id for event in control.completed}


def test_an_answer_names_no_more_errors_than_people_read() -> None:
    """64 KiB of unknown or doubled names are not answered with ten times as much."""
    body = b"{" + b",".join(b'"n%d":1' % (number % 4000) for number in range(6000)) + b"}"

    errors = parse_object(body).errors

    assert len(errors) == 32

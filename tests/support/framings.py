"""Every way in which a token service may frame, cut and end one answer, as raw bytes.

It must not know what a sidecar makes of an answer.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tests.support.scripted_idp import id_token

TOKEN: Final = "next-canary"
PAIR: Final = json.dumps(
    {"expires_in": 900, "refresh_token": TOKEN, "id_token": id_token()}
).encode()
TOKEN_AT: Final = PAIR.index(TOKEN.encode())
REFUSALS: Final = {
    400: b'{"error":"invalid_request","error_description":'
    b'"Refresh token is invalid or has already been claimed by another client."}',
    401: b'{"error":"invalid_client","error_description":"Invalid client credentials."}',
    429: b'{"error":"slow_down"}',
    503: b"<html>busy</html>",
}
STATUSES: Final = (200, *REFUSALS)


class Framing(StrEnum):
    """What tells where the body ends."""

    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"


class Cut(StrEnum):
    """How much of the answer arrives, and what besides it."""

    WHOLE = "whole"
    IN_HEAD = "in_head"
    AFTER_HEAD = "after_head"
    BEFORE_TOKEN = "before_token"
    IN_TOKEN = "in_token"
    AFTER_TOKEN = "after_token"
    SURPLUS = "surplus"
    INTERIM_FIRST = "interim_first"

    @property
    def is_whole(self) -> bool:
        """Whether all of the answer arrives."""
        return self in (Cut.WHOLE, Cut.SURPLUS, Cut.INTERIM_FIRST)


class End(StrEnum):
    """How the connection ends."""

    FIN = "fin"
    RST = "rst"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One answer on the wire."""

    framing: Framing
    cut: Cut
    end: End
    status: int

    @property
    def name(self) -> str:
        """What it is called in a path and in a failure."""
        return f"{self.framing}-{self.cut}-{self.end}-{self.status}"

    @property
    def is_whole(self) -> bool:
        """Whether the answer is whole: a reset ends nothing that only a proper end completes.

        An object that is complete is whole however its connection ends; the page of the 503 is not.
        """
        is_page = self.status == 503
        is_open_ended = self.framing is Framing.CLOSE
        return self.cut.is_whole and not (is_page and is_open_ended and self.end is End.RST)

    @property
    def body(self) -> bytes:
        """The whole body."""
        return PAIR if self.status == 200 else REFUSALS[self.status]

    @property
    def data(self) -> bytes:
        """What is sent."""
        head = b"HTTP/1.1 %d Status\r\nContent-Type: application/json\r\n" % self.status
        if self.cut is Cut.INTERIM_FIRST:
            head = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + head
        if self.cut is Cut.IN_HEAD:
            return head[:-20]
        body = self.body
        size = {
            Cut.AFTER_HEAD: 0,
            Cut.BEFORE_TOKEN: (TOKEN_AT if self.status == 200 else len(body)) // 2,
            Cut.IN_TOKEN: (TOKEN_AT + 4 if self.status == 200 else len(body) - 4),
            Cut.AFTER_TOKEN: (TOKEN_AT + 20 if self.status == 200 else len(body) - 1),
        }.get(self.cut, len(body))
        surplus = b"\r\n\r\nHTTP/1.1 500 Oops\r\n\r\n" if self.cut is Cut.SURPLUS else b""
        return head + _framed(self.framing, body, size) + surplus


def _framed(framing: Framing, body: bytes, size: int) -> bytes:
    match framing:
        case Framing.LENGTH:
            return b"Content-Length: %d\r\n\r\n" % len(body) + body[:size]
        case Framing.CLOSE:
            return b"\r\n" + body[:size]
        case Framing.CHUNKED:
            middle = len(body) // 3
            chunks = [body[:middle], body[middle:]]
            framed = b"".join(b"%x;x=y\r\n%s\r\n" % (len(part), part) for part in chunks)
            whole = b"Transfer-Encoding: chunked\r\n\r\n" + framed + b"0\r\nX-T: 1\r\n\r\n"
            if size == len(body):
                return whole
            kept = whole.index(framed) + size + len(b"%x;x=y\r\n" % middle)
            return whole[: kept + (len(b"\r\n%x;x=y\r\n" % len(chunks[1])) if size > middle else 0)]


def cases() -> Iterator[Case]:
    """Yield every case."""
    for framing, cut, end, status in itertools.product(Framing, Cut, End, STATUSES):
        yield Case(framing=framing, cut=cut, end=end, status=status)

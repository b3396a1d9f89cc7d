"""The head of an answer, read so that it has one reading only, and how it frames its body.

RFC 9112, without what it lets a recipient tolerate: an answer is passed on behind a framing of our
own, so whatever two readers could cut in two ways is no answer. It must not know sockets, nor what
an answer means.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from sidecar.domain.forwarding import RawHeader

HEAD_LIMIT_BYTES: Final = 65536
"""Status line and header fields together."""

HEADERS_MAX: Final = 256
LONGEST_BODY_BYTES: Final = (1 << 63) - 1
"""Longer ones do not fit into what others count with, and some of them read it as no body."""

_STATUS: Final = rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*+))?\r\n"
_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
FIELD_LINE: Final = _TOKEN + rb":[\t\x20-\x7e\x80-\xff]*+\r\n"
_LINES: Final = re.compile(_STATUS + rb"((?:" + FIELD_LINE + rb")*+)")
_START: Final = b"HTTP/1."
_LENGTH: Final = re.compile(rb"[0-9]{1,19}")
_INTERIM: Final = range(100, 200)
_SWITCHING: Final = 101
_BODILESS: Final = frozenset({204, 304})


class Framing(Enum):
    """How the end of a body is told."""

    NONE = auto()
    """There is no body, whatever the header fields say."""
    LENGTH = auto()
    CHUNKED = auto()
    CLOSE = auto()
    """It ends with its connection, so that a part cannot be told from the whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalHead:
    """The head of a final answer.

    Attributes:
        reason: The phrase as it came, or empty.
        headers: Names and values as they came, without the white space around a value.
        length: Of the body where it is framed so, else 0.
        is_followed: Whether another answer may follow on the connection.
    """

    status: int
    reason: bytes
    headers: Sequence[RawHeader]
    framing: Framing
    length: int
    is_followed: bool


@dataclass(frozen=True, slots=True)
class InterimHead:
    """A 1xx answer: the final one is still to come."""


@dataclass(frozen=True, slots=True)
class MalformedHead:
    """No answer, or one with more than one reading."""


_Noted = dict[bytes, list[bytes]]
_NOTED: Final = frozenset({b"content-length", b"transfer-encoding", b"connection"})
_NOTED_LENGTHS: Final = frozenset(map(len, _NOTED))

HeadRead = FinalHead | InterimHead | MalformedHead
_INTERIM_HEAD: Final = InterimHead()
_MALFORMED: Final = MalformedHead()


def read_head(head: bytes, *, is_to_head: bool) -> HeadRead:
    """Read a head up to its blank line, that included.

    Args:
        head: What came, at most `HEAD_LIMIT_BYTES` of it.
        is_to_head: It answers a HEAD request.
    """
    found = _LINES.match(head)
    if found is None or head[found.end() :] != b"\r\n":
        return _MALFORMED
    minor, digits, reason, lines = found.groups()
    status = int(digits)
    if status in _INTERIM:
        return _MALFORMED if status == _SWITCHING else _INTERIM_HEAD
    headers, noted = _split(lines)
    if len(headers) > HEADERS_MAX:
        return _MALFORMED
    is_old = minor == b"0"
    framed = _framing(noted, is_old=is_old)
    if framed is None:
        return _MALFORMED
    framing, length = framed
    if is_to_head or status in _BODILESS:
        framing, length = Framing.NONE, 0
    return FinalHead(
        status=status,
        reason=reason or b"",
        headers=headers,
        framing=framing,
        length=length,
        is_followed=framing is not Framing.CLOSE and _is_kept(noted, is_old=is_old),
    )


def _split(lines: bytes) -> tuple[list[RawHeader], _Noted]:
    """Return all fields in order, and those that frame the answer by lower-case name."""
    headers: list[RawHeader] = []
    noted: _Noted = {}
    for line in lines.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        value = value.strip(b" \t")
        headers.append((name, value))
        if len(name) in _NOTED_LENGTHS and (key := name.lower()) in _NOTED:
            noted.setdefault(key, []).append(value)
    return headers, noted


def may_become_head(beginning: bytes) -> bool:
    """Whether what came so far can be the beginning of a head: its whole lines are sound."""
    lines, end, _ = beginning.rpartition(b"\n")
    if not end:
        return beginning[: len(_START)] == _START[: len(beginning)]
    return lines.count(end) <= HEADERS_MAX and _LINES.fullmatch(lines + end) is not None


def _framing(noted: _Noted, *, is_old: bool) -> tuple[Framing, int] | None:
    """Return how a body is framed and how long it is (RFC 9112 section 6.3), ``None``: unclear."""
    lengths, codings = noted.get(b"content-length"), noted.get(b"transfer-encoding")
    if codings is not None:
        is_clear = len(codings) == 1 and codings[0].lower() == b"chunked"
        return (Framing.CHUNKED, 0) if is_clear and lengths is None and not is_old else None
    if lengths is None:
        return Framing.CLOSE, 0
    # RFC 9110 section 8.6 lets a recipient refuse equal ones too.
    if len(lengths) > 1 or _LENGTH.fullmatch(lengths[0]) is None:
        return None
    length = int(lengths[0])
    return (Framing.LENGTH, length) if length <= LONGEST_BODY_BYTES else None


def _is_kept(noted: _Noted, *, is_old: bool) -> bool:
    """Whether the connection goes on after the answer (RFC 9112 section 9.3)."""
    options = {
        option.strip(b" \t").lower()
        for value in noted.get(b"connection", ())
        for option in value.split(b",")
    }
    return b"close" not in options and (not is_old or b"keep-alive" in options)

"""How the head of a request frames what follows it: read in one way, or refused.

It looks at the bytes before any parser does, since parsers differ: what one takes for a body is the
next request for another one (RFC 9112 section 11.2). `HeadFault` lists what is refused. It does not
know connections, keys or paths.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

HEAD_END: Final = b"\r\n\r\n"
CRLF: Final = b"\r\n"
FIELDS_MAX: Final = 256
MOST_BYTES: Final = 2**63 - 1
"""The largest length of a body that every hop can count: one bit less than 64."""

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
# `[^\r]` is the fastest class there is; what else may not be in a value is looked for apart.
_FIELDS: Final = rb"(?:" + _TOKEN + rb"++:[^\r]*+\r\n)*+"
# What is wrong inside of a target is for those to say who read it.
_REQUEST_LINE: Final = _TOKEN + rb"{1,32}+ [^ \r\n]++ HTTP/1\.(?P<minor>[01])\r\n"
_SOUND: Final = re.compile(_REQUEST_LINE + rb"(?P<fields>" + _FIELDS + rb")\r\n")
_SOUND_FIELDS: Final = re.compile(_FIELDS)
_OPENING: Final = re.compile(_TOKEN + rb"{1,32}+(?: [^ \r\n]*+(?: [HTP/1.0]{0,8})?)?")
_ALLOWED: Final = b"\t\n\r" + bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))
_FRAMING: Final = re.compile(rb"\r\n(?:content-length|transfer-encoding|upgrade):")
_FIELDS_MAX_BYTES: Final = 4 * FIELDS_MAX
"""So many of the shortest fields have no more bytes."""

_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,19})[ \t]*\r\n")
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding: *chunked *\r\n")
_HOST: Final = re.compile(rb"\r\nhost:[ \t]*[0-9a-z.\-_~!$&'()*+;=:%\[\]]*[ \t]*\r\n")
_CONNECT: Final = b"CONNECT "


class HeadFault(StrEnum):
    """Why bytes are no request that all hops read alike."""

    MALFORMED = "malformed"
    """No request line of HTTP/1.0 or 1.1, or a bare CR or LF, a control character, a folded line, a
    space before a colon, too many blank lines."""
    TOO_LARGE = "too_large"
    """More bytes or more fields than allowed."""
    HOST = "host"
    """No `Host`, two of them, or one that is no name."""
    LENGTH = "length"
    """`Content-Length` twice, a list, signed, hexadecimal, above 2^63-1, or of over 19 digits."""
    CODING = "coding"
    """`Transfer-Encoding` other than `chunked`, twice, beside a length, or in HTTP/1.0."""
    CHUNK = "chunk"
    """A chunk that isn't as long as it says, or says so in no number up to 2^63-1, or is mostly
    extensions; trailers that are no fields."""


@dataclass(frozen=True, slots=True)
class Head:
    """A head that can be read in one way only.

    Attributes:
        data: Its bytes for the parser; without a wish to upgrade, which is never granted.
        length: Bytes of the body that follows; 0 where it is chunked.
        is_chunked: Whether a chunked body follows.
        is_last: Whether the bytes after it are no request: those of a `CONNECT` are a tunnel's.
    """

    data: bytes
    length: int = 0
    is_chunked: bool = False
    is_last: bool = False


def read_head(head: bytes) -> Head | HeadFault:
    """Read a whole head, its blank line included."""
    sound = _SOUND.fullmatch(head)
    if sound is None or not may_go_on(sound["fields"]):
        return HeadFault.MALFORMED
    lower = head.lower()
    if len(head) > _FIELDS_MAX_BYTES and lower.count(CRLF) > FIELDS_MAX + 2:
        return HeadFault.TOO_LARGE
    is_current = sound["minor"] == b"1"
    hosts = lower.count(b"\r\nhost:")
    if hosts != 1 and (hosts or is_current):
        return HeadFault.HOST
    if hosts and _HOST.search(lower) is None:
        return HeadFault.HOST
    if _FRAMING.search(lower) is None and not head.startswith(_CONNECT):
        return Head(head)
    data = head
    if b"\r\nupgrade:" in lower:
        data = _without_upgrade(head)
    if head.startswith(_CONNECT):
        return Head(_closing(data), is_last=True)
    is_chunked = b"\r\ntransfer-encoding:" in lower
    if b"\r\ncontent-length:" in lower:
        length = _length_of(lower)
        if length is None:
            return HeadFault.LENGTH
        return HeadFault.CODING if is_chunked else Head(data, length=length)
    if not is_chunked:
        return Head(data)
    if not is_current or not _is_chunked_once(lower):
        return HeadFault.CODING
    return Head(data, is_chunked=True)


def may_begin(start: bytes) -> bool:
    """Whether a head may begin with these bytes, all that came of it so far.

    So that the wrong protocol is told at once, and not when its head takes too long.
    """
    line, end, fields = start.partition(CRLF)
    opening = _OPENING.fullmatch(line.removesuffix(b"\r"))
    if opening is None or (end and b" HTTP/1." not in line):
        return False
    return may_go_on(fields)


def may_go_on(data: bytes) -> bool:
    """Whether the next bytes of a head may be part of one: plain text in lines that end in CRLF."""
    ends = data.count(CRLF)
    return (
        not data.translate(None, _ALLOWED)
        and data.count(b"\n") == ends
        and data.count(b"\r") - data.endswith(b"\r") == ends
    )


def are_fields(data: bytes) -> bool:
    """Whether these bytes are whole lines of header fields, or none at all."""
    return _SOUND_FIELDS.fullmatch(data) is not None and may_go_on(data)


def _length_of(lower: bytes) -> int | None:
    found = _LENGTH.search(lower)
    if found is None or lower.count(b"\r\ncontent-length:") > 1:
        return None
    length = int(found[1])
    return length if length <= MOST_BYTES else None


def _is_chunked_once(lower: bytes) -> bool:
    return lower.count(b"\r\ntransfer-encoding:") == 1 and _CHUNKED.search(lower) is not None


def _without_upgrade(head: bytes) -> bytes:
    """Take out the wish to upgrade: the request is served as what it is, with its whole body."""
    first, *fields = head.removesuffix(HEAD_END).split(CRLF)
    kept = [first]
    for line in fields:
        name, _, value = line.partition(b":")
        name = name.lower()
        if name == b"upgrade":
            continue
        if name == b"connection":
            tokens = (token.strip(b" \t") for token in value.split(b","))
            kept.append(
                b"Connection: "
                + b", ".join(token for token in tokens if token.lower() != b"upgrade")
            )
            continue
        kept.append(line)
    return CRLF.join(kept) + HEAD_END


def _closing(head: bytes) -> bytes:
    """Say that the connection ends with this request."""
    first, *fields = head.removesuffix(HEAD_END).split(CRLF)
    kept = [line for line in fields if not line.lower().startswith(b"connection:")]
    return CRLF.join((first, *kept, b"Connection: close")) + HEAD_END

"""Which headers of a request go on to the upstream, and which of its answer to the client.

It sorts raw pairs and returns values; order, case and duplicates stay as they came. It does not
know sockets, tokens or who may use the proxy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

RawHeader = tuple[bytes, bytes]

# RFC 9110 section 7.6.1, with the older names that proxies strip as well.
_HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    }
)
_HELD_BACK: Final = _HOP_BY_HOP | {
    b"authorization",
    b"cookie",
    b"forwarded",
    b"host",
    b"expect",
    b"content-length",
}
_HELD_BACK_PREFIXES: Final = (b"sidecar-", b"x-forwarded-")
_OWN_PREFIX: Final = b"sidecar-"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestHead:
    """The headers of a request, sorted into what goes on and what stops here.

    Attributes:
        forwarded: Pairs for the upstream, as they came.
        held_back: Values that stop at the sidecar, by lower-case name.
        size_bytes: Of all names and values.
    """

    forwarded: Sequence[RawHeader]
    held_back: Mapping[bytes, Sequence[bytes]]
    size_bytes: int

    def held(self, name: bytes) -> Sequence[bytes]:
        """Return the values of a header that stopped here (`name` in lower case)."""
        return self.held_back.get(name, ())


def sort_request_headers(headers: Sequence[RawHeader], *, user_header: bytes) -> RequestHead:
    """Sort the headers of a request; `user_header` is the lower-case name that names the user."""
    forwarded: list[RawHeader] = []
    held_back: dict[bytes, list[bytes]] = {}
    size_bytes = 0
    for pair in headers:
        size_bytes += len(pair[0]) + len(pair[1])
        name = pair[0].lower()
        if name in _HELD_BACK or name == user_header or name.startswith(_HELD_BACK_PREFIXES):
            held_back.setdefault(name, []).append(pair[1])
        else:
            forwarded.append(pair)
    if b"connection" in held_back:
        forwarded = _without_named(forwarded, held_back[b"connection"])
    return RequestHead(forwarded=forwarded, held_back=held_back, size_bytes=size_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerHead:
    """The headers of an answer as the client gets them, and what they say about the body.

    Attributes:
        forwarded: Pairs for the client, as they came; with ``Content-Length`` where it frames.
        content_length: The length that frames the body, or ``None``.
        content_encoding: Lower-case coding of the body, or empty.
        retry_after: Value of ``Retry-After``, or empty.
        interaction_id: Akoya's id of the call if it is short and harmless, or empty.
    """

    forwarded: Sequence[RawHeader]
    content_length: int | None
    content_encoding: bytes
    retry_after: bytes
    interaction_id: str


def sort_answer_headers(headers: Sequence[RawHeader], *, is_length_framed: bool) -> AnswerHead:
    """Sort the headers of an answer; without `is_length_framed` its ``Content-Length`` is void."""
    forwarded: list[RawHeader] = []
    noted: dict[bytes, bytes] = {}
    named: list[bytes] = []
    for pair in headers:
        name = pair[0].lower()
        if name in _HOP_BY_HOP:
            if name == b"connection":
                named.append(pair[1])
            continue
        if name.startswith(_OWN_PREFIX):
            continue
        if name in _NOTED:
            noted[name] = pair[1]
            if name == b"content-length" and not is_length_framed:
                continue
        forwarded.append(pair)
    if named:
        forwarded = _without_named(forwarded, named)
    return AnswerHead(
        forwarded=forwarded,
        content_length=_parse_length(noted) if is_length_framed else None,
        content_encoding=noted.get(b"content-encoding", b"").lower(),
        retry_after=noted.get(b"retry-after", b""),
        interaction_id=to_plain_id(
            noted.get(b"x-akoya-interaction-id", b"").decode("ascii", "replace")
        ),
    )


_NOTED: Final = frozenset(
    {b"content-length", b"content-encoding", b"retry-after", b"x-akoya-interaction-id"}
)


def _parse_length(noted: Mapping[bytes, bytes]) -> int | None:
    digits = noted.get(b"content-length", b"")
    return int(digits) if digits.isdigit() else None


# What frames a message, and what a client's `Connection` must not be able to take away from it.
_NEVER_NAMED: Final = frozenset({b"content-length", b"close", b"keep-alive"})


def _without_named(pairs: Sequence[RawHeader], connection: Sequence[bytes]) -> list[RawHeader]:
    """Drop the headers that `Connection` names."""
    named = {
        token.strip().lower() for value in connection for token in value.split(b",")
    } - _NEVER_NAMED
    return [pair for pair in pairs if pair[0].lower() not in named]


def to_plain_id(text: str) -> str:
    """Return an id from outside if it may stand in a log line, else ``""``."""
    if 0 < len(text) <= _ID_MAX_LENGTH and _ID_CHARACTERS.issuperset(text):
        return text
    return ""


_ID_MAX_LENGTH: Final = 64
_ID_CHARACTERS: Final = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
)

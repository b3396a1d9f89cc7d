"""Writes an answer in whatever way tells where it ends, as gateways old and new do.

It knows bytes and nothing else: not what was asked, and no connection.
"""

from __future__ import annotations

import http
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, assert_never

if TYPE_CHECKING:
    from sidecar.sandbox.replies import Reply

Framing: TypeAlias = Literal["length", "chunked", "close"]
Beside: TypeAlias = Literal["nothing", "interim", "surplus"]
End: TypeAlias = Literal["fin", "rst"]

_INTERIM: Final = b"HTTP/1.1 103 Early Hints\r\nLink: </sandbox>\r\n\r\n"
_SURPLUS: Final = b"\r\nHTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"
_CHUNK_BYTES: Final = 200


def framed(
    reply: Reply, framing: Framing, *, beside: Beside = "nothing", body_bytes: int | None = None
) -> bytes:
    """Return what goes over the wire.

    Args:
        reply: The answer.
        framing: What tells where its body ends: a length, chunks, or the connection's end.
        beside: What comes before it (an interim answer) or after it (bytes that belong to nothing).
        body_bytes: After so many bytes of the body nothing more comes; ``None``: it is whole.
    """
    size = len(reply.body) if body_bytes is None else min(body_bytes, len(reply.body))
    head = _head(reply)
    match framing:
        case "length":
            answer = head + b"Content-Length: %d\r\n\r\n" % len(reply.body) + reply.body[:size]
        case "close":
            answer = head + b"\r\n" + reply.body[:size]
        case "chunked":
            chunks = _chunked(reply.body, size, is_whole=body_bytes is None)
            answer = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks
        case _:
            assert_never(framing)
    before = _INTERIM if beside == "interim" else b""
    return before + answer + (_SURPLUS if beside == "surplus" else b"")


def _head(reply: Reply) -> bytes:
    phrase = http.HTTPStatus(reply.status).phrase if reply.status in _KNOWN else "Status"
    headers = {**reply.headers, "Connection": "close"}
    if reply.body:
        headers["Content-Type"] = reply.content_type
    lines = [f"HTTP/1.1 {reply.status} {phrase}", *(f"{name}: {headers[name]}" for name in headers)]
    return "".join(f"{line}\r\n" for line in lines).encode()


def _chunked(body: bytes, size: int, *, is_whole: bool) -> bytes:
    written = bytearray()
    for start in range(0, size, _CHUNK_BYTES):
        whole_chunk = body[start : start + _CHUNK_BYTES]
        piece = body[start : min(start + _CHUNK_BYTES, size)]
        written += b"%x\r\n%s" % (len(whole_chunk), piece)
        if len(piece) == len(whole_chunk):
            written += b"\r\n"
    return bytes(written + b"0\r\n\r\n") if is_whole else bytes(written)


_KNOWN: Final = frozenset(status.value for status in http.HTTPStatus)

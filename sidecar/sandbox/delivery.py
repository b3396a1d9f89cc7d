"""Carries an answer to the client, whole or as a fault wants it.

It owns delays, resets, and cut and oddly framed answers. It must not know what was asked or
decided.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeAlias, cast, final

from aiohttp import web

from sidecar.sandbox.framing import framed
from sidecar.sandbox.replies import (
    HTML_TYPE,
    DataError,
    Reply,
    json_reply,
    status_reply,
    token_error,
)

if TYPE_CHECKING:
    from sidecar.sandbox.faults import Fault
    from sidecar.sandbox.ledger import Answer
    from sidecar.sandbox.world import World

_HTML_FAULT: Final = (
    b"<!doctype html><html><head><title>Service notice</title></head>"
    b"<body><h1>Service notice</h1><p>This page was put here by a fault.</p></body></html>"
)
# On, with no time to linger: closing sends a reset and discards what is unsent (socket(7)).
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Proceed:
    """Nothing stands in the way of processing the request."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Vanish:
    """The request gets no answer: its connection is reset, unprocessed."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """How an answer went out; `is_out`: its bytes are on their way already."""

    response: web.StreamResponse
    answer: Answer
    is_out: bool = False


_AFTER: Final = frozenset(
    {"drop_after", "cut_after", "frame", "slow_after", "status_after", "omit"}
)
_CLOSING_PASSES: Final = 100
"""Passes of the loop within which a connection without much in its buffers is closed."""
_REFRESH_TOKEN: Final = re.compile(rb'"refresh_token":"[^"]*"')

Obstacle: TypeAlias = Proceed | Vanish | Reply


async def obstacle(fault: Fault | None, world: World, *, data: bool) -> Obstacle:
    """Do what a fault does before a request is processed, and say what is left to do."""
    match fault:
        case None:
            return Proceed()
        case _ if fault.kind in _AFTER:
            return Proceed()
        case _ if not await world.pause(fault.delay_s) or fault.kind == "drop_before":
            return Vanish()
        case _ if fault.kind == "slow_before":
            return Proceed()
        case _:
            return _instead(fault, data=data)


def _instead(fault: Fault, *, data: bool) -> Reply:
    status = fault.answer_status
    match fault.kind:
        case "html":
            return Reply(status=status, body=_HTML_FAULT, content_type=HTML_TYPE)
        case "redirect":
            return Reply(status=status, headers={"Location": fault.location})
        case "error":
            return token_error(status, fault.error, fault.error_description)
        case "body":
            return Reply(status=status, body=fault.body.encode(), content_type=fault.content_type)
        case "reject_bearer":
            return DataError.NOT_AUTHORIZED.reply
        case _:
            return status_reply(status, data=data, retry_after_s=fault.retry_after_s)


async def deliver(
    request: web.Request, reply: Reply, fault: Fault | None, world: World, *, data: bool
) -> Delivered:
    """Send the answer of a processed request, or do to it what a fault does afterwards."""
    if fault is None or fault.kind not in _AFTER:
        return await _whole(request, reply, fault)
    if not await world.pause(fault.delay_s):
        return reset(request)
    match fault.kind:
        case "drop_after":
            return reset(request)
        case "cut_after":
            return await _cut(request, reply, fault)
        case "status_after":
            reply = status_reply(fault.answer_status, data=data, retry_after_s=fault.retry_after_s)
        case "omit":
            reply = _without(reply, fault.fields)
        case _:
            pass
    return await _whole(request, reply, fault)


async def _whole(request: web.Request, reply: Reply, fault: Fault | None) -> Delivered:
    if fault is None or fault.framing is None:
        return Delivered(response=to_response(reply), answer="sent")
    raw = framed(reply, fault.framing, beside=fault.beside)
    # The kernel may throw away what a reset overtakes.
    answer: Answer = "cut" if fault.end == "rst" else "sent"
    return await _written(
        request, raw, fault, Delivered(response=to_response(reply), answer=answer)
    )


async def _written(
    request: web.Request, raw: bytes, fault: Fault, delivered: Delivered
) -> Delivered:
    """Put bytes of our own in the place of an answer, and end the connection."""
    transport = request.transport
    if transport is None or transport.is_closing():  # the client left first
        return replace(delivered, answer="cut", is_out=True)
    transport.write(raw)
    if fault.end == "rst":
        reset(request)
    else:
        transport.close()
    # An answer without its end has not left yet: who reads it may wait for that.
    for _ in range(_CLOSING_PASSES):
        if request.transport is None:
            break
        await asyncio.sleep(0)
    # aiohttp finds the connection closing when it tries to send the response, and lets it be.
    return replace(delivered, is_out=True)


def to_response(reply: Reply) -> web.Response:
    """Turn a reply into a response."""
    headers = {"Content-Type": reply.content_type, **reply.headers}
    response = web.Response(status=reply.status, body=reply.body, headers=headers)
    if not reply.body:
        response.headers.popall("Content-Type", None)
    return response


async def send(request: web.Request, response: web.StreamResponse) -> bool:
    """Send a whole answer and tell whether somebody was there to take it."""
    try:
        await response.prepare(request)
        await response.write_eof()
    except ConnectionError:
        return False
    return request.transport is not None


def reset(request: web.Request) -> Delivered:
    """Reset the connection under a request, so that the client gets no answer at all."""
    transport = request.transport
    if transport is not None:
        raw = cast("socket.socket | None", transport.get_extra_info("socket"))
        if raw is not None and raw.family in (socket.AF_INET, socket.AF_INET6):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()
    # aiohttp finds the connection gone when it tries to send this, and lets it be.
    return Delivered(response=web.Response(status=500), answer="dropped")


async def _cut(request: web.Request, reply: Reply, fault: Fault) -> Delivered:
    """Promise the whole body, send a part of it, and close."""
    size = fault.after_bytes if fault.after_bytes >= 0 else len(reply.body) + fault.after_bytes
    size = max(0, min(size, len(reply.body)))
    answer: Answer = "cut" if fault.end == "rst" or _is_lost(reply.body, size) else "sent"
    if fault.framing is not None:
        raw = framed(reply, fault.framing, beside=fault.beside, body_bytes=size)
        return await _written(
            request, raw, fault, Delivered(response=to_response(reply), answer=answer)
        )
    headers = {"Content-Type": reply.content_type, **reply.headers}
    response = web.StreamResponse(status=reply.status, headers=headers)
    response.content_length = len(reply.body)
    response.force_close()
    try:
        await response.prepare(request)
        await response.write(reply.body[:size])
    except ConnectionError:  # the client left first; the answer is lost as it was meant to be
        return Delivered(response=response, answer="cut", is_out=True)
    if request.transport is not None:
        request.transport.close()
    return Delivered(response=response, answer=answer, is_out=True)


def _is_lost(body: bytes, size: int) -> bool:
    """Whether the beginning of a body is without what the client needs of it.

    That is its refresh token, if it has one: whoever reads that whole has lost nothing.
    """
    found = _REFRESH_TOKEN.search(body)
    return size < (len(body) if found is None else found.end())


def _without(reply: Reply, fields: tuple[str, ...]) -> Reply:
    document = cast("dict[str, object]", json.loads(reply.body or b"{}"))
    kept = {name: value for name, value in document.items() if name not in fields}
    return replace(json_reply(kept, status=reply.status), headers=reply.headers)

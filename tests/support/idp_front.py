"""One sidecar's way to the rotating token service: its requests travel, its answers come back.

A request that has left arrives whatever becomes of its sender; an answer that has arrived waits
until its reader goes on. It must not know what a request or an answer means.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, final

from sidecar.domain.failure import Operation
from sidecar.domain.wire import Broken, NotSent, TokenReply, TokenRequest
from tests.support.rotating_idp import Fault, Presentation, RotatingIdp
from tests.support.scripted_idp import field_of
from tests.support.virtual_time import NOWHERE


class Wire(Protocol):
    """The sidecar's end of a connection: it may be dead, or stand still."""

    @property
    def is_stopped(self) -> bool:
        """Whether its process stands still."""
        ...

    def point(self, name: str) -> None:
        """Take note of a step; raises where the sidecar dies in it."""
        ...


@final
class QuietWire:
    """The end of a connection that nothing happens to."""

    @property
    def is_stopped(self) -> bool:
        """It goes on."""
        return False

    def point(self, name: str) -> None:
        """Pass a step of a request."""


@final
class IdpFront:
    """One sidecar's way to the service; implements `sidecar.ports.IdentityProvider`."""

    def __init__(self, *, service: RotatingIdp, wire: Wire, peer: str) -> None:
        self._service = service
        self._wire = wire
        self._peer = peer

    async def send(
        self,
        request: TokenRequest,
        *,
        before_send: Callable[[], Awaitable[bool]],
        on_answer: Callable[[TokenReply], None],
    ) -> TokenReply:
        """Send the request; the service goes on with it whatever becomes of the sender."""
        service = self._service
        plan = service.plan.popleft() if service.plan else service.choose(request)
        self._wire.point("connecting")
        await asyncio.sleep(service.connect_after_s)
        self._wire.point("connected")
        if plan is Fault.UNREACHABLE:
            return self._tell(NotSent(), on_answer)
        if not await before_send():
            return self._tell(NotSent(is_vetoed=True), on_answer)
        self._wire.point("admitted")
        if self._wire.is_stopped:  # between the last check and the first byte
            await asyncio.sleep(0)
        if request.operation is Operation.REFRESH:
            service.sent += 1
            service.witness(self._peer, field_of(request, "refresh_token"), service.sent)
        loop = asyncio.get_running_loop()
        arrived: asyncio.Future[_Arrival] = loop.create_future()
        travel = partial(self._process, request, plan, arrived, service.sent)
        loop.call_later(service.takes_s(request) / 2, travel, context=NOWHERE)
        self._wire.point("sent")
        try:
            await asyncio.wait([arrived])
        except asyncio.CancelledError:
            self._wire.point("cancelled")
            last = arrived.result() if arrived.done() else _Arrival(reply=Broken())
            self._tell(last.reply, on_answer, last.presentation)
            raise
        self._wire.point("answered")
        arrival = arrived.result()
        self._tell(arrival.reply, on_answer, arrival.presentation)
        if service.close_after_s:
            await asyncio.sleep(service.close_after_s)
        return arrival.reply

    def _process(
        self,
        request: TokenRequest,
        plan: Fault | TokenReply,
        arrived: asyncio.Future[_Arrival],
        number: int,
    ) -> None:
        """Have the request handled; its answer then travels by itself."""
        presentation: Presentation | None = None
        if isinstance(plan, Fault):
            reply, presentation = self._service.carry_out(request, self._peer, plan)
            presentation.number = number
        else:
            token = field_of(request, "refresh_token") or field_of(request, "token")
            self._service.note(request, self._peer, token=token, is_success=False, fault=None)
            reply = plan
        arrival = _Arrival(reply=reply, presentation=presentation)
        back_s = self._service.takes_s(request) / 2
        asyncio.get_running_loop().call_later(back_s, arrived.set_result, arrival, context=NOWHERE)

    def _tell(
        self,
        reply: TokenReply,
        on_answer: Callable[[TokenReply], None],
        presentation: Presentation | None = None,
    ) -> TokenReply:
        on_answer(reply)
        if presentation is not None and presentation.brought:
            token = presentation.brought.encode()
            presentation.is_told = not isinstance(reply, NotSent) and token + b'"' in reply.body
            self._service.reader(self._peer, presentation)
        self._wire.point("told")
        return reply


@dataclass(frozen=True, slots=True, kw_only=True)
class _Arrival:
    reply: TokenReply
    presentation: Presentation | None = None

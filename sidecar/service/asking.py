"""Asks the token service for what is no claim: an exchange of a code, a revocation.

Such a request has no mark in the store, and its wait ends: a service that is silent for as long as
a claim's watchdog waits must hold up neither the next try nor a drain. What has arrived by then is
told to the caller first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import final

from sidecar.domain.wire import Broken, NotSent, TokenReply, TokenRequest
from sidecar.service import faults
from sidecar.service.claim_parts import ClaimParts
from sidecar.service.transmission import TICK_S


async def ask(
    parts: ClaimParts,
    request: TokenRequest,
    *,
    on_answer: Callable[[TokenReply], None],
    on_send: Callable[[], None] = lambda: None,
) -> TokenReply:
    """Send `request` and return its reply; a silence that lasts too long is `Broken`.

    Whoever sends promises to raise nothing; if it does all the same, what it told before counts.

    Args:
        parts: What asks.
        request: What is asked.
        on_answer: Told the reply in the step in which it was read.
        on_send: Told that the first byte leaves now.
    """
    asking = _Asking(on_answer=on_answer, on_send=on_send)
    try:
        async with asyncio.timeout(parts.times.watchdog_ticks * TICK_S):
            await parts.idp.send(
                request, before_send=asking.before_send, on_answer=asking.on_answer
            )
    except TimeoutError:
        return asking.reply  # what had arrived by then was told
    except asyncio.CancelledError as error:
        if faults.is_ending():
            raise
        faults.report(parts.observer, where="asking", error=error)
    except Exception as error:  # noqa: BLE001 - reported; what is known of the request counts
        faults.report(parts.observer, where="asking", error=error)
    return asking.reply


@final
class _Asking:
    """One request, and what is known of its answer.

    Attributes:
        reply: What was told, or else what must be said if nothing ever is.
    """

    def __init__(
        self, *, on_answer: Callable[[TokenReply], None], on_send: Callable[[], None]
    ) -> None:
        self.reply: TokenReply = NotSent()
        self._on_answer = on_answer
        self._on_send = on_send

    async def before_send(self) -> bool:
        """Let the request go."""
        self._on_send()
        self.reply = Broken()
        return True

    def on_answer(self, reply: TokenReply) -> None:
        """Take note of the answer before anybody looks into it."""
        self.reply = reply
        self._on_answer(reply)

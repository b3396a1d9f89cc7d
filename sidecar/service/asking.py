"""Asks the token service for what is no claim: an exchange of a code, a revocation.

Such a request has no mark in the store, and its wait ends: a service that is silent for as long as
a claim's watchdog waits must hold up neither the next try nor a drain. What has arrived by then is
told to the caller first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sidecar.domain.wire import Broken, TokenReply, TokenRequest
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

    Args:
        parts: What asks.
        request: What is asked.
        on_answer: Told the reply in the step in which it was read.
        on_send: Told that the first byte leaves now.
    """

    async def before_send() -> bool:
        on_send()
        return True

    try:
        async with asyncio.timeout(parts.times.watchdog_ticks * TICK_S):
            return await parts.idp.send(request, before_send=before_send, on_answer=on_answer)
    except TimeoutError:
        return Broken()

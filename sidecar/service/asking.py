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
    parts: ClaimParts, request: TokenRequest, *, on_answer: Callable[[TokenReply], None]
) -> TokenReply:
    """Send `request` and return its reply; a silence that lasts too long is `Broken`."""
    try:
        async with asyncio.timeout(parts.times.watchdog_ticks * TICK_S):
            return await parts.idp.send(request, before_send=_always, on_answer=on_answer)
    except TimeoutError:
        return Broken()


async def _always() -> bool:
    return True

"""Hears what peers publish: one subscription, from connecting to its end.

A hint may be lost or doubled, and one that cannot be read is no hint. Knows neither what a hint
is good for nor when to connect again.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError

from sidecar.adapters.cancellation import cancellation_heeded
from sidecar.domain.notices import Distress, Notice
from sidecar.domain.record import ConsentId, GrantId, GrantState

SILENCE_S: Final = 5.0
"""After this long without a word the server is asked for one, and given as long to say it."""


async def hints_of(
    client: Any,
    *,
    notices: str,
    distress: str,
    is_over: Callable[[], bool] = lambda: False,
) -> AsyncGenerator[Notice | Distress | None]:
    """Yield hints of both channels; ``None`` once a subscription stands.

    Args:
        client: A ``redis.asyncio.Redis``, whose types are partly unknown.
        notices: The channel of `Notice`.
        distress: The channel of `Distress`.
        is_over: Asked after each word and each silence; the subscription ends when it says so.

    Raises:
        RedisError: The connection is lost, or the server has been silent for too long.
        OSError: As above.
    """
    async with client.pubsub() as subscription:
        with cancellation_heeded():
            await subscription.subscribe(notices, distress)
        is_asked = False
        while not is_over():
            with cancellation_heeded():
                message = await subscription.get_message(timeout=SILENCE_S)
            if message is None:
                if is_asked:
                    raise RedisConnectionError("the server is silent")
                with cancellation_heeded():
                    await subscription.ping("alive")
                is_asked = True
                continue
            is_asked = False
            hint = _hint_of(message, notices)
            if hint is not None or message["type"] == "subscribe":
                yield hint


def _hint_of(message: dict[str, Any], notices: str) -> Notice | Distress | None:
    if message["type"] != "message":
        return None
    data: bytes = message["data"]
    try:
        if message["channel"] != notices.encode():
            return Distress(grant=GrantId(data.decode()))
        said = json.loads(data)
        return Notice(
            grant=GrantId(str(said["grant"])),
            consent_id=ConsentId(str(said["consent"])),
            generation=int(said["generation"]),
            state=GrantState(said["state"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
        return None

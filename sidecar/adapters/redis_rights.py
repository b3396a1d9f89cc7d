"""Whether a user of Redis may do all that the sidecar does: each command is tried once.

On a key of its own below the prefix, which is gone afterwards. What commands do is not checked; a
script needs the rights of what it calls, so those are tried by themselves. It decides nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from redis.exceptions import NoPermissionError, NoScriptError, ResponseError

from sidecar.adapters.redis_server import RedisServer, Word

Ask = Callable[..., Awaitable[Any]]

_READING: Final[tuple[tuple[Word, ...], ...]] = (
    ("PING",),
    ("INFO",),
    ("TIME",),
    ("EVAL", "return 1", 0),
    ("EVALSHA", "0" * 40, 0),
    ("SCAN", 0, "COUNT", 1),
)
"""What names no key, or any; each primary takes it."""

_CHANGING: Final[tuple[tuple[tuple[Word, ...], ...], ...]] = (
    (("SET", "1", "NX", "PX", 60000),),
    (
        ("HSETNX", "name", "1"),
        ("HSET", "name", "2"),
        ("HGET", "name"),
        ("HGETALL",),
        ("HDEL", "name"),
    ),
    (
        ("ZADD", 1, "name"),
        ("ZCARD",),
        ("ZMSCORE", "name"),
        ("ZRANGEBYSCORE", 0, 1),
        ("ZREMRANGEBYSCORE", 0, 0),
        ("ZREM", "name"),
    ),
    (("XADD", "*", "name", "1"), ("XRANGE", "-", "+", "COUNT", 1)),
)
"""What is done to a key, kind of value by kind of value; the key goes after the command."""


async def missing_rights(
    ask: Ask, *, server: RedisServer, scratch: str, channels: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the commands that are forbidden, in upper case; empty if none is.

    Args:
        ask: Has the primary of a key carry out a command: the key first, then its words.
        server: Where the publishing is done.
        scratch: A key that nobody else uses; forbidden keys show as forbidden commands.
        channels: To publish to and to subscribe; nobody reads anything into what is published.

    Raises:
        RedisError: A server does not answer.
        OSError: One cannot be reached.
    """
    missing: list[str] = []

    async def may(name: str, work: Awaitable[Any]) -> bool:
        try:
            await work
        except NoPermissionError:
            missing.append(name)
            return False
        except (NoScriptError, ResponseError):
            return True  # it was let in, and had something else to say
        return True

    for words in _READING:
        await may(str(words[0]), server.ask(*words))
    for channel in channels:
        if not await may("PUBLISH", server.ask("PUBLISH", channel, "")):
            break
    await may("SUBSCRIBE", _subscribe(server.subscriber, channels))
    if await may("DEL", ask(scratch, "DEL", scratch)):  # else what is written would stay
        for kind in _CHANGING:
            for name, *rest in kind:
                await may(str(name), ask(scratch, name, scratch, *rest))
            await may("DEL", ask(scratch, "DEL", scratch))
    return tuple(missing)


async def _subscribe(client: Any, channels: tuple[str, ...]) -> None:
    async with client.pubsub() as subscription:
        await subscription.subscribe(*channels)
        for _ in channels:
            await subscription.get_message(timeout=1.0)
        await subscription.unsubscribe(*channels)

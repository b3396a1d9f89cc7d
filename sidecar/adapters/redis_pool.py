"""The connections to one server: those that live go on serving where it lets in no more.

A server at its `maxclients`, or a process at its limit of descriptors, refuses a new connection and
serves those that it has. redis-py then fails the call that would have opened one, and prefers its
dead connections to its living ones. Here such a call waits for a living one as long as for any
other, and a new one is tried again once in a while. So does a call that may not open one yet,
because as many as may are being opened: it waits here, where it is served by whatever becomes free,
and not with a connection of its own in hand. It does not know what is asked.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from itertools import chain
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from sidecar.adapters.redis_trouble import Refused, trouble_of
from sidecar.domain.store_trouble import StoreTrouble

OPEN_AGAIN_S: Final = 1.0
EXHAUSTED: Final = frozenset(
    {StoreTrouble.MAXCLIENTS, StoreTrouble.DESCRIPTORS, StoreTrouble.RESET, StoreTrouble.TLS}
)
"""Why a connection is not opened where others live; over TLS a full server only hangs up."""

FULL_FRACTION: Final = 0.9
"""Of its connections; those of replicas and of a Cluster count for the server and are not told."""
_TOLD: Final = re.compile(rb"(connected_clients|maxclients):(\d+)")

OnRefused = Callable[[StoreTrouble], None]
"""Is told why no connection was opened, where a living one served instead."""


def unheard(_cause: StoreTrouble) -> None:
    """Let it pass."""


class _NoTurn(Refused):
    """A connection had ended, and another may not be opened yet."""

    def __init__(self) -> None:
        super().__init__(StoreTrouble.POOL)


class PatientPool(BlockingConnectionPool):
    """A pool that waits for one of its living connections where it gets no new one."""

    def __init__(self, *, on_refused: OnRefused = unheard, **chosen: Any) -> None:
        super().__init__(**chosen)  # pyright: ignore[reportUnknownMemberType] - untyped
        self._on_refused = on_refused
        self._refusal = StoreTrouble.POOL
        self._refused_until_s = 0.0

    def for_subscriptions(self) -> PatientPool:
        """Return a pool to the same server for what keeps its connection.

        From this one it would take the last that lives, and keep it from every other call.
        """
        chosen = self.connection_kwargs | {"connection_class": self.connection_class}
        return PatientPool(
            on_refused=self._on_refused, timeout=self.timeout, max_connections=1, **chosen
        )

    def can_get_connection(self) -> bool:
        """Whether one can be had now; asked in the same step in which it is taken."""
        # The last one is taken: a living one if there is any.
        self._available_connections.sort(key=_lives)
        if self._is_refused() and self._has_living():
            return self._has_living_idle()
        return bool(super().can_get_connection()) and (self._has_living_idle() or self.may_open())

    def may_open(self) -> bool:
        """Whether one more connection may be opened now."""
        return True

    async def ensure_connection(self, connection: Any) -> None:
        """Make a connection ready for use, which was taken from the pool.

        Raises:
            RedisError: It could not be opened, or may not be yet.
            OSError: As above.
        """
        if connection.is_connected:
            if await _is_ready(connection):
                return
            await connection.disconnect()
            if not self.may_open():
                raise _NoTurn
        plain: Any = super()
        await plain.ensure_connection(connection)
        async with self._condition:  # others may open one now
            self._condition.notify_all()

    async def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> Any:
        """Return a connection that is ready.

        Raises:
            RedisError: None was opened, or none became free in time.
            OSError: As above.
        """
        del command_name, keys, options
        was_refused = self._is_refused()
        try:
            return await self._taken()
        except (RedisError, OSError) as error:
            if isinstance(error.__cause__, TimeoutError):  # none became free
                if was_refused:
                    raise Refused(self._refusal) from error
                if self._has_living():
                    raise Refused(StoreTrouble.POOL) from error
                raise RedisTimeoutError("no turn to connect") from error
            cause = trouble_of(error)
            if cause not in EXHAUSTED or not self._has_living():
                raise
        self._hold_back(cause)
        try:
            connection = await self._taken()
        except RedisConnectionError as error:
            raise Refused(cause) from error
        try:
            self._hold_back(await _named_by(connection, cause))
        except BaseException:
            await self.release(connection)
            raise
        self._on_refused(self._refusal)
        return connection

    async def _taken(self) -> Any:
        plain: Any = super()
        clock = asyncio.get_running_loop().time
        until_s = clock() + (self.timeout or 0.0)
        while True:
            try:
                return await plain.get_connection()
            except _NoTurn:
                if clock() >= until_s:
                    raise

    def _hold_back(self, cause: StoreTrouble) -> None:
        self._refusal = cause
        self._refused_until_s = asyncio.get_running_loop().time() + OPEN_AGAIN_S

    def _is_refused(self) -> bool:
        return asyncio.get_running_loop().time() < self._refused_until_s

    def _has_living_idle(self) -> bool:
        """Whether the one that would be taken lives; they are sorted."""
        return bool(self._available_connections) and _lives(self._available_connections[-1])

    def _has_living(self) -> bool:
        return any(map(_lives, chain(self._available_connections, self._in_use_connections)))


def _lives(connection: Any) -> bool:
    return bool(connection.is_connected)


async def _is_ready(connection: Any) -> bool:
    """Whether it has not ended, and nothing is left of an earlier answer."""
    try:
        return not await connection.can_read()
    except (RedisError, OSError):
        return False


async def _named_by(connection: Any, cause: StoreTrouble) -> StoreTrouble:
    """Return the cause, by its name where the server can tell that it is full."""
    if cause in (StoreTrouble.MAXCLIENTS, StoreTrouble.DESCRIPTORS):
        return cause
    await connection.send_command("INFO", "clients")
    try:
        told = _TOLD.findall(await connection.read_response())
    except ResponseError:  # INFO is forbidden, which a start would not have gone on with
        return cause
    counts = {name: int(count) for name, count in told}
    most = counts.get(b"maxclients", 0)
    is_full = most and counts.get(b"connected_clients", 0) >= FULL_FRACTION * most
    return StoreTrouble.MAXCLIENTS if is_full else cause

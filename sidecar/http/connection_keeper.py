"""Keeps the connections of one listener few, and tells of those that it closes.

It acts on what `ConnectionTable` decides. It does not know HTTP, or how a connection is accepted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar, final

from sidecar.domain.connection_table import (
    ConnectionTable,
    DropCause,
    ListenerName,
    PeerPatience,
    Stage,
)
from sidecar.domain.events import (
    ConnectionDropped,
    ConnectionsCounted,
    ListenerFilled,
)
from sidecar.ports import Observer

HELD_MAX_BYTES: Final = 16 * 1024 * 1024
"""Of unfinished and pipelined requests, on all connections of a listener together."""


class Droppable(Protocol):
    """A connection."""

    def drop(self) -> None:
        """Close it at once, with whatever is not flushed."""
        ...


DroppableT = TypeVar("DroppableT", bound=Droppable)


@final
class ConnectionKeeper(Generic[DroppableT]):
    """The connections of one listener; made for one event loop, whose time is `now_s`.

    Attributes:
        listener: Its name.
        observer: Who is told.
    """

    def __init__(
        self,
        *,
        listener: ListenerName,
        observer: Observer,
        most: int,
        patience: PeerPatience,
        now_s: Callable[[], float],
    ) -> None:
        """Keep at most `most` connections, and wait for their peers with `patience`."""
        self.listener = listener
        self.observer = observer
        self._most = most
        self._now_s = now_s
        self._table = ConnectionTable[DroppableT](
            most=most, patience=patience, most_held_bytes=HELD_MAX_BYTES
        )
        self._counted = -1

    def __len__(self) -> int:
        return len(self._table)

    def has(self, connection: DroppableT) -> bool:
        """Whether a connection was neither closed nor dropped."""
        return self._table.stage_of(connection) is not None

    def enter(self, connection: DroppableT, stage: Stage) -> None:
        """Note that a connection entered a stage, or began it again."""
        self._table.enter(connection, stage, now_s=self._now_s())

    def leave(self, connection: DroppableT) -> None:
        """Forget a connection; safe to repeat."""
        self._table.leave(connection)

    def hold(self, connection: DroppableT, held_bytes: int) -> None:
        """Note what a connection holds of requests that are not being answered yet."""
        going = self._table.hold(connection, held_bytes)
        if going is not None:
            self.drop(going, DropCause.MEMORY)

    def make_room(self) -> bool:
        """Return whether one more may be taken; another one goes if the listener is full."""
        if not self._table.is_full:
            return True
        if self.free_one():
            return True
        self.observer.observe(ListenerFilled(listener=self.listener, limit=self._most))
        self.tell_dropped(DropCause.FULL)
        return False

    def free_one(self) -> bool:
        """Close an idle connection, or a slow one; return whether there was one."""
        going = self._table.make_room(now_s=self._now_s())
        if going is not None:
            self.drop(going, DropCause.MADE_ROOM)
        return going is not None

    def drop(self, connection: DroppableT, cause: DropCause) -> None:
        """Close a connection now, and tell why."""
        self._table.leave(connection)
        self.tell_dropped(cause)
        connection.drop()

    def tell_dropped(self, cause: DropCause) -> None:
        """Tell why a connection was closed or not taken."""
        self.observer.observe(ConnectionDropped(listener=self.listener, cause=cause))

    def sweep(self) -> None:
        """Close the connections whose time is over, and tell how many there are."""
        for connection, cause in self._table.late(now_s=self._now_s()):
            self.drop(connection, cause)
        count = len(self._table)
        if count != self._counted:
            self._counted = count
            self.observer.observe(
                ConnectionsCounted(listener=self.listener, connections=count, limit=self._most)
            )

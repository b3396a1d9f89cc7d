"""The connections of one listener: who is in which stage, who is late, and who goes for another.

Each stage keeps its connections in the order in which they entered it, so that the oldest is found
at once, however many there are. It decides and never closes anything; time is an argument.

| stage | what is waited for | whose fault if it takes long |
| --- | --- | --- |
| `HANDSHAKE` | TLS | the peer's |
| `IDLE` | the first byte of a request; aiohttp ends it in time | nobody's |
| `HEAD` | the rest of a head | the peer's |
| `BODY` | more of a body | the peer's; its reader has a deadline of its own |
| `BUSY` | our answer | ours; never closed for another connection |
| `STALLED` | the peer, to read our answer | the peer's |
| `CLOSING` | the peer, to take the last of it | the peer's |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import Final, Generic, TypeVar, final

ConnectionT = TypeVar("ConnectionT")


class ListenerName(StrEnum):
    """The listeners of a sidecar."""

    PROXY = "proxy"
    CONTROL = "control"
    METRICS = "metrics"
    CONNECT = "connect"


class Stage(Enum):
    """What a connection waits for."""

    HANDSHAKE = auto()
    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    BUSY = auto()
    STALLED = auto()
    CLOSING = auto()


class DropCause(StrEnum):
    """Why the sidecar closed a connection, or did not take it."""

    FULL = "full"
    """The listener had as many as it may, and none could go."""
    MADE_ROOM = "made_room"
    """It was idle or slow, and a new one came to a full listener."""
    MEMORY = "memory"
    """Heads that are not whole held all the memory that they may."""
    HANDSHAKE = "handshake"
    """TLS took too long or failed."""
    SLOW_HEAD = "slow_head"
    SLOW_READER = "slow_reader"
    """It did not take its answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerPatience:
    """How long a listener waits for its peers, in seconds.

    Attributes:
        head_s: For the rest of a head, and for TLS, as a whole.
        stalled_s: For a peer to go on reading.
        slow_s: After which a peer that sends a body or reads an answer slowly goes if the listener
            is full.
        has_streams: Whether bodies and answers may be large, so that a peer in the midst of one
            that is not slow is never closed for another one.
    """

    head_s: float = 10.0
    stalled_s: float = 30.0
    slow_s: float = 1.0
    has_streams: bool = False


_CAUSES: Final[Mapping[Stage, DropCause]] = {
    Stage.HANDSHAKE: DropCause.HANDSHAKE,
    Stage.HEAD: DropCause.SLOW_HEAD,
    Stage.STALLED: DropCause.SLOW_READER,
    Stage.CLOSING: DropCause.SLOW_READER,
}
_SHORT: Final = (Stage.IDLE, Stage.HANDSHAKE, Stage.HEAD, Stage.CLOSING)
"""What is over in a moment if the peer wants something; in the order in which they go."""

_LONG: Final = (Stage.BODY, Stage.STALLED)
_FRESH_S: Final = 1.0
"""A connection this young may have sent a request that was not read yet."""


@final
class ConnectionTable(Generic[ConnectionT]):
    """The connections of one listener."""

    def __init__(self, *, most: int, patience: PeerPatience, most_held_bytes: int) -> None:
        """Allow `most` connections, and `most_held_bytes` of unfinished requests in all of them."""
        self.most = most
        self._most_held_bytes = most_held_bytes
        self._held_bytes = 0
        self._held: dict[ConnectionT, int] = {}
        self._stages: dict[ConnectionT, Stage] = {}
        self._since: dict[Stage, dict[ConnectionT, float]] = {stage: {} for stage in Stage}
        self._patience = patience
        self._deadlines = (
            (Stage.HANDSHAKE, patience.head_s),
            (Stage.HEAD, patience.head_s),
            (Stage.STALLED, patience.stalled_s),
            (Stage.CLOSING, patience.stalled_s),
        )

    def __len__(self) -> int:
        return len(self._stages)

    @property
    def is_full(self) -> bool:
        """Whether one more would be one too many."""
        return len(self._stages) >= self.most

    def stage_of(self, connection: ConnectionT) -> Stage | None:
        """Return the stage of a connection, ``None`` if it is not in the table."""
        return self._stages.get(connection)

    def enter(self, connection: ConnectionT, stage: Stage, *, now_s: float) -> None:
        """Note that a connection entered a stage, or began it again."""
        before = self._stages.get(connection)
        if before is not None:
            del self._since[before][connection]
        self._stages[connection] = stage
        self._since[stage][connection] = now_s

    def leave(self, connection: ConnectionT) -> None:
        """Forget a connection; safe to repeat."""
        stage = self._stages.pop(connection, None)
        if stage is not None:
            del self._since[stage][connection]
        self._held_bytes -= self._held.pop(connection, 0)

    def hold(self, connection: ConnectionT, held_bytes: int) -> ConnectionT | None:
        """Note what a connection holds of requests that are not being answered yet.

        Returns:
            The connection to close because all of them hold too much, or ``None``.
        """
        self._held_bytes += held_bytes - self._held.get(connection, 0)
        if held_bytes:
            self._held[connection] = held_bytes
        else:
            self._held.pop(connection, None)
        if self._held_bytes <= self._most_held_bytes:
            return None
        # The oldest of them: what an honest client sends is whole in a moment.
        return next(iter(self._held))

    def make_room(self, *, now_s: float) -> ConnectionT | None:
        """Return the connection that goes for a new one; ``None``: none may."""
        going = self._oldest_of(_SHORT, before_s=now_s - _FRESH_S)
        if going is None:
            going = self._oldest_of(_LONG, before_s=now_s - self._patience.slow_s)
        if going is None:
            going = self._oldest_of(_SHORT, before_s=now_s)
        if going is None and not self._patience.has_streams:
            going = self._oldest_of(_LONG, before_s=now_s)
        return going

    def _oldest_of(self, stages: Sequence[Stage], *, before_s: float) -> ConnectionT | None:
        """Return who has been in the first of these stages for longest, if since `before_s`."""
        for stage in stages:
            for connection, since_s in self._since[stage].items():
                if since_s <= before_s:
                    return connection
                break
        return None

    def late(self, *, now_s: float) -> list[tuple[ConnectionT, DropCause]]:
        """Return the connections whose time is over, and why."""
        found: list[tuple[ConnectionT, DropCause]] = []
        for stage, patience_s in self._deadlines:
            for connection, since_s in self._since[stage].items():
                if now_s - since_s < patience_s:
                    break
                found.append((connection, _CAUSES[stage]))
        return found

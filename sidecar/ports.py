"""What the services need of the outside world, as Protocols with their obligations.

An implementation may raise only what its docstring names. `tests/contract` holds the suites that
every store and every spool must pass.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from sidecar.domain.commands import Command, Incarnation, Pulse, VerdictT_co
from sidecar.domain.events import Event
from sidecar.domain.notices import Distress, FeedEntry, Notice
from sidecar.domain.record import GrantId, GrantKey, GrantRecord, GrantState, RunId
from sidecar.domain.scheduling import DueGrant
from sidecar.domain.sealing import KeyName, SealContext
from sidecar.domain.secret import Secret
from sidecar.domain.spooled import SpoolEntry, SpoolState
from sidecar.domain.store_trouble import StoreTrouble
from sidecar.domain.throttle import Throttle, ThrottleStep
from sidecar.domain.tracing import SpanName, TraceParent
from sidecar.domain.wire import TokenReply, TokenRequest


class SidecarError(Exception):
    """Root of what a caller cannot decide about; never carries a token."""


class StoreUnavailable(SidecarError):
    """The store did not carry out a command, or its answer did not arrive; it may have run.

    Attributes:
        cause: Why, as far as is known.
    """

    def __init__(self, error: str = "", *, cause: StoreTrouble = StoreTrouble.ERROR) -> None:
        super().__init__(error)
        self.cause = cause


class SpoolError(SidecarError):
    """The spool could not be written; nothing may leave this sidecar."""

    def __init__(self, errno_name: str) -> None:
        super().__init__(f"the spool cannot be written: {errno_name}")
        self.errno_name = errno_name


class SealError(SidecarError):
    """An envelope cannot be opened: an unknown key, damage, or an envelope of another place."""

    def __init__(self, key_id: str) -> None:
        super().__init__("an envelope cannot be opened with the keys of this sidecar")
        self.key_id = key_id


class Clock(Protocol):
    """Time, from outside."""

    def now_s(self) -> float:
        """Wall clock in seconds since the epoch; for people and for Akoya's instants only."""
        ...

    def elapsed_s(self) -> float:
        """Seconds that go on through a suspend and never step (CLOCK_BOOTTIME)."""
        ...


class Entropy(Protocol):
    """Chance, from outside."""

    def new_id(self) -> str:
        """Return 128 unpredictable bits as 32 hex digits."""
        ...

    def fraction(self) -> float:
        """Return a number in [0, 1) for jitter."""
        ...


class Sealer(Protocol):
    """Seals and names what must not be seen; knows the keys, and nothing of grants."""

    def seal(self, plaintext: bytes, *, context: SealContext) -> bytes:
        """Return an envelope that only `context` opens, sealed with the first key."""
        ...

    def open(self, envelope: bytes, *, context: SealContext) -> bytes:
        """Return the plaintext.

        Raises:
            SealError: The key is unknown or the envelope is not of this context.
        """
        ...

    def is_current(self, envelope: bytes) -> bool:
        """Whether the envelope was sealed with the first key."""
        ...

    def grant_id(self, key: GrantKey) -> GrantId:
        """Return the keyed hash that names the grant everywhere."""
        ...

    def fingerprint(self, refresh_token: Secret) -> str:
        """Return a keyed fingerprint; equal only for equal tokens; never to be logged."""
        ...

    def proofs(self) -> Mapping[KeyName, str]:
        """Return a one-way proof of each key: equal only for equal keys of one app.

        It tells nothing of the key, so it may lie in the store.
        """
        ...


class Agenda(Protocol):
    """The fleet's schedule: when each grant is due, and when it was last used.

    It is advice and may be lost: `TokenStore.apply` decides what is done, and a sweep over all
    records brings back what is missing. It is cut into `sidecar.domain.scheduling.SHARDS` shards;
    whoever calls names the right one. Each method may raise `StoreUnavailable` and nothing else.
    """

    async def schedule(
        self, shard: int, due: Mapping[GrantId, int], *, only_sooner: bool = False
    ) -> int:
        """Note when grants of one shard are due (ms); return how many instants that changed.

        With `only_sooner`, a grant that is due earlier than that already stays as it is.
        """
        ...

    async def unschedule(self, shard: int, grants: Collection[GrantId]) -> None:
        """Strike grants of one shard from the schedule."""
        ...

    async def take_due(self, shard: int, limit: int, *, retake_ms: int) -> Sequence[DueGrant]:
        """Return what is due of one shard, the oldest first, at most `limit`.

        Whoever takes a grant has it alone for `retake_ms`; then it is due again, unless its instant
        was changed meanwhile.
        """
        ...

    async def note_uses(self, shard: int, uses: Mapping[GrantId, int]) -> None:
        """Note when grants of one shard were last used (ms); an earlier instant changes nothing."""
        ...

    async def last_uses(self, shard: int, grants: Sequence[GrantId]) -> Mapping[GrantId, int]:
        """Return when grants of one shard were last used, as far as somebody noted it."""
        ...

    async def forget_uses(self, shard: int, *, before_ms: int) -> None:
        """Forget every use of one shard before an instant."""
        ...


class Deposits(Protocol):
    """Envelopes that anybody of the fleet takes out, but only once, and that vanish by themselves.

    Each method may raise `StoreUnavailable` and nothing else. A name is a keyed hash: whoever can
    read the store learns no link and no ``state`` from it.

    Contract suite: `tests/contract/test_deposits.py`.
    """

    async def deposit(self, name: str, envelope: bytes, *, ttl_ms: int) -> None:
        """Keep an envelope for `ttl_ms`; a name is used once, but for putting back what was taken.

        Safe to repeat.
        """
        ...

    async def peek(self, name: str) -> bytes | None:
        """Return the envelope and leave it there; ``None``: it is gone or never was."""
        ...

    async def take(self, name: str) -> bytes | None:
        """Return the envelope to one caller alone; ``None``: it is gone or never was.

        Not safe to repeat: where the answer was lost, the envelope may be gone.
        """
        ...


class TokenStore(Agenda, Protocol):
    """The fleet's memory of grants. Each method may raise `StoreUnavailable` and nothing else.

    Contract suite: `tests/contract/test_token_store.py`.
    """

    async def read(self, grant: GrantId) -> GrantRecord | None:
        """Return the record, or ``None``."""
        ...

    async def read_each(self, grants: Sequence[GrantId]) -> Mapping[GrantId, GrantRecord | None]:
        """Return the records of many grants, in a few calls.

        A grant that could not be read is left out. `StoreUnavailable` only where none could.
        """
        ...

    async def apply(self, grant: GrantId, command: Command[VerdictT_co]) -> VerdictT_co:
        """Carry out one command atomically, at the store's clock and incarnation.

        Must be safe to repeat with the same command: see `sidecar.domain.commands`.
        """
        ...

    async def scan(
        self, cursor: str, limit: int
    ) -> tuple[str, Sequence[tuple[GrantId, GrantRecord]]]:
        """Return a page of records and the next cursor (``""`` at the end and for the start).

        Each record is seen at least once in a full scan; the order is not promised.
        """
        ...

    async def probe(self) -> Pulse:
        """Return the store's clock and incarnations; proves that it answers.

        A store of several servers answers if one of them does; the rest are left out.
        """
        ...

    async def meet(self, run_id: RunId) -> Incarnation:
        """Announce an incarnation to the fleet; return when it was first met."""
        ...

    async def agree(self, name: str, value: str) -> str:
        """Return what the fleet holds for `name`: `value`, unless a peer proposed another first.

        What was agreed on never changes while the store remembers it.
        """
        ...

    async def agreement_on(self, name: str) -> str | None:
        """Return what the fleet holds for `name`; ``None``: nothing was agreed on yet."""
        ...

    async def take_canary(self, name: str, ttl_ms: int) -> bool:
        """Return whether the caller alone in the fleet may try, once in `ttl_ms`."""
        ...

    async def throttle(self, step: ThrottleStep) -> tuple[Throttle, bool]:
        """Take one step on the fleet's throttle; return what `sidecar.domain.throttle` says."""
        ...

    async def reserve_settlement(self, grant: GrantId, *, window_ms: int, most: int | None) -> bool:
        """Return whether the grant may be settled: it is one of at most `most` in any window.

        Safe to repeat: a grant has one reservation in a window, whoever asks for it.

        Args:
            grant: Which grant.
            window_ms: How long a reservation counts.
            most: ``None``: any number.
        """
        ...

    async def tell(self, grant: GrantId, state: GrantState, reason: str) -> None:
        """Append a change of state to the feed (bounded; the oldest entries fall off)."""
        ...

    async def feed(self, cursor: str, limit: int) -> Sequence[FeedEntry]:
        """Return entries after `cursor` (``""``: from the oldest), in order."""
        ...

    async def call_fleet(self, grant: GrantId) -> None:
        """Ask every peer to offer its newest pair of this grant (`Distress`)."""
        ...

    def listen(self) -> AsyncIterator[Notice | Distress]:
        """Yield hints as they come, reconnecting for ever; ends when closed."""
        ...

    async def close(self) -> None:
        """Let every connection go."""
        ...


class Spool(Protocol):
    """Durable local memory; synchronous, since no await may lie between an answer and its copy.

    Contract suite: `tests/contract/test_spool.py`.
    """

    @property
    def state(self) -> SpoolState:
        """What the log adds up to; changed by `write` only, so copy what you iterate over."""
        ...

    @property
    def parked_since_s(self) -> float:
        """When the oldest pair that the store has not confirmed was written (wall clock), or 0."""
        ...

    @property
    def fault(self) -> str:
        """Why the next durable write is expected to fail, as the name of an errno; "": it is not.

        Space is preallocated. After a failure this may try, now and then, to mend the log.
        """
        ...

    @property
    def is_writable(self) -> bool:
        """Whether there is no `fault`; asked before each claim."""
        ...

    def write(self, entry: SpoolEntry, *, durable: bool) -> None:
        """Append `entry` and fold it into `state`; when `durable`, return only once it is on disk.

        Raises:
            SpoolError: It is not there; the fold is as if it were, so that a pair still reaches
                the store from memory.
        """
        ...

    def close(self) -> None:
        """Let the directory go."""
        ...


class IdentityProvider(Protocol):
    """Akoya's token service."""

    async def send(
        self,
        request: TokenRequest,
        *,
        before_send: Callable[[], Awaitable[bool]],
        on_answer: Callable[[TokenReply], None],
    ) -> TokenReply:
        """Send one request on a fresh connection and read its answer without a timer.

        Args:
            request: What to send. Redirects are never followed.
            before_send: Awaited when the connection (TLS included) stands and before the first
                byte; if it returns False, nothing is sent.
            on_answer: Called with the reply in the very step in which its last byte was read or
                the connection broke, before anything is awaited; must not raise.

        Never raises but for cancellation.
        """
        ...


class Observer(Protocol):
    """Tells the operator. Must not raise into the work, and must not block."""

    def observe(self, event: Event) -> None:
        """Take note of one event."""
        ...


class Span(Protocol):
    """Something that takes time and is shown."""

    def fail(self, reason: str) -> None:
        """Show that it failed, and why, in one word of a closed set."""
        ...


class Tracer(Protocol):
    """Shows what takes time as spans of a distributed trace. Must not raise, and must not block.

    A span is the child of the one around it, in whatever task or thread the work goes on. What is
    observed within a span is told with it.
    """

    def serve(self, parent: TraceParent) -> AbstractContextManager[str]:
        """Span one request of a client; gives the trace id to log it under, or ``""``."""
        ...

    def span(self, name: SpanName) -> AbstractContextManager[Span]:
        """Span a part of what the surrounding code does."""
        ...

    def close(self) -> None:
        """Send what is left, for a moment at most; called once, at the end of the process."""
        ...

"""Stops a real sidecar process at a step of a claim, as a debugger would: the steps of section 6.

It is composed around the adapters of a process that only tests start; production has neither a hook
nor a variable for it. A stopped process is then killed or continued by whoever watches it, so that
whatever else goes wrong goes wrong at exactly this step. It decides nothing.

========  ==========================================================================
step      the process stops before
========  ==========================================================================
1         the lease is asked for
2         it looks into its own spool again, with the lease in hand
3         the sealed pair is opened
4         the connection is made
5         the intent is noted, with the connection in hand
6         it looks whether the send window is over, with the mark in hand
7         the first byte is written
9         the answer goes to the disk, with its last byte read
10        the pair goes to the disk, with the raw answer there
11        the waiters are woken, with the pair there
12        the pair is offered to the store
13        it notes that the store has it
========  ==========================================================================

Step 8, the wait for the answer, is met from outside: by a line that holds the request back.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Final, final

from sidecar.adapters.file_spool import FileSpool
from sidecar.adapters.http_idp import HttpIdentityProvider
from sidecar.adapters.redis_store import RedisTokenStore
from sidecar.adapters.sealing import AesGcmSealer
from sidecar.domain.commands import Acquire, AdoptOrphan, Commit, Leased, MarkSending
from sidecar.domain.failure import Operation
from sidecar.domain.record import GrantId
from sidecar.domain.sealing import SealContext
from sidecar.domain.spooled import AnswerReceived, PairReceived, SpoolEntry
from sidecar.domain.wire import Answered, TokenReply, TokenRequest

LANE: Final = "claim-lane"
_claimed: ContextVar[GrantId | None] = ContextVar("claimed", default=None)


@final
class Failpoints:
    """Where a process stops: a step for each of some grants, once each."""

    def __init__(self, steps: dict[str, int]) -> None:
        self._steps = steps

    def install(self) -> None:
        """Compose the stops around the adapters of this process."""
        self._around_the_store()
        self._around_the_token_service()
        self._around_the_spool()
        self._around_the_sealer()

    def reach(self, step: int, grant: GrantId | None) -> None:
        """Stop the process if this is the step for this grant."""
        if grant is not None and self._steps.get(grant) == step:
            del self._steps[grant]
            # To this thread and not to the process: whichever thread took it, this one would go on
            # for a while.
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)

    def _around_the_store(self) -> None:
        apply = RedisTokenStore.apply

        async def stopping(store: RedisTokenStore, grant: GrantId, command: Any) -> Any:
            if isinstance(command, Acquire):
                self.reach(1, grant)
            if isinstance(command, Commit) and command.is_live:
                self.reach(12, grant)
            verdict = await apply(store, grant, command)
            if isinstance(command, Acquire | AdoptOrphan) and isinstance(verdict, Leased):
                _claimed.set(grant)
                self.reach(2, grant)
            if isinstance(command, MarkSending):
                self.reach(6, grant)
            if isinstance(command, Commit) and command.is_live:
                self.reach(13, grant)
            return verdict

        RedisTokenStore.apply = stopping  # type: ignore[method-assign, assignment]

    def _around_the_token_service(self) -> None:
        send = HttpIdentityProvider.send

        async def stopping(
            idp: HttpIdentityProvider,
            request: TokenRequest,
            *,
            before_send: Callable[[], Awaitable[bool]],
            on_answer: Callable[[TokenReply], None],
        ) -> TokenReply:
            grant = _claimed.get() if request.operation is Operation.REFRESH else None

            async def ask() -> bool:
                self.reach(5, grant)
                may_send = await before_send()
                self.reach(7, grant if may_send else None)
                return may_send

            def tell(reply: TokenReply) -> None:
                self.reach(9, grant if isinstance(reply, Answered) else None)
                on_answer(reply)

            self.reach(4, grant)
            return await send(idp, request, before_send=ask, on_answer=tell)

        HttpIdentityProvider.send = stopping  # type: ignore[method-assign, assignment]

    def _around_the_spool(self) -> None:
        write = FileSpool.write

        def stopping(spool: FileSpool, entry: SpoolEntry, *, durable: bool) -> None:
            write(spool, entry, durable=durable)
            if isinstance(entry, AnswerReceived):
                self.reach(10, entry.grant)
            if isinstance(entry, PairReceived) and entry.claim_id is not None:
                self.reach(11, entry.grant)

        FileSpool.write = stopping  # type: ignore[method-assign, assignment]

    def _around_the_sealer(self) -> None:
        opened = AesGcmSealer.open

        def stopping(sealer: AesGcmSealer, envelope: bytes, *, context: SealContext) -> bytes:
            if context.purpose == "pair" and threading.current_thread().name == LANE:
                self.reach(3, context.grant)
            return opened(sealer, envelope, context=context)

        AesGcmSealer.open = stopping  # type: ignore[method-assign, assignment]

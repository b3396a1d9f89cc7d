"""Reads the answers on one connection to the upstream, each to its end and no octet further.

It stands before aiohttp's protocol, which the pool knows the connection by, and feeds it nothing:
what comes is read by the strict rules of `sidecar.domain`. It decides whether the connection may
carry another exchange, and says why an answer is none. It does not know requests.

States: idle (nothing may come), head, body, done (the answer is whole), failed.
"""

from __future__ import annotations

import asyncio
import select
from enum import Enum, auto
from typing import Final, final

from sidecar.domain.answer_heads import (
    HEAD_LIMIT_BYTES,
    FinalHead,
    Framing,
    InterimHead,
    MalformedHead,
    may_become_head,
    read_head,
)
from sidecar.domain.chunks import ChunkedBody
from sidecar.domain.upstream_failures import UpstreamCause
from sidecar.http.answer_body import AnswerBody, AnswerBroken

INTERIM_MAX: Final = 32
"""1xx answers before the final one."""

_HEAD_END: Final = b"\r\n\r\n"


class _State(Enum):
    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    DONE = auto()
    FAILED = auto()


_WAITING: Final = frozenset({_State.HEAD, _State.BODY})


@final
class AnswerReader(asyncio.Protocol):
    """The reading side of one connection.

    Attributes:
        is_reused: The exchange under way is not the first one.
        is_heard: Something of its answer came.
    """

    def __init__(self, *, transport: asyncio.Transport, inner: asyncio.Protocol) -> None:
        self._transport = transport
        self._inner = inner
        self._loop = asyncio.get_running_loop()
        self._state = _State.IDLE
        self._cause = UpstreamCause.CLOSED
        self._kept = b""
        self._is_to_head = False
        self._interims = 0
        self._head: FinalHead | None = None
        self._remaining = 0
        self._chunks = ChunkedBody()
        self._body = AnswerBody(self)
        self._has_surplus = False
        self._waiter: asyncio.Future[None] | None = None
        self._is_paused = False
        self._silence_s = 0.0
        self._since_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.is_reused = False
        self.is_heard = False

    # --- for whoever asks ---

    def expect(self, *, is_to_head: bool, silence_s: float) -> None:
        """Begin an exchange: an answer may come from now on.

        Args:
            is_to_head: It answers a HEAD request.
            silence_s: How long its body may pause, and how long its head may take once the
                request is sent.
        """
        self.is_reused = self._head is not None
        self.is_heard = False
        self._state = _State.HEAD
        self._is_to_head = is_to_head
        self._interims = 0
        self._head = None
        self._body = AnswerBody(self)
        self._silence_s = silence_s

    def wait_from_now(self) -> None:
        """Begin to measure silence: the request is sent. Interim answers do not break it."""
        self._since_s = self._loop.time()
        if self._timer is None and self._state in _WAITING:
            self._timer = self._loop.call_later(self._silence_s, self._look_at_silence)

    async def head(self) -> tuple[FinalHead, AnswerBody]:
        """Return the final answer's head, and its body on its way.

        Raises:
            AnswerBroken: There is none.
        """
        if self._state is _State.HEAD:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._state is _State.FAILED or self._head is None:
            raise AnswerBroken(self._cause)
        return self._head, self._body

    @property
    def may_go_on(self) -> bool:
        """Whether the connection may carry another exchange: all was read, and nothing else."""
        return (
            self._state is _State.DONE
            and not self._has_surplus
            and self._head is not None
            and self._head.is_followed
            and not self._transport.is_closing()
        )

    def go_idle(self) -> None:
        """End an exchange after which `may_go_on`: whatever comes now ends the connection."""
        self._state = _State.IDLE

    def is_quiet(self) -> bool:
        """Whether nothing came while it lay idle, not even its end, not even in the kernel."""
        if self._state is not _State.IDLE or self._transport.is_closing():
            return False
        unread = select.poll()
        unread.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not unread.poll(0)

    def give_up(self, cause: UpstreamCause) -> None:
        """End the exchange and the connection."""
        self._fail(cause)
        self._transport.abort()

    # --- for the body ---

    def pause(self) -> None:
        """Read no more for now: the client is slower."""
        self._is_paused = True
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        self._is_paused = False
        self._since_s = self._loop.time()
        if not self._transport.is_closing():
            self._transport.resume_reading()

    # --- for the transport ---

    def data_received(self, data: bytes) -> None:
        """Read what came, as far as it belongs to the answer."""
        self.is_heard = True
        match self._state:
            case _State.HEAD:
                self._take_head(data)
            case _State.BODY:
                self._since_s = self._loop.time()
                self._take_body(data)
            case _State.DONE:
                self._has_surplus = True
            case _State.IDLE | _State.FAILED:
                # Nobody asked: it must not be taken for the next answer.
                self._state = _State.FAILED
                self._transport.abort()

    def eof_received(self) -> bool | None:
        """The upstream will send no more."""
        self._end(UpstreamCause.CLOSED)
        return self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._end(UpstreamCause.CLOSED if exc is None else UpstreamCause.RESET)
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """The send buffer is full."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """The send buffer has room again."""
        self._inner.resume_writing()

    # --- reading ---

    def _take_head(self, data: bytes) -> None:
        while self._state is _State.HEAD:
            searched = max(0, len(self._kept) - len(_HEAD_END))
            data, self._kept = self._kept + data, b""
            end = data.find(_HEAD_END, searched, HEAD_LIMIT_BYTES)
            if end < 0:
                self._keep_head(data)
                return
            end += len(_HEAD_END)
            head, data = data[:end], data[end:]
            self._take_whole_head(head)
        if data:
            self._take_rest(data)

    def _keep_head(self, beginning: bytes) -> None:
        if len(beginning) < HEAD_LIMIT_BYTES and may_become_head(beginning):
            self._kept = beginning
        else:
            self.give_up(UpstreamCause.MALFORMED_ANSWER)

    def _take_rest(self, data: bytes) -> None:
        if self._state is _State.BODY:
            self._take_body(data)
        elif self._state is _State.DONE:
            self._has_surplus = True

    def _take_whole_head(self, head: bytes) -> None:
        read = read_head(head, is_to_head=self._is_to_head)
        match read:
            case InterimHead():
                self._interims += 1
                if self._interims > INTERIM_MAX:
                    self.give_up(UpstreamCause.MALFORMED_ANSWER)
            case MalformedHead():
                self.give_up(UpstreamCause.MALFORMED_ANSWER)
            case FinalHead():
                self._head = read
                self._state = _State.BODY
                self._remaining = read.length
                self.wait_from_now()
                if read.framing is Framing.CHUNKED:
                    self._chunks = ChunkedBody()
                elif read.framing is not Framing.CLOSE and read.length == 0:
                    self._finish()
                self._wake()

    def _take_body(self, data: bytes) -> None:
        framing = Framing.NONE if self._head is None else self._head.framing
        if framing is Framing.CHUNKED:
            if content := self._chunks.take(data):
                self._body.put(content)
            self._has_surplus = self._chunks.has_surplus
            if self._chunks.is_whole:
                self._finish()
            elif self._chunks.is_malformed:
                self.give_up(UpstreamCause.MALFORMED_ANSWER)
        elif framing is Framing.CLOSE:
            self._body.put(data)
        else:
            self._has_surplus = len(data) > self._remaining
            self._body.put(data[: self._remaining] if self._has_surplus else data)
            self._remaining -= min(len(data), self._remaining)
            if not self._remaining:
                self._finish()

    def _finish(self) -> None:
        self._state = _State.DONE
        self._stop_timer()
        self._body.end()

    def _end(self, cause: UpstreamCause) -> None:
        """The other side ended: that is the end of one kind of body, and too early for the rest."""
        is_framed_so = self._head is not None and self._head.framing is Framing.CLOSE
        if self._state is _State.BODY and is_framed_so and cause is UpstreamCause.CLOSED:
            self._finish()
        else:
            self._fail(cause)

    def _fail(self, cause: UpstreamCause) -> None:
        if self._state in _WAITING:
            self._cause = cause
            self._body.break_off(cause)
        if self._state is not _State.DONE:
            self._state = _State.FAILED
        self._stop_timer()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- silence ---

    def _look_at_silence(self) -> None:
        # Checked when it may be over, instead of a new timer for every read.
        self._timer = None
        now_s = self._loop.time()
        due_s = (now_s if self._is_paused else self._since_s) + self._silence_s
        if due_s > now_s:
            self._timer = self._loop.call_at(due_s, self._look_at_silence)
        else:
            self.give_up(UpstreamCause.SILENT)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

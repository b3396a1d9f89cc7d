"""Each of the four listeners of a sidecar, running, for what must hold on all of them alike.

It must not know what a test asserts.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

from sidecar.domain.events import ConnectCompleted, ControlCompleted, Event, RequestCompleted
from tests.support.connect_rig import running_connect
from tests.support.control_rig import CONTROL_KEY, running_control
from tests.support.probes_rig import running_probes
from tests.support.proxy_rig import running_proxy
from tests.support.raw_http import RawMessage, answer

EventT = TypeVar("EventT")
LINK: Final = b"/connect/" + b"0" * 32


class Recording(Protocol):
    """What keeps every event, in each rig."""

    def of(self, kind: type[EventT]) -> list[EventT]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """One listener.

    Attributes:
        get: A GET that it answers with `good`, without its blank line.
        post: The same of a POST, whose body may be anything.
        accounts: One for each request that was answered, malformed ones included; ``None``: it
            keeps none.
        forwarded: What reached the upstream, where there is one.
    """

    port: int
    get: bytes
    post: bytes
    good: int
    observer: Recording
    kept: type[Event] | None
    forwarded: list[RawMessage] = field(default_factory=list[RawMessage])

    @property
    def accounts(self) -> int:
        assert self.kept is not None
        return len(self.observer.of(self.kept))


@asynccontextmanager
async def proxy() -> AsyncGenerator[Listening]:
    async with running_proxy(answer(b"ok")) as rig:
        head = b" /balances/v2/mikomo HTTP/1.1\r\nHost: a\r\nSidecar-User: u-1\r\n"
        yield Listening(
            port=rig.port,
            get=b"GET" + head,
            post=b"POST" + head,
            good=200,
            observer=rig.observer,
            kept=RequestCompleted,
            forwarded=rig.upstream.requests,
        )


@asynccontextmanager
async def control() -> AsyncGenerator[Listening]:
    async with running_control() as rig:
        key = b"Authorization: Bearer " + CONTROL_KEY.encode() + b"\r\n"
        yield Listening(
            port=rig.port,
            get=b"GET /status HTTP/1.1\r\nHost: a\r\n" + key,
            post=b"POST /brake/release HTTP/1.1\r\nHost: a\r\n" + key,
            good=200,
            observer=rig.rig.parts.observer,
            kept=ControlCompleted,
        )


@asynccontextmanager
async def metrics() -> AsyncGenerator[Listening]:
    async with running_probes() as rig:
        yield Listening(
            port=rig.port,
            get=b"GET /livez HTTP/1.1\r\nHost: a\r\n",
            post=b"POST /livez HTTP/1.1\r\nHost: a\r\n",
            good=200,
            observer=rig.observer,
            kept=None,
        )


@asynccontextmanager
async def connect() -> AsyncGenerator[Listening]:
    async with running_connect() as rig:
        yield Listening(
            port=rig.port,
            get=b"GET " + LINK + b" HTTP/1.1\r\nHost: a\r\n",
            post=b"POST " + LINK + b" HTTP/1.1\r\nHost: a\r\n",
            good=410,
            observer=rig.control.rig.parts.observer,
            kept=ConnectCompleted,
        )


LISTENERS: Final[dict[str, Callable[[], AbstractAsyncContextManager[Listening]]]] = {
    "proxy": proxy,
    "control": control,
    "metrics": metrics,
    "connect": connect,
}

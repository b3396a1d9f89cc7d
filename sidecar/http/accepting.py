"""Takes new connections of a listener, as many as it may have, and tells when the system is out.

Both event loops have a way of their own to run out of descriptors: asyncio's logs and waits, and
uvloop closes the listener for good. So the sockets are read here, on either loop in the same way.
It does not know what is served.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from typing import Final, final

from sidecar.domain.connection_table import DropCause, Stage
from sidecar.domain.events import ResourceExhausted
from sidecar.domain.resources import NeededAt, Resource, resource_of_errno
from sidecar.http.connections import ClientConnection, ProxyServer

_AT_ONCE: Final = 4
"""So that what they send is read before as many others come as would make them go again."""

_RETRY_S: Final = 0.25
_SWEEP_S: Final = 0.5
_TLS_CLOSE_S: Final = 5.0


@final
class Acceptor:
    """Accepts on listening sockets of one listener; made inside a running loop.

    It owns a task for each connection that is being opened, and the sockets.
    """

    def __init__(
        self,
        *,
        server: ProxyServer,
        sockets: Sequence[socket.socket],
        tls: ssl.SSLContext | None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._server = server
        self._keeper = server.keeper
        self._sockets = list(sockets)
        self._tls = tls
        self._handshake_s = server.limits.patience.head_s
        self._opening: set[asyncio.Task[None]] = set()
        self._timers: set[asyncio.TimerHandle] = set()
        self._sweeping: asyncio.TimerHandle | None = None

    def start(self, *, backlog: int) -> None:
        """Listen, accept from now on, and close connections whose time is over."""
        for sock in self._sockets:
            sock.setblocking(False)  # noqa: FBT003 - the library's form
            sock.listen(backlog)
            self._loop.add_reader(sock, self._accept, sock)
        self._sweep()

    def stop_accepting(self) -> None:
        """Accept no more; safe to repeat."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        for sock in self._sockets:
            self._loop.remove_reader(sock)
            sock.close()
        self._sockets.clear()

    async def close(self) -> None:
        """Stop accepting, and give up the connections that are still being opened."""
        self.stop_accepting()
        if self._sweeping is not None:
            self._sweeping.cancel()
        opening = list(self._opening)
        for task in opening:
            task.cancel()
        if opening:
            await asyncio.wait(opening)

    def _sweep(self) -> None:
        self._keeper.sweep()
        self._sweeping = self._loop.call_later(_SWEEP_S, self._sweep)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                client, _ = listening.accept()
            except BlockingIOError:
                return
            except OSError as error:
                resource = resource_of_errno(error.errno)
                if resource is None:
                    continue  # that connection is gone already
                self._wait(listening, resource)
                return
            self._take(client)

    def _wait(self, listening: socket.socket, resource: Resource) -> None:
        """Leave new connections in the system's queue for a moment, and give one back meanwhile."""
        self._keeper.observer.observe(ResourceExhausted(resource=resource, where=NeededAt.ACCEPT))
        self._keeper.free_one()
        self._loop.remove_reader(listening)

        def try_again() -> None:
            self._timers.discard(timer)
            self._loop.add_reader(listening, self._accept, listening)

        timer = self._loop.call_later(_RETRY_S, try_again)
        self._timers.add(timer)

    def _take(self, client: socket.socket) -> None:
        if not self._keeper.make_room():
            client.close()
            return
        client.setblocking(False)  # noqa: FBT003 - the library's form
        connection = self._server()
        self._keeper.enter(connection, Stage.IDLE if self._tls is None else Stage.HANDSHAKE)
        task = self._loop.create_task(self._open(client, connection), name="accept")
        connection.abandon = task.cancel
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self, client: socket.socket, connection: ClientConnection) -> None:
        is_tls = self._tls is not None
        try:
            await self._loop.connect_accepted_socket(
                lambda: connection,
                client,
                ssl=self._tls,
                ssl_handshake_timeout=self._handshake_s if is_tls else None,
                ssl_shutdown_timeout=_TLS_CLOSE_S if is_tls else None,
            )
        except OSError:
            if is_tls and self._keeper.has(connection):
                self._keeper.tell_dropped(DropCause.HANDSHAKE)
        finally:
            if connection.transport is None:
                self._keeper.leave(connection)

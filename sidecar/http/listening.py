"""Opens a listener: ``host:port`` or ``unix:/path``, with or without TLS.

It binds and names sockets; what is served and to whom is the server's business.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, cast, final

from aiohttp import web

from sidecar.domain.addresses import ListenAddress, UnixAddress
from sidecar.http.accepting import Acceptor
from sidecar.http.connections import ProxyServer

_BACKLOG: Final = 1024


@final
class Listener:
    """An open listener. `close` stops accepting and lets the runner clean up."""

    def __init__(
        self,
        *,
        runner: web.ServerRunner,
        acceptor: Acceptor,
        sockets: Sequence[socket.socket],
        address: ListenAddress,
    ) -> None:
        self._runner = runner
        self._acceptor = acceptor
        self._address = address
        self._path = address.path if isinstance(address, UnixAddress) else None
        self._port = 0 if self._path is not None else sockets[0].getsockname()[1]
        self._inode = _inode(self._path)

    @property
    def address(self) -> str:
        """``host:port`` with the port that was really bound, or ``unix:/path``."""
        if isinstance(self._address, UnixAddress):
            return str(self._address)
        return str(replace(self._address, port=self._port))

    @property
    def port(self) -> int:
        """The bound TCP port; 0 for a unix socket."""
        return self._port

    async def stop_accepting(self) -> None:
        """Close the door: running connections go on, new ones are refused."""
        self._acceptor.stop_accepting()
        self._remove_path()

    async def close(self) -> None:
        """Stop accepting and clean the runner up (it waits for its own shutdown timeout)."""
        await self.stop_accepting()
        await self._acceptor.close()
        await self._runner.cleanup()

    def _remove_path(self) -> None:
        # Never remove the socket of a successor that took the path over.
        path = self._path
        if path is not None and self._inode is not None and _inode(path) == self._inode:
            Path(path).unlink(missing_ok=True)
        self._inode = None


async def listen(
    runner: web.ServerRunner,
    *,
    address: ListenAddress,
    socket_mode: int = 0o600,
    tls: ssl.SSLContext | None = None,
) -> Listener:
    """Bind `address` and serve `runner`, which is one of a `ProxyServer`, on it.

    Raises:
        OSError: The address cannot be bound; nothing stays open.
    """
    sockets = bind_sockets(address, socket_mode=socket_mode)
    acceptor: Acceptor | None = None
    try:
        await runner.setup()
        acceptor = Acceptor(server=cast("ProxyServer", runner.server), sockets=sockets, tls=tls)
        acceptor.start(backlog=_BACKLOG)
    except BaseException:
        if acceptor is not None:
            await acceptor.close()
        for sock in sockets:
            sock.close()
        await runner.cleanup()
        raise
    return Listener(runner=runner, acceptor=acceptor, sockets=sockets, address=address)


def bind_sockets(address: ListenAddress, *, socket_mode: int = 0o600) -> Sequence[socket.socket]:
    """Bind every socket of `address`; one port for all families of a name.

    Raises:
        OSError: It is taken or not ours.
    """
    if isinstance(address, UnixAddress):
        return (_bind_unix(address.path, socket_mode=socket_mode),)
    found = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    bound: list[socket.socket] = []
    try:
        for family, _, _, _, where in dict.fromkeys(found):
            port: int = bound[0].getsockname()[1] if bound else address.port
            bound.append(_bind_tcp(family, host=str(where[0]), port=port))
    except OSError:
        for sock in bound:
            sock.close()
        raise
    return tuple(bound)


def _bind_tcp(family: int, *, host: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


def _bind_unix(path: str, *, socket_mode: int) -> socket.socket:
    _clear_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Made with its mode: with a later chmod there were a moment in which anybody may connect.
    previous = os.umask(0o777 & ~socket_mode)
    try:
        sock.settimeout(0)
        sock.bind(path)
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(previous)
    return sock


def _clear_stale(path: str) -> None:
    """Remove a socket that nobody listens on; leave anything else alone.

    Raises:
        OSError: Somebody listens there.
    """
    if _inode(path) is None:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink(missing_ok=True)
            return
        except BlockingIOError:
            pass  # somebody listens and is busy: fall through to the refusal
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), path)


def _inode(path: str | None) -> tuple[int, int] | None:
    """Return what names the socket at `path`, or ``None`` where there is none."""
    if path is None:
        return None
    try:
        found = Path(path).lstat()
    except FileNotFoundError:
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISSOCK(found.st_mode) else None

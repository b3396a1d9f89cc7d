"""Many connections at once that misbehave, without a task for each: plain sockets and `select`.

It must not know what a test asserts.
"""

from __future__ import annotations

import selectors
import socket
import ssl
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, cast

GIVE_UP_S: Final = 20.0


@contextmanager
def crowd(
    address: tuple[str, int], *, size: int, sends: bytes = b"", tls: ssl.SSLContext | None = None
) -> Generator[Sequence[socket.socket]]:
    """Open `size` connections; each sends the same and then stays.

    Those that the sidecar closes meanwhile are of no account here.
    """
    sockets = [_connected(address, sends=sends, tls=tls) for _ in range(size)]
    try:
        if tls is None:
            _send_to_all(sockets, sends)
        yield sockets
    finally:
        for sock in sockets:
            sock.close()


def _connected(
    address: tuple[str, int], *, sends: bytes, tls: ssl.SSLContext | None
) -> socket.socket:
    plain = socket.create_connection(address, timeout=GIVE_UP_S)
    if tls is None:
        plain.setblocking(False)  # noqa: FBT003 - the library's form
        return plain
    try:
        wrapped = tls.wrap_socket(plain)
        wrapped.sendall(sends)
    except OSError:
        return plain
    return wrapped


def _send_to_all(sockets: Sequence[socket.socket], sends: bytes) -> None:
    left = dict.fromkeys(sockets, memoryview(sends))
    with selectors.DefaultSelector() as selector:
        for sock in sockets:
            selector.register(sock, selectors.EVENT_WRITE)
        until_s = time.monotonic() + GIVE_UP_S
        while left and time.monotonic() < until_s:
            for key, _ in selector.select(timeout=1):
                sock = cast("socket.socket", key.fileobj)
                try:
                    sent = sock.send(left[sock]) if left[sock] else 0
                except BlockingIOError:
                    continue
                except OSError:
                    sent = len(left[sock])
                left[sock] = left[sock][sent:]
                if not left[sock]:
                    selector.unregister(sock)
                    del left[sock]


def resident_bytes(pid: int) -> int:
    """Return how much memory of a process is resident now."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024

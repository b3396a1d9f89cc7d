"""Whether a killed process still delivers its request: a partition between two network namespaces.

``python -m tests.support.late_delivery`` is the controller. It must run in a network namespace of
its own (``unshare --net``), makes a second one for the token service, and lays a cable between
them. Two senders connect: the sidecar's own client, and the same client with ordinary sockets,
which shows that the experiment can tell. The cable is cut, both send, both are killed, the cable is
mended after a while, and the ordinary request is waited for. The namespaces go with their
processes.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from sidecar.adapters import http_idp
from sidecar.adapters.http_idp import HttpIdentityProvider
from sidecar.domain.failure import Operation
from sidecar.domain.secret import Secret
from sidecar.domain.wire import TokenReply, TokenRequest

SENDERS: Final = ("claim", "ordinary")
SERVICE_ADDRESS: Final = "192.0.2.1"
SENDER_ADDRESS: Final = "192.0.2.2"
PORT: Final = 8080
CONNECTED: Final = b"connected\n"
GO: Final = b"go\n"
ESTABLISHED: Final = "01"
WITHIN_S: Final = 120.0


async def conduct(cut_s: float) -> dict[str, Any]:
    """Carry the experiment out; return what arrived and what the kernel still held."""
    with ExitStack() as stack:
        service = stack.enter_context(_part("service", outside="--net"))
        _lay_cable(service.pid)
        assert await _line(service) == CONNECTED, "the service listens"
        senders = {name: stack.enter_context(_part(name)) for name in SENDERS}
        for sender in senders.values():
            assert await _line(sender) == CONNECTED, "both stand in the open connection"
        _ip("link", "set", "cable-1", "down", at=service.pid)
        for sender in senders.values():
            assert sender.stdin is not None
            sender.stdin.write(GO)
            sender.stdin.flush()
        await _until(lambda: _unacknowledged() == len(SENDERS), "both requests in the kernel")
        for sender in senders.values():
            sender.kill()
            sender.wait()
        held = _unacknowledged()
        await asyncio.sleep(cut_s)
        _ip("link", "set", "cable-1", "up", at=service.pid)
        arrived = [json.loads(await _line(service))]
        await _until(lambda: _unacknowledged() == 0, "the kernel to hold no request any more")
        service.kill()
        assert service.stdout is not None
        arrived += [json.loads(line) for line in service.stdout.read().splitlines()]
    return {"arrived": arrived, "held_after_the_kill": held}


@contextmanager
def _part(role: str, *, outside: str = "") -> Generator[subprocess.Popen[bytes]]:
    """Run one part; `outside`: in a network namespace of its own."""
    command = [sys.executable, "-m", "tests.support.late_delivery", role]
    process = subprocess.Popen(
        ["unshare", outside, *command] if outside else command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _lay_cable(service_pid: int) -> None:
    """Connect this namespace with the service's; it must have left ours by now."""
    ours = Path("/proc/self/ns/net").readlink()
    while Path(f"/proc/{service_pid}/ns/net").readlink() == ours:
        os.sched_yield()
    _ip("link", "add", "cable-0", "type", "veth", "peer", "name", "cable-1")
    _ip("link", "set", "cable-1", "netns", str(service_pid))
    for device, address, pid in (
        ("cable-0", SENDER_ADDRESS, None),
        ("cable-1", SERVICE_ADDRESS, service_pid),
    ):
        _ip("addr", "add", f"{address}/24", "dev", device, at=pid)
        _ip("link", "set", device, "up", at=pid)


def _ip(*words: str, at: int | None = None) -> None:
    inside = [] if at is None else ["nsenter", "--target", str(at), "--net"]
    subprocess.run([*inside, "ip", *words], check=True)


def _unacknowledged() -> int:
    """Return how many connections of this namespace hold bytes that nobody has confirmed."""
    lines = Path("/proc/self/net/tcp").read_text().splitlines()[1:]
    return sum(int(line.split()[4].partition(":")[0], 16) > 0 for line in lines)


async def _line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), WITHIN_S)


async def _until(condition: Any, what: str) -> None:
    deadline_s = asyncio.get_running_loop().time() + WITHIN_S
    while not condition():
        assert asyncio.get_running_loop().time() < deadline_s, f"waited in vain for {what}"
        await asyncio.sleep(0.02)


async def serve() -> None:
    """Be the token service: tell which sender's request arrived, and answer nothing."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received = b""
        while chunk := await reader.read(65536):
            received += chunk
            for name in SENDERS:
                if received.endswith(f"refresh_token={name}".encode()):
                    _tell(json.dumps(name).encode() + b"\n")
        writer.close()

    server = await _listening(take)
    _tell(CONNECTED)
    await server.serve_forever()


async def _listening(take: Any) -> asyncio.Server:
    """Listen on the cable, which is laid meanwhile."""
    while True:
        try:
            return await asyncio.start_server(take, SERVICE_ADDRESS, PORT)
        except OSError:
            await asyncio.sleep(0.02)


async def send(name: str) -> None:
    """Connect, say so, and send the request once told to."""
    if name == "ordinary":
        setattr(http_idp, "claim_socket", _ordinary_socket)  # noqa: B010 - an import of its own
    request = TokenRequest(
        operation=Operation.REFRESH, path="/token", form=(("refresh_token", Secret(name)),)
    )

    async def once_told() -> bool:
        _tell(CONNECTED)
        await asyncio.to_thread(sys.stdin.readline)
        return True

    def on_answer(reply: TokenReply) -> None:
        del reply

    provider = HttpIdentityProvider(
        idp_url=f"http://{SERVICE_ADDRESS}:{PORT}", connect_timeout_s=WITHIN_S
    )
    await provider.send(request, before_send=once_told, on_answer=on_answer)


def _ordinary_socket(address: Any) -> socket.socket:
    family, kind, protocol, _, _ = address
    return socket.socket(family=family, type=kind, proto=protocol)


def _tell(line: bytes) -> None:
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["service"]:
            asyncio.run(serve())
        case ["claim" | "ordinary" as sender]:
            asyncio.run(send(sender))
        case [cut_s]:
            print(json.dumps(asyncio.run(conduct(float(cut_s)))))  # noqa: T201 - the result
        case _:
            sys.exit("which part?")

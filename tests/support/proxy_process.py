"""Runs a proxy in a process of its own, so that its memory can be measured from outside.

`python -m tests.support.proxy_process UPSTREAM_PORT` prints the port it listens on and serves
until its standard input ends.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.proxy_rig import running_proxy
from tests.support.raw_http import answer

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyProcess:
    """A proxy next door."""

    port: int
    pid: int

    def peak_memory_bytes(self) -> int:
        """Return the most memory that was ever resident."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024


@asynccontextmanager
async def running_process(upstream_port: int) -> AsyncGenerator[ProxyProcess]:
    """Start the process; it ends with the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.proxy_process",
        str(upstream_port),
        cwd=REPOSITORY,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = int(await process.stdout.readline())
        yield ProxyProcess(port=port, pid=process.pid)
    finally:
        process.stdin.close()
        await process.wait()


async def serve(upstream_port: int) -> None:
    async with running_proxy(answer(), upstream_port=upstream_port) as rig:
        sys.stdout.write(f"{rig.port}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))

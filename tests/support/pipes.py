"""A pipe as stdout or stderr of a process, which a test reads for as long as it likes.

It must not know what goes through it.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import select
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Self, final

SMALLEST_BYTES: Final = 4096


@final
class Pipe:
    """A pipe that holds four kilobytes.

    Attributes:
        into: The descriptor to write to; close it with `close_into` to see the end.
    """

    def __init__(self) -> None:
        self._out, self.into = os.pipe()
        fcntl.fcntl(self.into, fcntl.F_SETPIPE_SZ, SMALLEST_BYTES)
        self._is_open = {self._out: True, self.into: True}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close_into()
        self.close_out()

    @property
    def out(self) -> int:
        """The descriptor to read from."""
        return self._out

    def fill(self) -> int:
        """Fill it up with empty lines, as a process would whose output no one reads."""
        fcntl.fcntl(self.into, fcntl.F_SETFL, os.O_NONBLOCK)
        filled_bytes = 0
        try:
            while True:
                filled_bytes += os.write(self.into, b"\n")
        except BlockingIOError:
            fcntl.fcntl(self.into, fcntl.F_SETFL, 0)
            return filled_bytes

    def is_full(self) -> bool:
        """Whether a writer would have to wait."""
        return not select.select([], [self.into], [], 0)[1]

    def read_some(self) -> bytes:
        """Read what comes next; nothing at its end."""
        return os.read(self._out, 65536)

    def read_all(self) -> bytes:
        """Read to the end, once no one holds the other side."""
        read = bytearray()
        while some := self.read_some():
            read += some
        return bytes(read)

    def close_into(self) -> None:
        """Let the writing side go."""
        self._close(self.into)

    def close_out(self) -> None:
        """Let the reading side go: writers get an error from now on."""
        self._close(self._out)

    def _close(self, descriptor: int) -> None:
        if self._is_open[descriptor]:
            self._is_open[descriptor] = False
            os.close(descriptor)


Stream = Literal["stdout", "stderr"]


@final
@dataclass
class Outputs:
    """Pipes for stdout and stderr of a process, copied to a file until a test stops to read one.

    Attributes:
        spec: What the process is told besides; see `sidecar_main`.
    """

    stdout: Pipe
    stderr: Pipe
    spec: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def copy_to(self, path: Path) -> None:
        """Copy both to the end of a file from now on, and let the process alone write to them."""
        loop = asyncio.get_running_loop()
        for pipe in (self.stdout, self.stderr):
            pipe.close_into()
            loop.add_reader(pipe.out, self._copy, pipe, path)

    def stop_reading(self, name: Stream) -> Pipe:
        """Read no more from one of them; it stays open."""
        pipe: Pipe = getattr(self, name)
        asyncio.get_running_loop().remove_reader(pipe.out)
        return pipe

    def _copy(self, pipe: Pipe, path: Path) -> None:
        some = pipe.read_some()
        if not some:
            asyncio.get_running_loop().remove_reader(pipe.out)
        with path.open("ab") as log:
            log.write(some)

from __future__ import annotations

import errno
import fcntl
import os
import socket
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from time import monotonic

import pytest

from sidecar.telemetry import line_writer
from sidecar.telemetry.line_writer import LineWriter, Loss, Room
from tests.support.pipes import Pipe

PATIENCE_S = 30


class Rig:
    """A writer, and what it dropped."""

    def __init__(self, descriptor: int, *, lines: int = 100, size_bytes: int = 100_000) -> None:
        self.dropped: Counter[tuple[str, str]] = Counter()
        room = Room(lines=lines, size_bytes=size_bytes)
        self.writer = LineWriter(
            descriptor, dropped=self.drop, ordinary=room, reserve=Room(lines=5, size_bytes=1000)
        )

    def start(self) -> Rig:
        self.writer.start(gap_line=lambda lines: f"gap {lines}\n".encode())
        return self

    def drop(self, level: str, loss: str) -> None:
        self.dropped[level, loss] += 1

    def inform(self, text: str) -> None:
        self.writer.put(text.encode(), level="info", is_kept=False)

    def warn(self, text: str) -> None:
        self.writer.put(text.encode(), level="warning", is_kept=True)

    def close(self) -> bool:
        return self.writer.close(until_s=monotonic() + PATIENCE_S)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    with Pipe() as pipe:
        yield pipe


def drained(rig: Rig, pipe: Pipe) -> list[str]:
    """Read while the writer ends, and return the lines."""
    read = bytearray()
    reader = threading.Thread(target=lambda: read.extend(pipe.read_all()))
    reader.start()
    assert rig.close()
    pipe.close_into()
    reader.join(PATIENCE_S)
    return [line for line in read.decode().split("\n") if line]


def test_lines_come_in_the_order_in_which_they_were_put(pipe: Pipe) -> None:
    """Ordinary lines and those that matter keep their order among one another."""
    rig = Rig(pipe.into).start()
    for number in range(20):
        (rig.warn if number % 5 == 0 else rig.inform)(str(number))

    assert drained(rig, pipe) == [str(number) for number in range(20)]
    assert not rig.dropped


def test_lines_of_several_threads_do_not_mix(pipe: Pipe) -> None:
    """Each line is whole, whichever thread put it, and none of them waits for the reader."""
    rig = Rig(pipe.into, lines=2000, size_bytes=1_000_000).start()

    def put() -> None:
        for number in range(500):
            rig.inform(f"{number} {'p' * 200} {number}")

    threads = [threading.Thread(target=put) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)

    lines = drained(rig, pipe)
    assert len(lines) == 1500
    assert all(line.split()[0] == line.split()[2] for line in lines)


def test_a_pipe_that_no_one_reads_stops_no_one_and_what_was_dropped_is_counted(pipe: Pipe) -> None:
    """Far more lines than pipe and buffer hold are taken or dropped at once, never torn."""
    rig = Rig(pipe.into).start()

    for number in range(5000):
        rig.inform(f"{number:0100}")

    lost = rig.dropped["info", Loss.BUFFER_FULL]
    *lines, gap = drained(rig, pipe)
    assert 4500 < lost == 5000 - len(lines)
    assert all(len(line) == 100 for line in lines)
    assert [int(line) for line in lines] == sorted(int(line) for line in lines)
    assert gap == f"gap {lost}"


def test_lines_that_matter_have_room_of_their_own_and_it_is_bounded_too(pipe: Pipe) -> None:
    """A flood of requests drops no warning; a flood of warnings is dropped and counted too."""
    pipe.fill()
    rig = Rig(pipe.into, lines=10).start()
    for number in range(100):
        rig.inform(f"ordinary {number}")
    for number in range(20):
        rig.warn(f"warning {number}")

    lines = drained(rig, pipe)
    assert [line for line in lines if line.startswith("warning")] == [
        f"warning {number}" for number in range(5)
    ]
    assert rig.dropped == {
        ("info", Loss.BUFFER_FULL): 90,
        ("warning", Loss.BUFFER_FULL): 15,
    }


def test_the_bytes_are_bounded_as_well_as_the_lines(pipe: Pipe) -> None:
    """Few long lines take no more memory than many short ones."""
    pipe.fill()
    rig = Rig(pipe.into, lines=1000, size_bytes=10_000).start()

    for _ in range(100):
        rig.inform("x" * 999)
    rig.inform("y" * 10_000)

    lines = drained(rig, pipe)
    assert [len(line) for line in lines if line.startswith("x")] == [999] * 10
    assert rig.dropped["info", Loss.BUFFER_FULL] == 91


def test_room_comes_back_once_lines_are_written(pipe: Pipe) -> None:
    """A burst that was dropped costs nothing later, and each gap is told once."""
    pipe.fill()
    rig = Rig(pipe.into, lines=3).start()
    for number in range(5):
        rig.inform(f"first {number}")
    read = b""
    while b"gap 2" not in read:
        read += pipe.read_some()

    rig.inform("second")

    assert drained(rig, pipe) == ["second"]


def test_a_line_that_matters_is_written_at_once_with_all_before_it(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ordinary lines wait for one another; a warning waits for nothing."""
    monkeypatch.setattr(line_writer, "COALESCE_S", 3600)
    rig = Rig(pipe.into).start()

    rig.inform("ordinary")
    rig.warn("warning")

    assert pipe.read_some() == b"ordinary\nwarning\n"
    assert rig.close()


def test_ordinary_lines_are_written_though_nothing_hurries_them(pipe: Pipe) -> None:
    """A quiet process shows its lines within a moment."""
    rig = Rig(pipe.into).start()

    rig.inform("ordinary")

    assert pipe.read_some() == b"ordinary\n"
    assert rig.close()


@pytest.mark.parametrize("flags", [os.O_NONBLOCK, 0])
def test_the_flags_of_an_inherited_description_are_respected_and_stay(
    pipe: Pipe, flags: int
) -> None:
    """Other processes share it: a blocking one stays so, and one that is not works as well."""
    fcntl.fcntl(pipe.into, fcntl.F_SETFL, flags)
    before = fcntl.fcntl(pipe.into, fcntl.F_GETFL)
    rig = Rig(pipe.into, lines=1000).start()
    put = [*(f"{number:099}" for number in range(100)), "z" * 9000]
    for line in put:
        rig.inform(line)

    assert fcntl.fcntl(pipe.into, fcntl.F_GETFL) == before
    assert drained(rig, pipe) == put


def test_a_socket_that_takes_a_part_of_a_line_gets_the_rest_too() -> None:
    """Journald's stdout is a socket: a short write tears no line."""
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    ours.setblocking(False)  # noqa: FBT003 - the library's own form
    rig = Rig(ours.fileno(), lines=1000, size_bytes=1_000_000).start()
    sent = [f"{number}{'x' * 20_000}" for number in range(20)]
    for line in sent:
        rig.inform(line)

    read = bytearray()
    while read.count(b"\n") < len(sent):
        read += theirs.recv(65536)
    assert rig.close()

    assert read.decode().splitlines() == sent
    ours.close()
    theirs.close()


def test_a_reader_that_is_gone_is_counted_and_the_next_one_is_served() -> None:
    """EPIPE ends no process and no writer; whoever reads again gets whole lines again."""
    with Pipe() as first, Pipe() as second:
        descriptor = os.dup(first.into)
        rig = Rig(descriptor).start()
        first.close_out()
        rig.warn("lost")
        wait_for(rig, "warning", Loss.WRITE_FAILED)

        os.dup2(second.into, descriptor)
        rig.warn("seen")

        assert second.read_some().startswith(b"seen\n")
        assert rig.close()
        os.close(descriptor)


def test_a_line_that_failed_half_way_does_not_run_into_the_next_one(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full for a moment costs one line, which stays a line of its own."""
    script: list[int | OSError] = [4, OSError(errno.ENOSPC, "no space")]

    def write(descriptor: int, data: memoryview) -> int:
        step = script.pop(0) if script else len(data)
        if isinstance(step, OSError):
            raise step
        return real_write(descriptor, data[:step])

    real_write = os.write
    monkeypatch.setattr(os, "write", write)
    rig = Rig(pipe.into).start()
    rig.warn("torn apart")
    wait_for(rig, "warning", Loss.WRITE_FAILED)

    rig.warn("whole")

    assert drained(rig, pipe) == ["torn", "whole", "gap 1"]
    assert rig.dropped == {("warning", Loss.WRITE_FAILED): 1}


def test_the_end_waits_only_so_long_for_a_reader(pipe: Pipe) -> None:
    """A process that is to end does so, whatever is left."""
    pipe.fill()
    rig = Rig(pipe.into).start()
    rig.warn("never read")

    assert not rig.writer.close(until_s=monotonic() + 0.05)

    assert b"never read\n" in pipe.read_some() + pipe.read_some()
    rig.warn("too late")
    assert rig.close()


def test_a_line_that_is_put_in_the_middle_of_another_put_does_not_wait_for_it(pipe: Pipe) -> None:
    """A finalizer runs anywhere, in the middle of a step of the log too, and may log."""
    rig = Rig(pipe.into, lines=3).start()
    is_nested, interrupted = False, 0

    def interrupt(_frame: object, _event: str, _arg: object) -> None:
        nonlocal is_nested, interrupted
        if not is_nested:
            is_nested = True
            interrupted += 1
            rig.warn("last words")
            is_nested = False

    sys.setprofile(interrupt)
    try:
        for number in range(5):
            rig.inform(str(number))
    finally:
        sys.setprofile(None)

    lines = drained(rig, pipe)
    assert interrupted > 50
    assert lines.count("last words") + rig.dropped["warning", Loss.BUFFER_FULL] == interrupted
    assert rig.dropped["info", Loss.BUFFER_FULL] + sum(line.isdigit() for line in lines) == 5


def wait_for(rig: Rig, level: str, loss: Loss) -> None:
    """Wait until one line was dropped so."""
    deadline_s = monotonic() + PATIENCE_S
    pause = threading.Event()
    while not rig.dropped[level, loss]:
        assert monotonic() < deadline_s
        pause.wait(0.005)

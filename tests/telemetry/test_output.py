from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.pipes import Pipe

ROOT: Final = Path(__file__).parent.parent.parent
CANARY: Final = "canary-5f1e"
WITHIN_S: Final = 20
OPENED: Final = """
import ctypes, faulthandler, gc, logging, os, sys, threading, warnings
from sidecar.telemetry.logging import Level
from sidecar.telemetry.output import ProcessOutput, say
dropped = []
output = ProcessOutput(
    least=Level.INFO, log_format="json", dropped=lambda level, loss: dropped.append((level, loss))
)
"""


def started(script: str, *, stdout: int, stderr: int, options: Sequence[str] = ()) -> Any:
    """Start a process that runs a script with an output of its own."""
    return subprocess.Popen(
        [sys.executable, *options, "-c", OPENED + script],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        env={"PATH": os.defpath},
    )


def written(script: str) -> tuple[list[dict[str, Any]], bytes]:
    """Run a script whose output is read; return the lines of its log, and its stderr."""
    process = started(script, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate(timeout=WITHIN_S)
    assert process.returncode == 0, err
    return [json.loads(line) for line in out.splitlines()], err


def test_whoever_writes_past_the_log_is_seen_in_it_and_no_value_is() -> None:
    """No library and no report of the interpreter reaches a descriptor on its own."""
    lines, err = written(f"""
secret = {CANARY!r}
def fail(*_): int(secret)
with output:
    print("a=", secret)
    sys.stderr.write(f'careful: "{{secret}}" is odd\\n')
    logging.getLogger("x").error("told %s", secret)
    logging.getLogger("unheard").propagate = False
    logging.getLogger("unheard").error("alone")
    warnings.warn(secret)
    one = threading.Thread(target=fail); one.start(); one.join()
    type("Thorny", (), dict(__del__=fail))()
    sys.excepthook(ValueError, ValueError(secret), None)
""")

    assert {line["event"] for line in lines} == {"library.logged"}
    assert [(line["logger"], line["message"]) for line in lines] == [
        ("stdout", "a"),
        ("stderr", "careful"),
        ("x", "told %s"),
        ("unheard", "alone"),
        ("py.warnings", ""),
        ("python", "a thread failed"),
        ("python", "exception ignored"),
        ("python", "uncaught exception"),
    ]
    assert CANARY not in json.dumps(lines) + err.decode()
    assert err == b"the process failed: ValueError\n"


def test_a_traceback_that_a_library_prints_is_its_first_and_its_last_line() -> None:
    """What is in between quotes code, and the last line up to where values begin."""
    lines, _ = written(f"""
with output:
    import traceback
    try:
        int({CANARY!r})
    except ValueError:
        traceback.print_exc()
""")

    assert [line["message"] for line in lines] == [
        "Traceback",
        "ValueError",
    ]


def test_what_is_said_to_people_goes_to_stderr_as_it_is() -> None:
    """Why a process could not start is read by a person, not by a collector of lines."""
    lines, err = written("with output: output.say('SIDECAR_X: is wrong')\nsay('and so on')")

    assert (lines, err) == ([], b"SIDECAR_X: is wrong\nand so on\n")


ENDS: Final[dict[str, tuple[str, int]]] = {
    "returns": ("sys.exit(78)", 78),
    "raises": ("raise RuntimeError('x')", 1),
    "is interrupted": ("raise KeyboardInterrupt", -signal.SIGINT),
}
FLOOD: Final = """
with output:
    for number in range(20_000):
        output.log.write(Level.INFO, "flood", {"number": number})
        if number % 1000 == 0:
            sys.stderr.write("stray\\n")
            os.write(2, b"") if dropped else None
    output.say("last words")
    assert len(dropped) > 10_000, len(dropped)
    END
"""


def socket_pair() -> tuple[int, Callable[[], None]]:
    """Return a full socket, and what lets it go."""
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    ours.settimeout(0)
    try:
        while True:
            ours.send(b"\n" * 4096)
    except BlockingIOError:
        ours.settimeout(None)

    def close() -> None:
        ours.close()
        theirs.close()

    return ours.fileno(), close


def full_pipe() -> tuple[int, Callable[[], None]]:
    """Return a full pipe, and what lets it go."""
    pipe = Pipe()
    pipe.fill()

    def close() -> None:
        pipe.close_into()
        pipe.close_out()

    return pipe.into, close


@pytest.mark.parametrize("make", [full_pipe, socket_pair])
@pytest.mark.parametrize("end", ENDS)
def test_a_process_whose_output_no_one_reads_ends_as_it_was_asked_to(
    make: Callable[[], tuple[int, Callable[[], None]]], end: str
) -> None:
    """Neither its work nor its end waits, and its exit code is not another one."""
    descriptor, close = make()
    process = started(FLOOD.replace("END", ENDS[end][0]), stdout=descriptor, stderr=descriptor)

    try:
        assert process.wait(WITHIN_S) == ENDS[end][1]
    finally:
        process.kill()
        close()


def test_the_last_words_of_a_fault_in_c_do_not_wait() -> None:
    """A process that dies of a signal dies, although no one reads what the interpreter says."""
    with Pipe() as pipe:
        pipe.fill()
        script = "with output: ctypes.string_at(0)"
        process = started(
            script, stdout=subprocess.DEVNULL, stderr=pipe.into, options=["-X", "faulthandler"]
        )
        try:
            assert process.wait(WITHIN_S) == -signal.SIGSEGV
        finally:
            process.kill()


def test_the_last_words_of_a_fault_in_c_are_seen() -> None:
    """Where someone reads, what the interpreter says at its death gets out without help."""
    script = "with output: ctypes.string_at(0)"
    process = started(
        script, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, options=["-X", "faulthandler"]
    )

    _, err = process.communicate(timeout=WITHIN_S)

    assert process.returncode == -signal.SIGSEGV
    assert b"Fatal Python error: Segmentation fault" in err


def test_an_inherited_stderr_keeps_its_flags() -> None:
    """The description is shared with the parent, which may not be ready for one that fails."""
    with Pipe() as pipe:
        process = started("with output: pass", stdout=subprocess.DEVNULL, stderr=pipe.into)
        assert process.wait(WITHIN_S) == 0

        assert os.get_blocking(pipe.into)


@pytest.mark.parametrize(
    "end", ["sys.exit(78)", "raise RuntimeError('x')", "os.kill(os.getpid(), 15)"]
)
def test_the_first_and_the_last_line_are_seen_however_short_the_process(end: str) -> None:
    """What was logged right before the end is written before it, but for a kill."""
    waits = "" if "kill" not in end else "threading.Event().wait(1);"
    script = f"""
with output:
    output.log.write(Level.INFO, "first", {{}})
    output.log.write(Level.INFO, "last", {{}})
    {waits}{end}
"""
    process = started(script, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    out, _ = process.communicate(timeout=WITHIN_S)

    assert [json.loads(line)["event"] for line in out.splitlines()] == ["first", "last"]


@pytest.mark.parametrize("closed", [(0, 1, 2), (1,)])
def test_a_closed_descriptor_is_not_given_to_the_next_file(closed: tuple[int, ...]) -> None:
    """Log lines never end up in the spool or in a socket that got stdout's number."""
    script = (
        OPENED
        + """
descriptor = os.open(os.devnull, os.O_RDONLY)
with output: output.log.write(Level.INFO, "x", {})
os._exit(0 if descriptor > 2 else 1)
"""
    )

    def close() -> None:
        for number in closed:
            os.close(number)

    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={"PATH": os.defpath},
        check=False,
        timeout=WITHIN_S,
        preexec_fn=close,
        capture_output=False,
    )

    assert done.returncode == 0

"""`akoya-sidecar brake`: shows the brake of a fleet, and lets some or all grants go.

It says what the API says, and turns it into an exit code. Before all go, it asks how many users
that is, so that it is not done without a look at the cause.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TextIO, final

from sidecar.console.control import Control, Reply, ask_control
from sidecar.console.exits import DONE, KEY_REFUSED, REFUSED, UNAVAILABLE
from sidecar.console.importing import KEY_REFUSED as KEY_REFUSED_REASON
from sidecar.console.tables import plain, table
from sidecar.console.target import add_options
from sidecar.domain.brake_trial import MOST_LIMIT, USUAL_LIMIT

ON: Final = "on"
OFF: Final = "off"
COUNT_DIFFERS: Final = "count_differs"
WRONG_COMMAND_LINE: Final = 2
UNKNOWN_KEY: Final = "the sidecar does not know this control key"
NO_NUMBER: Final = -1
NOT_RELEASED: Final = "nothing was released"


def main(argv: Sequence[str], environ: Mapping[str, str], *, asked: TextIO | None = None) -> int:
    """Carry out one command; return its exit code, one of `exits`.

    Args:
        argv: The words after ``brake``.
        environ: Where the listener and its key are found.
        asked: Where a person answers; standard input if ``None``.

    Raises:
        SystemExit: Help was asked for (0), or the command line is wrong (2).
    """
    parser = _parser()
    options = parser.parse_args(argv)
    if options.command == "release" and options.confirm is not None and not options.all:
        parser.error("--confirm goes with --all")

    def work(control: Control) -> int:
        return COMMANDS[options.command](_Work(control, options=options, asked=asked or sys.stdin))

    return ask_control(options, environ, work)


@final
class _Work:
    """One command: what was asked for, whom to ask, who answers."""

    def __init__(self, control: Control, *, options: argparse.Namespace, asked: TextIO) -> None:
        self._control = control
        self._options = options
        self._asked = asked

    def show(self) -> int:
        """Show how the brake is; 1 while it is on."""
        reply = self._control.ask("GET", "/brake")
        if reply.is_refusal:
            return self._refused(reply)
        self._print(reply.document)
        return REFUSED if reply.document["state"] == ON else DONE

    def release(self) -> int:
        """Let some grants go, or all."""
        if self._options.all:
            return self._release_all()
        body = {"limit": self._options.limit or USUAL_LIMIT}
        return self._released(self._control.ask("POST", "/brake/release", body=body))

    def _release_all(self) -> int:
        shown = self._control.ask("GET", "/brake")
        if shown.is_refusal:
            return self._refused(shown)
        if shown.document["state"] == OFF:
            self._print(shown.document)
            return DONE
        held_back = shown.document["held_back"]
        if held_back is None:
            sys.stderr.write(f"{NOT_RELEASED}: the grants in doubt are still being counted\n")
            return UNAVAILABLE
        expected = self._options.confirm
        if expected is None:
            expected = self._answer(held_back)
        if expected is None:
            return WRONG_COMMAND_LINE
        if expected != held_back:
            sys.stderr.write(f"{NOT_RELEASED}: {held_back} grants are in doubt\n")
            return REFUSED
        body = {"all": True, "expected": expected}
        return self._released(self._control.ask("POST", "/brake/release", body=body))

    def _answer(self, held_back: int) -> int | None:
        """Return the number that a person types; ``None``: no person is there."""
        if not self._asked.isatty():
            sys.stderr.write(
                f"{NOT_RELEASED}: --all needs --confirm N where no person can be asked\n"
            )
            return None
        sys.stderr.write(
            f"{held_back} users are in doubt. If all are released, each of them that no sidecar "
            "holds a newer token for must link the bank again, and for an hour so must every user "
            f"that Akoya refuses.\nType {held_back} to release all: "
        )
        sys.stderr.flush()
        try:
            typed = self._asked.readline().strip()
        except KeyboardInterrupt:  # the answer is no
            typed = ""
            sys.stderr.write("\n")
        return held_back if typed == str(held_back) else NO_NUMBER

    def _released(self, reply: Reply) -> int:
        if reply.reason == COUNT_DIFFERS:
            held_back = reply.document.get("held_back")
            sys.stderr.write(f"{NOT_RELEASED}: {held_back} grants are in doubt by now\n")
            return REFUSED
        if reply.is_refusal:
            return self._refused(reply)
        self._print(reply.document)
        return DONE

    def _print(self, brake: Mapping[str, Any]) -> None:
        text = f"{json.dumps(brake)}\n" if self._options.json else _rendered(brake)
        sys.stdout.write(text)

    def _refused(self, reply: Reply) -> int:
        is_key = reply.reason == KEY_REFUSED_REASON
        if self._options.json:
            sys.stdout.write(f"{json.dumps(reply.document)}\n")
        else:
            said = f"{reply.status} {reply.reason}: {reply.sentence}".rstrip(": ")
            sys.stderr.write(f"{UNKNOWN_KEY if is_key else plain(said)}\n")
        if is_key:
            return KEY_REFUSED
        return UNAVAILABLE if reply.may_pass else REFUSED


def _rendered(brake: Mapping[str, Any]) -> str:
    trial = brake["trial"]
    told = {
        "state": brake["state"],
        "since": brake["since"],
        "cause": brake["cause"],
        "denied lately": f"{brake['denied']} of {brake['decided']} refreshes",
        "grants in doubt": brake["held_back"],
        "trial": trial
        and f"{trial['decided']} of {trial['limit']} grants decided, {trial['denied']} denied",
        "free until": brake["free_until"],
        "what to do": brake["hint"],
    }
    rows = [(name, str(value)) for name, value in told.items() if value is not None]
    return table(("brake", "now"), rows)


COMMANDS: Final[Mapping[str, Callable[[_Work], int]]] = {
    "show": _Work.show,
    "release": _Work.release,
}


def _parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="akoya-sidecar brake",
        description="Look after the brake of a fleet through the control listener of a sidecar. "
        "It stops claims and settlements when many users seem to lose their consent at once.",
        epilog="Exit codes: 0 done, or not on; 1 it is on, or the sidecar refused; 2 wrong command "
        "line, 69 no answer or not now, 77 control key unknown, 78 no sidecar was asked.",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="command")
    show = commands.add_parser(
        "show", help="show how it is", description="Show whether the brake is on, and why."
    )
    release = commands.add_parser(
        "release",
        help="let some grants go, or all",
        description="Let some grants go. If more than half of them are denied, the brake is "
        "pulled again.",
    )
    for made in (show, release):
        add_options(made)
        made.add_argument("--json", action="store_true", help="one JSON document")
    number = release.add_mutually_exclusive_group()
    number.add_argument(
        "--limit",
        type=_limit,
        metavar="N",
        help=f"let so many grants go, at most {MOST_LIMIT} (default: {USUAL_LIMIT})",
    )
    number.add_argument(
        "--all",
        action="store_true",
        help="let all go, after asking how many users that is; nothing pulls the brake for an hour",
    )
    release.add_argument(
        "--confirm",
        type=_count,
        metavar="N",
        help="with --all, where no person can be asked: how many grants are in doubt",
    )
    return top


def _limit(text: str) -> int:
    number = _count(text)
    if not 1 <= number <= MOST_LIMIT:
        raise ValueError
    return number


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise ValueError
    return int(text)

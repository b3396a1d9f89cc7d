"""`akoya-sidecar grants`: looks after grants through the control listener of a sidecar.

It says what the API says, as a table or as JSON, and turns it into an exit code. It knows no rule
of grants.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO, Final, TextIO, cast, final
from urllib.parse import quote

from sidecar.adapters.system import pause
from sidecar.console.control import Control, Reply, ask_control
from sidecar.console.exits import (
    DONE,
    KEY_REFUSED,
    MISCONFIGURED,
    PARTLY_FAILED,
    REFUSED,
    UNAVAILABLE,
)
from sidecar.console.importing import KEY_REFUSED as KEY_REFUSED_REASON
from sidecar.console.importing import Importer, KeyRefused, Pause, Tally
from sidecar.console.tables import plain, table
from sidecar.console.target import add_options
from sidecar.domain.record import PUBLIC_STATES

COLUMNS: Final = (
    "user",
    "provider",
    "state",
    "generation",
    "id_token_expires_at",
    "refreshed_at",
    "last_error",
)
PAGE: Final = 1000
SHOWN_AT_MOST: Final = 1000
PATIENCE_S: Final = 300.0
PROGRESS_EVERY: Final = 1000
NO_CONTENT: Final = 204
ACCEPTED: Final = 202
Grants = list[Mapping[str, Any]]

UNKNOWN_KEY: Final = "the sidecar does not know this control key"


def main(argv: Sequence[str], environ: Mapping[str, str], *, stop_for: Pause = pause) -> int:
    """Carry out one command; return its exit code, one of `exits`.

    Raises:
        SystemExit: Help was asked for (0), or the command line is wrong (2).
    """
    options = parser().parse_args(argv)

    def work(control: Control) -> int:
        return COMMANDS[options.command](_Work(control, options=options, stop_for=stop_for))

    return ask_control(options, environ, work)


@final
class _Work:
    """One command: what was asked for, whom to ask, where to say what came of it."""

    def __init__(self, control: Control, *, options: argparse.Namespace, stop_for: Pause) -> None:
        self._control = control
        self._options = options
        self._stop_for = stop_for
        self._out: TextIO = sys.stdout
        self._err: TextIO = sys.stderr
        self._told_line = 0

    def list(self) -> int:
        """Show grants, page by page, up to the limit."""
        found: Grants = []
        has_more = False
        for reply in self._pages():
            if reply.is_refusal:
                return self._refused(reply)
            found += reply.document["grants"]
            has_more = len(found) > self._limit or bool(reply.document["cursor"])
            if len(found) >= self._limit:
                break
        shown = found[: self._limit]
        if self._options.json:
            for grant in shown:
                self._json(grant)
        else:
            self._out.write(_table(shown))
        if has_more:
            self._err.write(f"only the first {self._limit} are shown; --all shows every one\n")
        return DONE

    def show(self) -> int:
        """Show one grant."""
        return self._told(self._control.ask("GET", self._path()))

    def refresh(self) -> int:
        """Replace a grant's pair now, also where the sidecar would wait after a failure."""
        query = {"override_backoff": "true"}
        return self._told(self._control.ask("POST", self._path("/refresh"), query=query))

    def invalidate(self) -> int:
        """Mark a grant dead."""
        return self._told(self._control.ask("POST", self._path("/invalidate")))

    def revoke(self) -> int:
        """End a grant, and with ``--purge`` erase it."""
        query = {"purge": "true"} if self._options.purge else {}
        reply = self._control.ask("DELETE", self._path(), query=query)
        if reply.status == NO_CONTENT:
            self._say("erased" if self._options.purge else "revoked", state="revoked")
            return DONE
        if reply.status == ACCEPTED:
            if self._options.json:
                self._json(reply.document)
            else:
                self._out.write(
                    "revoked here; Akoya cannot be told yet: the sidecar keeps the order and "
                    f"tells it again in {reply.document.get('retry_in_s')} s\n"
                )
            return DONE
        return self._refused(reply)

    def load(self) -> int:
        """Import grants from lines of JSON."""
        importer = Importer(
            self._control,
            pause=self._stop_for,
            patience_s=self._options.patience_s,
            is_replacing=self._options.replace,
        )
        tally = Tally()
        try:
            with _opened(self._options.file) as lines:
                for tally in importer.run(lines):
                    self._progress(tally)
        except KeyRefused:
            self._err.write(f"{UNKNOWN_KEY}\n")
            return KEY_REFUSED
        except OSError as error:
            self._err.write(f"the file cannot be read: {error.strerror}\n")
            return MISCONFIGURED
        self._summary(tally)
        if tally.stopped_by:
            return UNAVAILABLE
        return PARTLY_FAILED if tally.failures else DONE

    @property
    def _limit(self) -> int:
        return sys.maxsize if self._options.all else self._options.limit

    def _pages(self) -> Iterator[Reply]:
        """Yield pages until the last one, or a refusal."""
        wanted = {name: getattr(self._options, name) for name in ("state", "provider", "user")}
        cursor = ""
        while True:
            query = {**wanted, "limit": str(PAGE), "cursor": cursor}
            reply = self._control.ask("GET", "/grants", query=query)
            yield reply
            cursor = reply.document.get("cursor") or ""
            if reply.is_refusal or not cursor:
                return

    def _path(self, rest: str = "") -> str:
        provider, user = (quote(name, safe="") for name in self._named)
        return f"/grants/{provider}/{user}{rest}"

    @property
    def _named(self) -> tuple[str, str]:
        return self._options.provider, self._options.user

    def _told(self, reply: Reply) -> int:
        """Show the grant that an answer holds, or say why there is none."""
        if reply.is_refusal:
            return self._refused(reply)
        if self._options.json:
            self._json(reply.document)
            return DONE
        rows = [(name, _cell(name, value)) for name, value in reply.document.items()]
        self._out.write(table(("member", "value"), rows))
        return DONE

    def _refused(self, reply: Reply) -> int:
        if self._options.json:
            self._json(reply.document)
        elif reply.reason == KEY_REFUSED_REASON:
            self._err.write(f"{UNKNOWN_KEY}\n")
        else:
            said = f"{reply.status} {reply.reason}: {reply.sentence}".rstrip(": ")
            self._err.write(f"{plain(said)}\n")
        if reply.reason == KEY_REFUSED_REASON:
            return KEY_REFUSED
        return UNAVAILABLE if reply.may_pass else REFUSED

    def _say(self, sentence: str, *, state: str) -> None:
        if not self._options.json:
            self._out.write(f"{sentence}\n")
            return
        provider, user = self._named
        self._json({"user": user, "provider": provider, "state": state})

    def _json(self, document: Mapping[str, Any]) -> None:
        self._out.write(f"{json.dumps(document)}\n")

    def _progress(self, tally: Tally) -> None:
        """Say how far it is: each failure, and now and then where nothing fails."""
        if tally.failures and not self._options.json:
            latest = tally.failures[-1]
            if latest.line > self._told_line:
                self._err.write(f"{plain(str(latest))}\n")
                self._told_line = latest.line
        if self._err.isatty() or tally.lines % PROGRESS_EVERY == 0:
            end = "\r" if self._err.isatty() else "\n"
            self._err.write(f"{tally.lines} lines, {len(tally.failures)} failed{end}")
            self._err.flush()

    def _summary(self, tally: Tally) -> None:
        if self._options.json:
            self._json(tally.document())
            return
        if tally.stopped_by:
            self._err.write(
                f"{tally.stopped_by}; what is stored stays: run the same import again\n"
            )
        self._out.write(
            f"{tally.lines} lines: {tally.created} new, {tally.kept} replaced or stored before, "
            f"{len(tally.failures)} failed\n"
        )


COMMANDS: Final[Mapping[str, Callable[[_Work], int]]] = {
    "list": _Work.list,
    "show": _Work.show,
    "import": _Work.load,
    "refresh": _Work.refresh,
    "invalidate": _Work.invalidate,
    "revoke": _Work.revoke,
}


def _opened(file: str) -> AbstractContextManager[BinaryIO]:
    if file == "-":
        return nullcontext(sys.stdin.buffer)
    return Path(file).open("rb")


def _table(grants: Sequence[Mapping[str, Any]]) -> str:
    return table(COLUMNS, [[_cell(name, grant.get(name)) for name in COLUMNS] for grant in grants])


def _cell(name: str, value: object) -> str:
    if name == "last_error" and isinstance(value, dict):
        error = cast("Mapping[str, Any]", value)
        return f"{error.get('operation')} {error.get('reason')} at {error.get('at')}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    top = argparse.ArgumentParser(
        prog="akoya-sidecar grants",
        description="Look after grants through the control listener of a running sidecar.",
        epilog="Exit codes: 0 done, 1 the sidecar refused, 2 wrong command line, 65 some lines of "
        "an import failed, 69 no answer or not now, 77 control key unknown, 78 nobody was asked.",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="command")

    def command(name: str, does: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=does, description=f"{does.capitalize()}.")
        add_options(made)
        made.add_argument("--json", action="store_true", help="JSON, one document a line")
        return made

    _list_options(command("list", "show grants, without their tokens"))
    _owner(command("show", "show one grant"))
    _import_options(command("import", "take over tokens from elsewhere, one JSON object a line"))
    _owner(command("refresh", "replace a grant's pair now"))
    _owner(command("invalidate", "mark a grant dead without asking Akoya"))
    revoke = command("revoke", "end a grant here and at Akoya")
    _owner(revoke)
    revoke.add_argument("--purge", action="store_true", help="erase its record too, once it may be")
    return top


def _list_options(made: argparse.ArgumentParser) -> None:
    states = sorted(PUBLIC_STATES)
    made.add_argument("--state", choices=states, default="", help="only in this state")
    made.add_argument("--provider", default="", help="only of this bank")
    made.add_argument("--user", default="", help="only of this user")
    made.add_argument(
        "--limit", type=_count, default=SHOWN_AT_MOST, metavar="N", help="show so many at most"
    )
    made.add_argument("--all", action="store_true", help="show every one")


def _import_options(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "file",
        help='"-" is standard input; a line: {"user", "provider", "id_token", "refresh_token", '
        '"expires_in"?, "consented_at"?}',
    )
    made.add_argument(
        "--replace", action="store_true", help="replace live grants that are not older too"
    )
    made.add_argument(
        "--patience-s",
        type=float,
        default=PATIENCE_S,
        metavar="N",
        help="repeat a line so long while the sidecar cannot (default: %(default)g)",
    )


def _owner(made: argparse.ArgumentParser) -> None:
    made.add_argument("provider", help="Akoya's id of the bank")
    made.add_argument("user", help="your own id of the end user")


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number

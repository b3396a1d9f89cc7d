"""`akoya-sidecar status`: how a running sidecar is, as its status page says it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sidecar.console.control import Control, Reply, ask_control
from sidecar.console.exits import DONE, KEY_REFUSED, REFUSED, UNAVAILABLE
from sidecar.console.importing import KEY_REFUSED as KEY_REFUSED_REASON
from sidecar.console.tables import plain, table
from sidecar.console.target import add_options

BAD: Final = "bad"


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Print how the sidecar is; return 0 if nothing needs a person, else one of `exits`.

    Raises:
        SystemExit: Help was asked for (0), or the command line is wrong (2).
    """
    options = _parser().parse_args(argv)

    def show(control: Control) -> int:
        return _show(control.ask("GET", "/status"), as_json=options.json)

    return ask_control(options, environ, show)


def _show(reply: Reply, *, as_json: bool) -> int:
    if reply.is_refusal:
        sys.stderr.write(plain(f"{reply.status} {reply.reason}: {reply.sentence}") + "\n")
        return KEY_REFUSED if reply.reason == KEY_REFUSED_REASON else UNAVAILABLE
    sys.stdout.write(f"{json.dumps(reply.document)}\n" if as_json else _rendered(reply.document))
    is_bad = any(check["mood"] == BAD for check in reply.document["checks"])
    return REFUSED if is_bad else DONE


def _rendered(status: Mapping[str, Any]) -> str:
    checks = [(each["mood"], each["name"], each["said"]) for each in status["checks"]]
    parts = [table(("mood", "check", "state"), checks)]
    hints = [(each["name"], each["hint"]) for each in status["checks"] if each["hint"]]
    if hints:
        parts.append(table(("check", "what to do"), hints))
    if status["grants"] is None:
        parts.append("grants: another sidecar of the fleet counts them\n")
    else:
        counts = [(state, str(count)) for state, count in status["grants"].items()]
        parts.append(table(("grants", "count"), counts))
    errors = [
        tuple(str(each[name]) for name in ("at", "operation", "reason", "provider", "hint"))
        for each in status["token_errors"]
    ]
    if errors:
        parts.append(table(("at", "operation", "token error", "provider", "hint"), errors))
    return "\n".join(parts)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="akoya-sidecar status",
        description="Show how a running sidecar is: what its status page shows.",
        epilog="Exit codes: 0 nothing needs a person, 1 something does, 2 wrong command line, "
        "69 no answer or not now, 77 control key unknown, 78 nobody was asked.",
    )
    add_options(parser)
    parser.add_argument("--json", action="store_true", help="one JSON document")
    return parser

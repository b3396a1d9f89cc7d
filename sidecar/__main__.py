"""The command line: which command, with which environment, and which exit code.

Each command imports what it needs when it runs, so that ``--help`` and ``healthcheck`` are quick.
It must not know what any command does.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sidecar import __version__

if TYPE_CHECKING:
    from sidecar.settings import Settings

STOPPED: Final = 0
FAULT: Final = 1
WRONG_CONFIGURATION: Final = 78
"""EX_CONFIG of sysexits; EX_IOERR (74), for a spool that cannot be written, is `app`'s."""

Environ = Mapping[str, str]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Raises:
        SystemExit: Help or the version was asked for (0), or the command line is wrong (2).
    """
    words = list(sys.argv[1:] if argv is None else argv)
    environ = os.environ  # noqa: TID251 - read here alone, and handed on
    if words and words[0] in PASSED_ON:
        return PASSED_ON[words[0]].run(words[1:], environ)
    options = _parser().parse_args(words)
    if options.command == "reference":
        return _reference(options.page)
    return COMMANDS[options.command].run(environ)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Command:
    """A command that depends on the environment alone."""

    does: str
    run: Callable[[Environ], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _PassedOn:
    """A command with a command line of its own."""

    does: str
    run: Callable[[Sequence[str], Environ], int]


def _run(environ: Environ) -> int:
    # First of all: what follows takes a second, in which a signal must not end the process.
    from sidecar.adapters.signals import ProcessSignals  # noqa: PLC0415 - not for help

    signals = ProcessSignals.caught()
    from sidecar import app  # noqa: PLC0415 - no other command needs the libraries
    from sidecar.telemetry.output import say  # noqa: PLC0415 - as above

    settings = _settings(environ, tell=say)
    if settings is None:
        return WRONG_CONFIGURATION
    return app.main(settings, environ=dict(environ), signals=signals)


def _settings(environ: Environ, *, tell: Callable[[str], object]) -> Settings | None:
    from sidecar.settings import Settings, load  # noqa: PLC0415 - not for help

    loaded = load(environ)
    if isinstance(loaded, Settings):
        return loaded
    tell("".join(f"{problem}\n" for problem in loaded))
    return None


def _check_config(environ: Environ) -> int:
    settings = _settings(environ, tell=sys.stdout.write)
    if settings is None:
        return WRONG_CONFIGURATION
    from sidecar.app.files import TlsFiles, read_tls_files  # noqa: PLC0415 - as above
    from sidecar.telemetry.tracing import trouble_of  # noqa: PLC0415 - as above

    files = read_tls_files(settings)
    if not isinstance(files, TlsFiles):
        sys.stdout.writelines(f"{problem}\n" for problem in files)
        return WRONG_CONFIGURATION
    trouble = trouble_of(settings.traces)
    if trouble:
        sys.stdout.write(f"SIDECAR_TRACES: {trouble}\n")
        return WRONG_CONFIGURATION
    sys.stdout.write("the configuration is complete\n")
    return STOPPED


def _healthcheck(environ: Environ) -> int:
    from sidecar.healthcheck import check  # noqa: PLC0415 - as above

    is_ready, why = check(environ)
    sys.stdout.write(f"{why}\n")
    return STOPPED if is_ready else FAULT


def _keygen(_environ: Environ) -> int:
    from sidecar.adapters.sealing import generate_keys  # noqa: PLC0415 - as above

    keys = generate_keys()
    sys.stdout.write(f"SIDECAR_ENCRYPTION_KEYS={keys.encryption_keys.reveal()}\n")
    sys.stdout.write(f"SIDECAR_HASH_KEY={keys.hash_key.reveal()}\n")
    sys.stdout.write(f"SIDECAR_CONTROL_KEYS=operator:{keys.control_key.reveal()}\n")
    return STOPPED


def _reference(page: str | None) -> int:
    from sidecar.reference import PAGES  # noqa: PLC0415 - as above

    if page is not None and page not in PAGES:
        sys.stderr.write(f"there is no page {page}; there are {', '.join(PAGES)}\n")
        return FAULT
    for name, render in PAGES.items():
        if page in (None, name):
            sys.stdout.write(render())
    return STOPPED


def _demo(argv: Sequence[str], _environ: Environ) -> int:
    from sidecar import demo  # noqa: PLC0415 - as above

    return demo.main(argv)


def _sandbox(argv: Sequence[str], _environ: Environ) -> int:
    from sidecar.sandbox import command  # noqa: PLC0415 - as above

    return command.main(argv)


def _grants(argv: Sequence[str], environ: Environ) -> int:
    from sidecar.console import grants  # noqa: PLC0415 - as above

    return grants.main(argv, environ)


def _brake(argv: Sequence[str], environ: Environ) -> int:
    from sidecar.console import brake  # noqa: PLC0415 - as above

    return brake.main(argv, environ)


def _doctor(argv: Sequence[str], environ: Environ) -> int:
    from sidecar.console import doctor  # noqa: PLC0415 - as above

    return doctor.main(argv, environ)


def _status(argv: Sequence[str], environ: Environ) -> int:
    from sidecar.console import status  # noqa: PLC0415 - as above

    return status.main(argv, environ)


COMMANDS: Final = {
    "run": _Command(does="serve until SIGTERM, then drain; SIGHUP reads files again", run=_run),
    "check-config": _Command(
        does="print every problem of the environment, never a value", run=_check_config
    ),
    "healthcheck": _Command(does="ask whether the sidecar is ready", run=_healthcheck),
    "keygen": _Command(does="print fresh keys as variables", run=_keygen),
}
PASSED_ON: Final = {
    "status": _PassedOn(does="show how a running sidecar is", run=_status),
    "doctor": _PassedOn(does="check what `run` rests on, and say what to do about it", run=_doctor),
    "grants": _PassedOn(
        does="list, show, import, refresh, invalidate or revoke grants", run=_grants
    ),
    "brake": _PassedOn(does="show the brake of the fleet, or let grants go", run=_brake),
    "demo": _PassedOn(
        does="start a store, the sandbox and the sidecar, and show a token's life", run=_demo
    ),
    "sandbox": _PassedOn(does="run the local Akoya simulator alone", run=_sandbox),
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="akoya-sidecar",
        description="Keeps Akoya's rotating refresh tokens alive for a fleet of microservices.",
        epilog="Configured by environment variables: see `akoya-sidecar reference configuration`. "
        "Exit codes: 0 stopped as asked, 1 a fault, 74 spool not writable, 78 configuration.",
    )
    parser.add_argument("--version", action="version", version=f"akoya-sidecar {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, command in (COMMANDS | PASSED_ON).items():
        commands.add_parser(name, help=command.does, description=command.does)
    reference = commands.add_parser("reference", help="print the generated reference pages")
    reference.add_argument("page", nargs="?", help="one page alone; all of them without it")
    return parser


if __name__ == "__main__":
    sys.exit(main())

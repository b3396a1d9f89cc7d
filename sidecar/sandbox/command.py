"""The command line of the sandbox: options in, a running listener until it is told to stop.

It must not know anything of the sandbox but its settings and how to enter and leave it.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from typing import TYPE_CHECKING, Final

from sidecar.sandbox.settings import SandboxSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

_LISTEN: Final = "127.0.0.1:9090"
_CANNOT_LISTEN: Final = 1
_NUMBERS: Final = (
    ("id-token-life-s", "seconds an id_token lives"),
    ("refresh-token-life-s", "seconds a refresh token lives; 0: no end"),
    ("code-life-s", "seconds an authorization code lives"),
    ("grace-s", "seconds in which a used refresh token buys further pairs"),
    ("id-token-honoured-s", "seconds after which data answers 602 to an id_token; 0: at its end"),
    ("rate-limit", "data requests a second; 0: any number (Akoya's sandbox has 5)"),
)
_LISTS: Final = (
    ("redirect-uri", "URI", "a registered one, repeatable; none: any http URI of loopback"),
    ("provider-down", "NAME", "a bank that is away, repeatable: 501 for data, 500 for tokens"),
)
_SWITCHES: Final = (
    ("race-error", "answer 500 to a token whose first use is not answered yet, as dex may"),
    ("strict-auth", "take client credentials only where the documentation puts them"),
)


def main(argv: Sequence[str]) -> int:
    """Run a sandbox until SIGTERM or SIGINT; return 0 then, 1 if it cannot listen.

    Raises:
        SystemExit: help was asked for (0) or an option is wrong (2).
    """
    parser = make_parser()
    try:
        settings = settings_of(parser.parse_args(argv))
    except ValueError as error:
        parser.error(str(error))
    return asyncio.run(_serve(settings))


async def _serve(settings: SandboxSettings) -> int:
    from sidecar.sandbox.server import Sandbox  # noqa: PLC0415 - help needs no web framework

    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    try:
        async with Sandbox(settings) as sandbox:
            sys.stdout.write(f"sandbox listening on {sandbox.url}\n")
            sys.stdout.flush()
            await stopped.wait()
    except (OSError, ValueError) as error:
        sys.stderr.write(f"cannot listen on {settings.listen}: {error}\n")
        return _CANNOT_LISTEN
    return 0


def settings_of(options: argparse.Namespace) -> SandboxSettings:
    """Return the settings that parsed options stand for.

    Raises:
        ValueError: one of them is out of its bounds.
    """
    values = dict(vars(options))
    values["redirect_uris"] = tuple(values.pop("redirect_uri"))
    values["providers_down"] = tuple(values.pop("provider_down"))
    return SandboxSettings(**values)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's options."""
    parser = argparse.ArgumentParser(
        prog="akoya-sidecar sandbox",
        description="Run a local Akoya: identity provider, data APIs, faults and a claim ledger.",
        epilog="While it runs, GET / lists its control paths: POST /sandbox/faults arms a fault, or"
        " says how an answer is framed, cut and ended.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    known = SandboxSettings()
    parser.add_argument("--listen", default=_LISTEN, metavar="HOST:PORT", help="port 0: a free one")
    parser.add_argument("--public-url", metavar="URL", help="named in tokens and discovery")
    for name, meaning in _NUMBERS:
        default = getattr(known, name.replace("-", "_"))
        parser.add_argument(f"--{name}", type=float, default=default, metavar="N", help=meaning)
    parser.add_argument("--client-id", default=known.client_id, help="the app")
    parser.add_argument("--client-secret", default=known.client_secret, help="its secret")
    parser.add_argument(
        "--profile",
        choices=("dex", "hydra"),
        default=known.profile,
        help="whose tokens and errors; a used refresh token is refused (dex) or ends its family",
    )
    for name, metavar, meaning in _LISTS:
        parser.add_argument(f"--{name}", action="append", default=[], metavar=metavar, help=meaning)
    for name, meaning in _SWITCHES:
        parser.add_argument(
            f"--{name}",
            action=argparse.BooleanOptionalAction,
            default=getattr(known, name.replace("-", "_")),
            help=meaning,
        )
    parser.add_argument(
        "--key-bits", type=int, default=known.key_bits, metavar="N", help="size of the RSA key"
    )
    return parser

"""`akoya-sidecar doctor`: looks at everything that a sidecar of this environment rests on.

It says of each thing whether it is as it should be, and what to do where it is not. It runs beside
a sidecar or before the first one; it claims no spool, spends no token and settles nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final, final

from sidecar.adapters.system import SystemClock, SystemEntropy
from sidecar.adapters.trust import Trust
from sidecar.app.base import store_of, vault_of
from sidecar.app.lane_side import idp_of
from sidecar.console.akoya_checks import check_akoya, check_data
from sidecar.console.exits import DONE, REFUSED
from sidecar.console.findings import Area, Finding, Verdict, are_good, to_lines
from sidecar.console.local_checks import (
    CA_FILE,
    check_configuration,
    check_spool,
    configuration_problems,
)
from sidecar.console.store_checks import check_store
from sidecar.domain.events import Event
from sidecar.ports import Clock
from sidecar.settings import Settings, load

REST: Final = Finding(
    area=Area.CONFIGURATION,
    subject="the rest",
    verdict=Verdict.UNSEEN,
    found="what is elsewhere is not looked at before this is mended",
)


def main(argv: Sequence[str], environ: Mapping[str, str], *, clock: Clock | None = None) -> int:
    """Look, and print what was found; return 0 if nothing of it needs a person, else 1.

    Raises:
        SystemExit: Help was asked for (0), or the command line is wrong (2).
    """
    options = _parser().parse_args(argv)
    findings = asyncio.run(_examine(environ, clock or SystemClock()))
    is_good = are_good(findings)
    if options.json:
        told = {"good": is_good, "findings": [finding.document() for finding in findings]}
        sys.stdout.write(f"{json.dumps(told)}\n")
    else:
        sys.stdout.write(to_lines(findings))
    return DONE if is_good else REFUSED


async def _examine(environ: Mapping[str, str], clock: Clock) -> tuple[Finding, ...]:
    settings = load(environ)
    if not isinstance(settings, Settings):
        return (*configuration_problems(settings), REST)
    return tuple([finding async for finding in _look(settings, clock)])


async def _look(settings: Settings, clock: Clock) -> AsyncIterator[Finding]:
    entropy = SystemEntropy()
    chosen = check_configuration(settings)
    for finding in (*chosen, *check_spool(settings)):
        yield finding
    if any(finding.subject == CA_FILE for finding in chosen):
        yield REST
        return
    trust = Trust(settings.ca_file)
    store = store_of(settings, trust=trust, observer=_Nobody(), clock=clock)
    try:
        async for finding in check_store(
            store, settings=settings, vault=vault_of(settings), clock=clock, entropy=entropy
        ):
            yield finding
    finally:
        await store.close()
    async for finding in check_akoya(
        idp_of(settings, trust),
        settings=settings,
        tls=trust.context,
        clock=clock,
        entropy=entropy,
    ):
        yield finding
    yield await check_data(settings, trust.context)


@final
class _Nobody:
    """Observes for nobody: what matters becomes a finding."""

    def observe(self, event: Event) -> None:
        """Let it pass."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="akoya-sidecar doctor",
        description="Check everything that `run` with this environment rests on, and say what to "
        "do. Changes nothing and spends no token.",
        epilog="Exit codes: 0 nothing needs a person, 1 something is wrong or risky.",
    )
    parser.add_argument("--json", action="store_true", help="one JSON document")
    return parser

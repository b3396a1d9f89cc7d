"""`make chaos` and its sisters: chaos runs one after the other, their table, and whether they held.

Ends with status 1 if a goal was missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

import aiohttp
import uvloop

from tests.chaos.arena import Arena
from tests.chaos.evidence import Evidence
from tests.chaos.oracle import judge
from tests.chaos.plan import Goals, Mode, Personality, Plan
from tests.chaos.report import Outcome, findings, header, row

QUICK: Final = Plan(mode=Mode.NOREDIS, until_claims=8000, goals=Goals(claims=8000, kills=30))
SHORT: Final = replace(
    QUICK, users=300, seconds=15.0, until_claims=0, goals=Goals(claims=30, kills=3)
)
LONG: Final = replace(
    QUICK,
    sidecars=4,
    users=10_000,
    until_claims=100_000,
    dropped=0.001,
    rarity=3.0,
    goals=Goals(claims=100_000, kills=100),
)
FORMS: Final = {"quick": QUICK, "short": SHORT, "long": LONG}


def carry_out(plan: Plan) -> Outcome:
    """Carry one plan out; what it left is kept only if it shows something."""
    # The load and the lines to Redis share the cores with what they are to hurt.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_carry_out(plan))


async def _carry_out(plan: Plan) -> Outcome:
    directory = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="chaos-"))
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        run = await Arena(plan, directory, session).run()
    outcome = Outcome(plan=plan, tally=run.tally, verdict=judge(run.evidence))
    if outcome.misses:
        await asyncio.to_thread(_keep, run.evidence, directory)
    else:
        await asyncio.to_thread(shutil.rmtree, directory)
    return outcome


def _keep(evidence: Evidence, directory: Path) -> None:
    """Leave the evidence for whoever wants to know more than the findings say."""
    text = json.dumps(asdict(evidence), default=sorted)
    (directory / "evidence.json").write_text(text)
    sys.stderr.write(f"the evidence is kept in {directory}\n")


def tell(plans: Iterable[Plan]) -> int:
    """Carry plans out, telling each as it ends; return the exit status."""
    outcomes: list[Outcome] = []
    sys.stdout.writelines(f"{line}\n" for line in header())
    for plan in plans:
        outcome = carry_out(plan)
        outcomes.append(outcome)
        sys.stdout.write(f"{row(outcome)}\n")
        sys.stdout.flush()
    sys.stdout.write("\n")
    for outcome in outcomes:
        sys.stdout.writelines(f"{line}\n" for line in findings(outcome))
    return 1 if any(outcome.misses for outcome in outcomes) else 0


def main(argv: Sequence[str]) -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--form", choices=FORMS, default="quick", help="size and goals")
    parser.add_argument("--mode", choices=list(Mode), action="append", help="default: all")
    parser.add_argument(
        "--personality", choices=list(Personality), action="append", help="default: dex"
    )
    parser.add_argument("--users", type=int)
    parser.add_argument("--seconds", type=float, help="the goals shrink or grow with it")
    parser.add_argument("--until-claims", type=int)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(argv)
    plan = _sized(FORMS[given.form], given)
    return tell(
        replace(plan, mode=Mode(mode), personality=Personality(personality))
        for personality in given.personality or (Personality.DEX,)
        for mode in given.mode or Mode
    )


def _sized(form: Plan, given: argparse.Namespace) -> Plan:
    """Change the form by what was given."""
    plan = replace(form, seed=given.seed)
    if given.users is not None:
        plan = replace(plan, users=given.users)
    if given.until_claims is not None:
        goals = replace(plan.goals, claims=given.until_claims)
        plan = replace(plan, until_claims=given.until_claims, goals=goals)
    if given.seconds is not None:
        share = given.seconds / form.seconds
        goals = Goals(claims=int(plan.goals.claims * share), kills=int(plan.goals.kills * share))
        plan = replace(plan, seconds=given.seconds, until_claims=goals.claims, goals=goals)
    return plan


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

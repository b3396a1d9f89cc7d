"""`make simulate`: tells many stories on every core and says what became of them.

Exits 1 where a story broke an invariant, or where all of them together did not reach what they are
told for. A seed that failed is told again by ``--replay``, step by step the same.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass
from typing import Final

from tests.simulation.story import tell

CORNERS: Final = (
    "die",
    "stop",
    "leave",
    "roll back",
    "claim taken_over",
    "claim in_doubt",
    "InDoubt",
    "CleanlyDenied",
    "HealingOver",
    "Healed",
    "Quarantined",
    "Forked",
    "Superseded",
    "RevokeSuccessor",
    "doubled",
    "lost",
    "again: answer lost",
    "again: probe past its hold",
    "again: store rolled back",
    "again: stopped before its first byte",
    "due refreshed",
    "due found_newer",
    "due postponed",
    "due idle",
    "due gone",
    "swept",
)
"""What a thousand stories must reach, or they show nothing about it."""
ENOUGH_SEEDS: Final = 1000
REPLAY: Final = "--replay"
CHUNK: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of one story."""

    seed: int
    digest: str
    violations: tuple[str, ...]
    reached: Counter[str]


def result_of(seed: int) -> Result:
    """Tell one story; a fault in telling it is a violation as well."""
    try:
        story = tell(seed)
    except Exception:  # noqa: BLE001 - told with its seed, like any finding
        violations = (traceback.format_exc(),)
        return Result(seed=seed, digest="", violations=violations, reached=Counter())
    if seed % CHUNK == 0:
        gc.collect()
    return Result(
        seed=seed,
        digest=story.digest,
        violations=tuple(story.violations),
        reached=story.reached,
    )


def many(seeds: range, *, processes: int) -> bool:
    """Tell the stories of many seeds; return whether all is well."""
    started_s = time.monotonic()
    reached: Counter[str] = Counter()
    failed: list[Result] = []
    with multiprocessing.Pool(processes, initializer=gc.disable) as pool:
        for number, result in enumerate(pool.imap_unordered(result_of, seeds, CHUNK), start=1):
            reached.update(result.reached)
            if result.violations:
                failed.append(result)
                say_failed(result)
            if number % 1000 == 0:
                say(f"{number} seeds, {number / (time.monotonic() - started_s):.1f} a second")
    took_s = time.monotonic() - started_s
    for name, times in sorted(reached.items()):
        say(f"  {times:>10,}  {name}")
    missed = [name for name in CORNERS if not reached[name]] if len(seeds) >= ENOUGH_SEEDS else []
    if missed:
        say(f"never reached: {', '.join(missed)}")
    say(
        f"{len(seeds):,} seeds, {len(failed)} with violations, {took_s:.0f} s, "
        f"{len(seeds) / took_s:.1f} seeds a second in {processes} processes"
    )
    return not (failed or missed)


def replay(seed: int, *, is_whole: bool) -> bool:
    """Tell one story again, with all that went wrong in it; return whether all is well."""
    story = tell(seed)
    lines = story.whole if is_whole else sorted(story.troubles.told)
    for line in lines:
        say(line)
    for violation in story.violations:
        say(f"VIOLATION at {violation}")
    say(f"seed {seed}: {len(story.violations)} violations, digest {story.digest}")
    return not story.violations


def say_failed(result: Result) -> None:
    """Tell what one story broke and how to see it again."""
    for violation in result.violations:
        say(f"seed {result.seed}: {violation}")
    say(f"  {replay_line(result.seed)}")


def replay_line(seed: int) -> str:
    """Return what to type to see a story again."""
    return f'again: make simulate ARGS="{REPLAY} {seed}"'


def say(line: str) -> None:
    """Print one line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=ENOUGH_SEEDS, help="how many stories")
    parser.add_argument("--first", type=int, default=0, help="the seed of the first one")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument(REPLAY, type=int, help="tell one seed again and show its troubles")
    parser.add_argument("--whole", action="store_true", help="with --replay: every step of it")
    chosen = parser.parse_args()
    if chosen.replay is not None:
        return 0 if replay(chosen.replay, is_whole=chosen.whole) else 1
    seeds = range(chosen.first, chosen.first + chosen.seeds)
    return 0 if many(seeds, processes=chosen.processes) else 1


if __name__ == "__main__":
    raise SystemExit(main())

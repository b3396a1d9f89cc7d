"""The long form of each proof: how much of it is enough, and what its numbers have to be.

It must not know how anything is measured.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final

from tests.proofs.answers import ROWS, cut_everywhere, is_as_read, left_by, random_answer
from tests.proofs.departures import resets, wrong_replies
from tests.proofs.engines import private_redis
from tests.proofs.goals import Goal, Proved, at_most, exactly
from tests.proofs.herd import Herd, herd
from tests.proofs.keys import rotation
from tests.proofs.no_fault import Race, race_in_virtual_time, race_on_redis
from tests.proofs.pauses import pauses
from tests.proofs.scripts import compare_scripts
from tests.proofs.terminations import terminations
from tests.support.virtual_time import VirtualLoop

IDP_LATENCY_S: Final = 1.0
SLOW_IDP_LATENCY_S: Final = 2.0
RANDOM_ANSWERS: Final = 2_000


def scripts() -> Proved:
    """T0: the scripts of Redis and the transitions of Python agree to the last field."""
    with private_redis() as server:
        seen = compare_scripts(redis_url=server.unix_url, steps=200_000)
    return Proved(
        size=f"{seen.steps:,} steps, {seen.doubled:,} of them doubled",
        goals=(exactly("differences", seen.differences, 0),),
    )


def no_fault() -> Proved:
    """T5: eight sidecars race, and attempts are successes."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        virtual = runner.run(
            race_in_virtual_time(sidecars=8, grants=1_000, refreshes=100_000, seed=5)
        )
    with private_redis() as server:
        real = asyncio.run(
            race_on_redis(redis_url=server.unix_url, sidecars=8, grants=1_000, refreshes=5_000)
        )
    return Proved(
        size="8 sidecars, 1,000 users; 100,000 refreshes in virtual time, 5,000 on Redis",
        goals=(*_fair("in virtual time", virtual, 100_000), *_fair("on Redis", real, 5_000)),
    )


def herds() -> Proved:
    """T6: ten thousand callers, one claim."""
    with private_redis() as server:
        one = asyncio.run(
            herd(
                redis_url=server.unix_url,
                sidecars=1,
                callers=10_000,
                answer_after_s=IDP_LATENCY_S,
            )
        )
    with private_redis() as server:
        four = asyncio.run(
            herd(
                redis_url=server.unix_url,
                sidecars=4,
                callers=2_500,
                answer_after_s=IDP_LATENCY_S,
            )
        )
    return Proved(
        size="10,000 callers of 1 sidecar, then 2,500 of each of 4; the IdP takes 1 s",
        goals=(*_cheap("1 sidecar:", one), *_cheap("4 sidecars:", four)),
    )


def departures() -> Proved:
    """T7: nobody who leaves takes anything along."""
    goals: list[Goal] = []
    for is_cancelling in (False, True):
        with private_redis() as server:
            seen = asyncio.run(
                resets(redis_url=server.unix_url, clients=1_000, is_cancelling=is_cancelling)
            )
        kind = "cancelled" if is_cancelling else "left alone"
        goals += [
            exactly(f"handlers {kind}: resets", seen.resets, 1_000),
            exactly("presentations", seen.presentations, 1_000),
            exactly("claims cut short", 1_000 - seen.successes + seen.astray + seen.failures, 0),
        ]
    with private_redis() as server:
        wrong = asyncio.run(
            wrong_replies(redis_url=server.unix_url, prefix="proof", cancels=10_000)
        )
    return Proved(
        size="twice 1,000 client resets in the middle of a refresh; 10,000 cancelled Redis calls",
        goals=(*goals, exactly("wrong replies", wrong, 0)),
    )


def terminated() -> Proved:
    """T8: an end that was asked for costs nothing, and is not waited for longer than its claims."""
    with tempfile.TemporaryDirectory(prefix="sidecar-proof-") as directory:
        seen = asyncio.run(
            terminations(Path(directory), rounds=100, idp_latency_s=SLOW_IDP_LATENCY_S)
        )
    return Proved(
        size=f"{seen.rounds} terminations with {seen.claims} claims in flight; the IdP takes 2 s",
        goals=(
            exactly("lost", seen.lost + seen.repeated, 0),
            exactly("parked", seen.parked, 0),
            exactly("unclean ends", seen.unclean, 0),
            at_most("slowest exit", seen.slowest_s, SLOW_IDP_LATENCY_S + 2, unit=" s"),
        ),
    )


def paused() -> Proved:
    """T9: what lies in the socket of a stopped process is kept."""
    with tempfile.TemporaryDirectory(prefix="sidecar-proof-") as directory:
        seen = asyncio.run(pauses(Path(directory), rounds=50, at_once=10))
    return Proved(
        size="50 claims stopped between request and answer for three times every timer",
        goals=(
            exactly("tokens kept", seen.kept, 50),
            exactly("presentations", seen.presentations, 50),
        ),
    )


def answered() -> Proved:
    """T10: every answer leaves the grant as the table says."""
    odd = [row.what for row in ROWS if left_by(row.answer) != row.after]
    seeds = range(RANDOM_ANSWERS)
    drawn = [random_answer(Random(seed)) for seed in seeds]  # noqa: S311 - repeatable on purpose
    misread = sum(not is_as_read(answer, left_by(answer)) for answer in drawn)
    cuts = [asyncio.run(cut_everywhere(is_chunked=is_chunked)) for is_chunked in (False, True)]
    offsets, closed = sum(cut.offsets for cut in cuts), sum(cut.closed for cut in cuts)
    return Proved(
        size=f"{len(ROWS)} rows, {RANDOM_ANSWERS:,} random answers, {offsets} cuts of a 200",
        goals=(
            exactly("rows astray", len(odd), 0),
            exactly("random answers astray", misread, 0),
            exactly("salvaged", sum(cut.salvaged for cut in cuts), closed),
            exactly("invented", sum(cut.invented for cut in cuts), 0),
        ),
    )


def replaced_keys() -> Proved:
    """T12: a key is replaced under load."""
    with tempfile.TemporaryDirectory(prefix="sidecar-proof-") as directory:
        seen = asyncio.run(rotation(Path(directory), grants=50, refreshes_each=300))
    return Proved(
        size=f"old key, both, new key first; {seen.refreshes:,} refreshes of 50 grants meanwhile",
        goals=(
            exactly("lost", seen.lost + seen.repeated, 0),
            exactly("presented without a key", seen.unopened, 0),
            exactly(f"tokens in the open in {seen.searched_mib:,.0f} MiB", seen.plain, 0),
        ),
    )


PROOFS: Final[dict[str, Callable[[], Proved]]] = {
    "t0": scripts,
    "t5": no_fault,
    "t6": herds,
    "t7": departures,
    "t8": terminated,
    "t9": paused,
    "t10": answered,
    "t12": replaced_keys,
}


def _fair(where: str, seen: Race, refreshes: int) -> tuple[Goal, ...]:
    return (
        exactly(f"{where}: presentations", seen.presentations, refreshes),
        exactly("stale", seen.repeated + seen.refused, 0),
        exactly("grants astray", seen.astray + seen.failures, 0),
    )


def _cheap(where: str, seen: Herd) -> tuple[Goal, ...]:
    return (
        exactly(f"{where} claims", seen.presentations, 1),
        exactly("served", seen.served, 10_000),
        exactly("put off", seen.put_off, 0),
        at_most("p99 of waiting", seen.waited_p99_s, IDP_LATENCY_S + 0.5, unit=" s"),
        at_most("Redis calls of a sidecar", seen.store_calls, 200),
        at_most("memory", seen.grown_mib, 100, unit=" MiB"),
    )

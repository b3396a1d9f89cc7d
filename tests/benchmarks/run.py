"""`make bench`: the sidecar beside a bare aiohttp pass-through and nginx, in turn in one run.

One core for the subject, the other for the load, the store and the upstream (TLS, 4.7 KB of JSON).
Ratios are taken within a round, so that a noisy neighbour hits all subjects alike; the median of
the rounds is told. Exits 1 where a budget is broken.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.benchmarks.subjects import (
    OTHERS_CORE,
    Bench,
    bare,
    bench,
    nginx,
    process,
    sidecar,
    store_grants,
)

RATIO_TO_BARE: Final = 0.85
RSS_MIB: Final = 70.0
GRANT_KIB: Final = 2.0
READY_S: Final = 1.5
STARTS: Final = 5
CALLERS: Final = 16
FILL_CALLERS: Final = 32


@dataclass(frozen=True, kw_only=True)
class Load:
    """What one load measured."""

    rate: float
    p50_ms: float
    p99_ms: float


def load(port: int, *, seconds: float, callers: int, users: int = 0, tls: str = "") -> Load:
    """Load one port from the other core."""
    words = ["load", str(port), str(seconds), str(callers), str(users), tls]
    command = [sys.executable, "-m", "tests.benchmarks.parts", *words]
    with process(command, core=OTHERS_CORE) as started:
        out, _ = started.communicate(timeout=seconds + 600)
    assert started.returncode == 0, "the load failed"
    told = json.loads(out)
    return Load(
        rate=told["requests"] / told["seconds"],
        p50_ms=told["p50_s"] * 1000,
        p99_ms=told["p99_s"] * 1000,
    )


def compare(place: Bench, *, rounds: int, seconds: float) -> bool:
    """Print throughput and latency side by side; return whether the ratio is within budget."""
    store_grants(place, 1)
    subjects: dict[str, int] = {}
    taken: dict[str, list[Load]] = {"direct": [], "bare aiohttp": [], "sidecar": [], "nginx": []}
    alone: dict[str, list[Load]] = {name: [] for name in taken}
    with bare(place) as bare_port, sidecar(place) as measured, nginx(place) as nginx_port:
        subjects = {
            "direct": place.upstream_port,
            "bare aiohttp": bare_port,
            "sidecar": measured.port,
            "nginx": nginx_port,
        }
        for number in range(rounds + 1):
            for name, port in subjects.items():
                tls = str(place.authority) if name == "direct" else ""
                loaded = load(port, seconds=seconds, callers=CALLERS, tls=tls)
                single = load(port, seconds=seconds / 3, callers=1, tls=tls)
                if number:  # the first round warms everything up
                    taken[name].append(loaded)
                    alone[name].append(single)
    return _tell_comparison(taken, alone)


def _tell_comparison(taken: dict[str, list[Load]], alone: dict[str, list[Load]]) -> bool:
    direct_ms = statistics.median(one.p50_ms for one in alone["direct"])
    _line(f"{'':14}{'req/s':>9}{'p50 ms':>9}{'p99 ms':>9}{'added ms, one caller':>22}")
    for name, loads in taken.items():
        added_ms = statistics.median(one.p50_ms for one in alone[name]) - direct_ms
        _line(
            f"{name:14}{statistics.median(one.rate for one in loads):9.0f}"
            f"{statistics.median(one.p50_ms for one in loads):9.2f}"
            f"{statistics.median(one.p99_ms for one in loads):9.2f}{added_ms:22.3f}"
        )
    to_bare = _ratio(taken["sidecar"], taken["bare aiohttp"])
    _line(f"sidecar / bare aiohttp: {to_bare:.2f} (at least {RATIO_TO_BARE})")
    _line(f"sidecar / nginx:        {_ratio(taken['sidecar'], taken['nginx']):.2f}")
    return to_bare >= RATIO_TO_BARE


def _ratio(ours: list[Load], theirs: list[Load]) -> float:
    return statistics.median(a.rate / b.rate for a, b in zip(ours, theirs, strict=True))


def weigh(place: Bench, *, grants: int) -> bool:
    """Print start-up time and memory; return whether they are within budget."""
    ready_s: list[float] = []
    for _ in range(STARTS):
        with sidecar(place) as started:
            ready_s.append(started.ready_after_s)
    store_grants(place, grants)
    with sidecar(place) as measured:
        load(measured.port, seconds=0.5, callers=1)
        one_mib = measured.rss_kib / 1024
        load(measured.port, seconds=0.0, callers=FILL_CALLERS, users=grants)
        each_kib = (measured.rss_kib - one_mib * 1024) / (grants - 1)
    ready = statistics.median(ready_s)
    _line(f"ready after start:         {ready:.2f} s (at most {READY_S})")
    _line(f"RSS with one warm grant:   {one_mib:.1f} MiB (at most {RSS_MIB:.0f})")
    _line(f"each of {grants} cached grants: {each_kib:.2f} KiB (at most {GRANT_KIB:.0f})")
    return ready <= READY_S and one_mib <= RSS_MIB and each_kib <= GRANT_KIB


def main() -> int:
    """Measure everything; return 0 if every budget holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each load")
    parser.add_argument("--grants", type=int, default=100_000, help="0: skip memory")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="akoya-sidecar-bench-") as directory,
        bench(Path(directory)) as place,
    ):
        holds = compare(place, rounds=options.rounds, seconds=options.seconds)
        if options.grants:
            holds &= weigh(place, grants=options.grants)
    return 0 if holds else 1


def _line(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())

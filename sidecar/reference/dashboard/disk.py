"""The row on the spool: what would be lost with one disk."""

from __future__ import annotations

from typing import Final

from sidecar.reference.dashboard.form import Mood, Panel, Query, Row, Unit
from sidecar.reference.dashboard.queries import increase, level, quantile, rate, series
from sidecar.telemetry.catalogue import (
    ANSWER_TO_SPOOL,
    SPOOL_ENTRIES,
    SPOOL_FAILURES,
    SPOOL_OLDEST,
    SPOOL_PARKED,
    SPOOL_WRITABLE,
    SPOOL_WRITE,
    STORE_OPERATIONS,
)

_FAILED_COMMITS: Final = 'operation="commit", outcome="failed"'
_AGE: Final = (
    f"sum by (instance) ((time() - {series(SPOOL_OLDEST.name)})"
    f" * ({series(SPOOL_PARKED.name)} > bool 0))"
)

DISK: Final = Row(
    question="Is anything on one disk only?",
    panels=(
        Panel(
            title="Pairs that Redis does not have",
            unit=Unit.COUNT,
            shows="Refreshed tokens that lie in the spool of one sidecar and nowhere else.",
            normal="0, but for moments.",
            to_do="Do not delete that pod, its volume or its node; bring Redis back.",
            queries=(Query(expr=level(SPOOL_PARKED, by="instance"), legend="{{instance}}"),),
            steps=((1, Mood.LOOK),),
            runbooks=("spool-not-empty",),
        ),
        Panel(
            title="How old the oldest is",
            unit=Unit.SECONDS,
            shows="How long the oldest of them has been waiting for Redis.",
            normal="0.",
            to_do="From five minutes on a disk is all that stands between users and a new consent.",
            queries=(Query(expr=_AGE, legend="{{instance}}"),),
            steps=((60, Mood.LOOK), (300, Mood.ACT)),
            runbooks=("spool-not-empty",),
        ),
        Panel(
            title="Commits that Redis did not take",
            unit=Unit.PER_SECOND,
            shows="Tries to bring a pair into Redis that failed.",
            normal="0.",
            to_do="Redis is away, full or read-only; one sidecar alone: its network.",
            queries=(
                Query(
                    expr=rate(STORE_OPERATIONS, "instance", _FAILED_COMMITS), legend="{{instance}}"
                ),
            ),
            runbooks=("spool-not-empty", "store-down"),
        ),
        Panel(
            title="Spool not writable",
            unit=Unit.COUNT,
            shows="1 while a sidecar cannot write its spool, and how often that began in the time "
            "shown.",
            normal="0.",
            to_do="It refreshes nothing until it can: free space, or mend the volume and its mode.",
            queries=(
                Query(expr=f"1 - {level(SPOOL_WRITABLE, by='instance')}", legend="{{instance}}"),
                Query(expr=increase(SPOOL_FAILURES, "instance"), legend="{{instance}} began"),
            ),
            steps=((0.5, Mood.ACT),),
            runbooks=("spool-not-writable",),
        ),
        Panel(
            title="At risk for",
            unit=Unit.SECONDS,
            shows="From the last byte of a token answer to its durable copy, and a durable write "
            "itself, in 99 of 100 cases.",
            normal="Milliseconds.",
            to_do="Above 0.1 s the disk is too slow: a death in that time costs a token.",
            queries=(
                Query(expr=quantile(0.99, ANSWER_TO_SPOOL), legend="answer to disk p99"),
                Query(expr=quantile(0.99, SPOOL_WRITE), legend="durable write p99"),
            ),
            steps=((0.1, Mood.LOOK),),
        ),
        Panel(
            title="Entries of the spool",
            unit=Unit.COUNT,
            shows="Live entries: claims under way, orders, pairs.",
            normal="As many as claims are under way; small.",
            to_do="It only ever grows: report it.",
            queries=(Query(expr=level(SPOOL_ENTRIES, by="instance"), legend="{{instance}}"),),
        ),
    ),
)

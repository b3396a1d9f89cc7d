"""The row on time: how much of a call's time is ours, and what of us takes it."""

from __future__ import annotations

from typing import Final

from sidecar.domain.events import Outcome, RequestOutcome
from sidecar.reference.dashboard.form import Mood, Panel, Query, Row, Unit
from sidecar.reference.dashboard.queries import (
    INSTANCES,
    level,
    of_values,
    quantile,
    rate,
    series,
    spent,
)
from sidecar.telemetry.catalogue import (
    CONNECTIONS,
    CONNECTIONS_DROPPED,
    CONNECTIONS_LIMIT,
    CONTROL_DURATION,
    LOOP_LAG,
    OVERHEAD,
    RELOAD_SUCCEEDED_AT,
    RELOAD_SUCCESSFUL,
    REQUEST_DURATION,
    STORE_DURATION,
    STORE_OPERATIONS,
    TOKEN_REQUEST_DURATION,
)

_PASSED: Final = of_values("outcome", RequestOutcome.PASSED)
_WELL: Final = of_values("outcome", Outcome.OK)


def _percentiles(what: str) -> tuple[Query, ...]:
    return tuple(
        Query(expr=quantile(share, REQUEST_DURATION, where=_PASSED), legend=f"{what} {name}")
        for share, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
    )


LATENCY: Final = Row(
    question="How much of the latency is ours?",
    panels=(
        Panel(
            title="Share of the time that is ours",
            unit=Unit.SHARE,
            shows="Of all the time of the calls that passed, what was not spent waiting for Akoya.",
            normal="A few per cent; more where Akoya is very fast.",
            to_do="Above a fifth: the panels beside and below say what takes it.",
            queries=(
                Query(
                    expr=f"{spent(OVERHEAD, where=_PASSED)} / "
                    f"{spent(REQUEST_DURATION, where=_PASSED)}",
                    legend="ours",
                ),
            ),
            steps=((0.2, Mood.LOOK),),
            runbooks=("overhead-high",),
        ),
        Panel(
            title="A whole call",
            unit=Unit.SECONDS,
            shows="From the head of a call to its last byte, Akoya and us together.",
            normal="What Akoya takes: tenths of seconds to seconds.",
            to_do="Slow, with our share small: Akoya or the bank.",
            queries=_percentiles("call"),
        ),
        Panel(
            title="Our part of a call",
            unit=Unit.SECONDS,
            shows="What one call in a hundred spends in each sidecar itself.",
            normal="Milliseconds.",
            to_do="From 0.1 s on: CPU first, then Redis, then waits for refreshes.",
            queries=(
                Query(
                    expr=f"instance:sidecar_overhead_seconds:p99_rate5m{{{INSTANCES}}}",
                    legend="{{instance}} p99",
                ),
            ),
            steps=((0.1, Mood.ACT),),
            runbooks=("overhead-high",),
        ),
        Panel(
            title="How late the event loop is",
            unit=Unit.SECONDS,
            shows="How late timers run, in 99 of 100 cases; every call waits that long.",
            normal="Milliseconds.",
            to_do="From 0.1 s on the process lacks CPU: raise its limit, or add replicas.",
            queries=(
                Query(
                    expr=f"instance:sidecar_event_loop_lag_seconds:p99_rate5m{{{INSTANCES}}}",
                    legend="{{instance}} p99",
                ),
                Query(expr=quantile(0.5, LOOP_LAG), legend="all p50"),
            ),
            steps=((0.1, Mood.ACT),),
            runbooks=("event-loop-lag",),
        ),
        Panel(
            title="Time of calls of Redis",
            unit=Unit.SECONDS,
            shows="How long calls of Redis take, in 99 of 100 cases, by what they are for.",
            normal="About a millisecond.",
            to_do="Tens of milliseconds: Redis is far away, busy, or waits for its disk.",
            queries=(
                Query(
                    expr=quantile(0.99, STORE_DURATION, "operation", _WELL),
                    legend="{{operation}} p99",
                ),
            ),
            steps=((0.05, Mood.LOOK),),
        ),
        Panel(
            title="Calls of Redis",
            unit=Unit.PER_SECOND,
            shows="How often the sidecars ask Redis.",
            normal="Follows refreshes more than calls: tokens are served from memory.",
            to_do="It follows every call: tokens are not kept; see where tokens come from.",
            queries=(Query(expr=rate(STORE_OPERATIONS, "operation"), legend="{{operation}}"),),
        ),
        Panel(
            title="Time of token requests",
            unit=Unit.SECONDS,
            shows="How long token requests take, in 95 of 100 cases.",
            normal="About a second; calls do not wait for it where refreshing ahead is on.",
            to_do="Tens of seconds: Akoya is slow; the sidecar waits for each answer to its end.",
            queries=(
                Query(
                    expr=quantile(0.95, TOKEN_REQUEST_DURATION, "operation"),
                    legend="{{operation}} p95",
                ),
            ),
        ),
        Panel(
            title="Time of the grants API",
            unit=Unit.SECONDS,
            shows="How long calls of the grants API take, in 95 of 100 cases.",
            normal="What Akoya takes for an exchange; views take milliseconds.",
            to_do="See Akoya's token service and Redis.",
            queries=(Query(expr=quantile(0.95, CONTROL_DURATION), legend="p95"),),
        ),
        Panel(
            title="CPU",
            unit=Unit.SHARE,
            shows="How much of one processor each sidecar uses.",
            normal="Well below its limit; a sidecar uses about one processor at most.",
            to_do="Near 1: add replicas.",
            queries=(
                Query(
                    expr=f"rate({series('process_cpu_seconds_total')}[$__rate_interval])",
                    legend="{{instance}}",
                ),
            ),
            steps=((0.8, Mood.LOOK),),
            runbooks=("event-loop-lag",),
        ),
        Panel(
            title="Reloads that were refused",
            unit=Unit.COUNT,
            shows="Sidecars whose last SIGHUP changed nothing, since a file could not be used.",
            normal="0.",
            to_do="Repair the file that the log line names, and send SIGHUP again.",
            queries=(
                Query(
                    expr=f"sum by (instance) (1 - {series(RELOAD_SUCCESSFUL.name)})",
                    legend="{{instance}}",
                ),
            ),
            steps=((1, Mood.LOOK),),
            runbooks=("reload-refused",),
        ),
        Panel(
            title="Age of what was read from files",
            unit=Unit.SECONDS,
            shows="How long ago each sidecar last took up its files, at its start or a SIGHUP.",
            normal="All sidecars of a fleet fall together after a rotation.",
            to_do="One that did not fall was forgotten: send SIGHUP to it.",
            queries=(
                Query(expr=f"time() - {series(RELOAD_SUCCEEDED_AT.name)}", legend="{{instance}}"),
            ),
        ),
        Panel(
            title="Memory",
            unit=Unit.BYTES,
            shows="Memory of each sidecar.",
            normal="Flat after the first minutes.",
            to_do="It only ever grows: report it, with the release.",
            queries=(Query(expr=series("process_resident_memory_bytes"), legend="{{instance}}"),),
        ),
        Panel(
            title="Connections of clients",
            unit=Unit.COUNT,
            shows="Open connections of each listener, and how many it may have.",
            normal="Far below the limit.",
            to_do="At the limit, idle connections go for new ones; then new ones are refused.",
            queries=(
                Query(expr=level(CONNECTIONS, "max", "listener"), legend="{{listener}}"),
                Query(
                    expr=level(CONNECTIONS_LIMIT, "min", "listener"), legend="limit of {{listener}}"
                ),
            ),
            runbooks=("connections-refused",),
        ),
        Panel(
            title="Connections closed by the sidecar",
            unit=Unit.PER_SECOND,
            shows="Connections that were refused, made room, or were too slow.",
            normal="None, or a few that made room.",
            to_do="`full`: clients get no connection.",
            queries=(
                Query(
                    expr=rate(CONNECTIONS_DROPPED, "listener, cause"),
                    legend="{{listener}} {{cause}}",
                ),
            ),
            runbooks=("connections-refused",),
        ),
        Panel(
            title="Open files",
            unit=Unit.COUNT,
            shows="File descriptors of each sidecar: connections, the spool, the log.",
            normal="Flat, and about two for each call under way.",
            to_do="It only ever grows: report it, with the release.",
            queries=(Query(expr=series("process_open_fds"), legend="{{instance}}"),),
        ),
    ),
)

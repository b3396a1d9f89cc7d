"""The row on traffic: how much of it there is, and how it ends."""

from __future__ import annotations

from typing import Final

from sidecar.domain.events import RequestOutcome
from sidecar.reference.dashboard.form import Kind, Mood, Panel, Query, Row, Unit
from sidecar.reference.dashboard.queries import FLEET, level, of_values, rate, series
from sidecar.telemetry.catalogue import (
    BUILD_INFO_NAME,
    CONTROL_REQUESTS,
    OVERLOADS,
    PROBLEMS,
    REQUESTS,
    REQUESTS_IN_FLIGHT,
)

_SERVED: Final = of_values("outcome", RequestOutcome.PASSED, RequestOutcome.HEALED)

_NUMBERS: Final = (
    Panel(
        title="Alerts that fire",
        kind=Kind.NUMBER,
        unit=Unit.COUNT,
        shows="How many alerts of the sidecar fire now.",
        normal="0.",
        to_do="Open the alert; each names its consequence, where to look first and its runbook.",
        queries=(
            Query(
                expr='count(ALERTS{alertname=~"Sidecar.*", alertstate="firing"}) or vector(0)',
                legend="firing",
            ),
        ),
        steps=((1, Mood.ACT),),
    ),
    Panel(
        title="Sidecars that are silent",
        kind=Kind.NUMBER,
        unit=Unit.COUNT,
        shows="Sidecars that did not answer their last scrape.",
        normal="0.",
        to_do="The service beside it has no way to Akoya: look at the container's last lines.",
        queries=(Query(expr=f"count(up{{{FLEET}}} == 0) or vector(0)", legend="silent"),),
        steps=((1, Mood.ACT),),
        runbooks=("down",),
    ),
    Panel(
        title="Sidecars that answer",
        kind=Kind.NUMBER,
        unit=Unit.COUNT,
        shows="Sidecars that answered their last scrape.",
        normal="As many as there are replicas of the services beside them.",
        to_do="Too few: a target that was never found is not silent; look at the scrape targets.",
        queries=(Query(expr=f"sum(up{{{FLEET}}})", legend="up"),),
    ),
    Panel(
        title="Calls a second",
        kind=Kind.NUMBER,
        unit=Unit.CALLS_PER_SECOND,
        shows="Proxied calls that ended, each second.",
        normal="Your own traffic; compare it with yesterday.",
        to_do="0 in working hours: see whether the services still call the sidecar's address.",
        queries=(Query(expr=rate(REQUESTS), legend="calls"),),
    ),
    Panel(
        title="Calls not served",
        kind=Kind.NUMBER,
        unit=Unit.SHARE,
        shows="Share of the calls that did not end with an answer of Akoya's.",
        normal="Well below 1 %, and none of it in the panels of the row below.",
        to_do="The row below says whose fault it is.",
        queries=(
            Query(
                expr=f"1 - {rate(REQUESTS, where=_SERVED)} / {rate(REQUESTS)}", legend="not served"
            ),
        ),
        steps=((0.01, Mood.LOOK), (0.05, Mood.ACT)),
    ),
    Panel(
        title="Problem answers a second",
        kind=Kind.NUMBER,
        unit=Unit.CALLS_PER_SECOND,
        shows="Calls that the sidecar answered itself, with `Sidecar-Error`.",
        normal="Near 0; a few `reauth_required` are everyday.",
        to_do="The row below parts them by who caused them.",
        queries=(Query(expr=rate(PROBLEMS), legend="problems"),),
    ),
)

_CURVES: Final = (
    Panel(
        title="Calls by how they ended",
        unit=Unit.CALLS_PER_SECOND,
        shows="`passed`: Akoya's answer went back. `healed`: after a refresh and one repetition.",
        normal="Nearly all `passed`; a little `healed` where Akoya ends tokens early.",
        to_do="`refused` is ours to explain (row below); `failed` is a bug: report it.",
        queries=(Query(expr=rate(REQUESTS, "outcome"), legend="{{outcome}}"),),
        runbooks=("fault",),
    ),
    Panel(
        title="Calls by class of status",
        unit=Unit.CALLS_PER_SECOND,
        shows="What the services got, Akoya's answers and ours together; `none`: no answer begun.",
        normal="`2xx`, with the `4xx` that your users cause.",
        to_do="`5xx`: whose they are is in the row below.",
        queries=(Query(expr=rate(REQUESTS, "code_class"), legend="{{code_class}}"),),
    ),
    Panel(
        title="Calls by product",
        unit=Unit.CALLS_PER_SECOND,
        shows="Which of Akoya's products are called; paths that are none count as `other`.",
        normal="Your own mix.",
        to_do="Much `other`: a service calls a path that Akoya does not have.",
        queries=(Query(expr=rate(REQUESTS, "product"), legend="{{product}}"),),
    ),
    Panel(
        title="Calls under way",
        unit=Unit.COUNT,
        shows="Calls in flight on each sidecar.",
        normal="Calls a second times their seconds; far below `SIDECAR_MAX_IN_FLIGHT` (1000).",
        to_do="It climbs and stays: Akoya is slow (last row), or more replicas are needed.",
        queries=(Query(expr=level(REQUESTS_IN_FLIGHT, by="instance"), legend="{{instance}}"),),
        steps=((1000, Mood.ACT),),
    ),
    Panel(
        title="Calls refused as overloaded",
        unit=Unit.CALLS_PER_SECOND,
        shows="By the limit of the slots that they met.",
        normal="0.",
        to_do="`grant`: one user's refresh hangs. `waiting`, `bank`: many do, see the last row. "
        "`all`: raise `SIDECAR_MAX_IN_FLIGHT` or add replicas.",
        queries=(Query(expr=rate(OVERLOADS, "limit"), legend="{{limit}}"),),
    ),
    Panel(
        title="Calls of the grants API",
        unit=Unit.CALLS_PER_SECOND,
        shows="Onboarding, imports, revocations and views, by class of status.",
        normal="`2xx`, and `4xx` for codes that were used twice.",
        to_do="`5xx`: Akoya's token service or Redis; see their panels below.",
        queries=(Query(expr=rate(CONTROL_REQUESTS, "code_class"), legend="{{code_class}}"),),
    ),
    Panel(
        title="Releases",
        unit=Unit.COUNT,
        shows="How many sidecars run which release.",
        normal="One release; two while a roll-out is under way.",
        to_do="Two for hours: a roll-out stands still.",
        queries=(
            Query(expr=f"sum by (version) ({series(BUILD_INFO_NAME)})", legend="{{version}}"),
        ),
    ),
)

TRAFFIC: Final = Row(question="Is traffic served?", panels=(*_NUMBERS, *_CURVES))

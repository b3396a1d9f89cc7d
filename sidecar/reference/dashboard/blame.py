"""The row on faults: one panel for each party that can be at fault, and one that compares them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from sidecar.domain.events import Outcome, RequestOutcome, UpstreamClass
from sidecar.domain.failure import Disposition
from sidecar.domain.tokens import ProblemReason
from sidecar.reference.dashboard.form import Mood, Panel, Query, Row, Unit
from sidecar.reference.dashboard.queries import BANKS, level, of_values, rate
from sidecar.telemetry.catalogue import (
    BREAKER_OPEN,
    LOG_LINES_DROPPED,
    OBSERVER_FAILURES,
    PROBLEMS,
    PROVIDER_BREAKER_OPEN,
    REQUESTS,
    RESOURCE_EXHAUSTED,
    SPOOL_FAILURES,
    STORE_OPERATIONS,
    STORE_STRAINED,
    STORE_TROUBLES,
    STORE_UP,
    TOKEN_ERRORS,
    TOKEN_REQUESTS,
    UPSTREAM_FAILURES,
    UPSTREAM_RESPONSES,
    WORK_FAILURES,
)


class Party(StrEnum):
    """Who can be at fault when a call is not served."""

    CLIENT = "the client"
    USER = "the end user's consent"
    SIDECAR = "us"
    TOKENS = "Redis or the token service"
    UPSTREAM = "Akoya's data APIs"


PARTY_OF: Final[Mapping[ProblemReason, Party]] = {
    ProblemReason.USER_MISSING: Party.CLIENT,
    ProblemReason.PATH_INVALID: Party.CLIENT,
    ProblemReason.REQUEST_INVALID: Party.CLIENT,
    ProblemReason.CLIENT_KEY_INVALID: Party.CLIENT,
    ProblemReason.METHOD_NOT_ALLOWED: Party.CLIENT,
    ProblemReason.REQUEST_TOO_LARGE: Party.CLIENT,
    ProblemReason.HEADERS_TOO_LARGE: Party.CLIENT,
    ProblemReason.GRANT_UNKNOWN: Party.USER,
    ProblemReason.REAUTH_REQUIRED: Party.USER,
    ProblemReason.OVERLOADED: Party.SIDECAR,
    ProblemReason.DRAINING: Party.SIDECAR,
    ProblemReason.INTERNAL_ERROR: Party.SIDECAR,
    ProblemReason.TOKEN_UNAVAILABLE: Party.TOKENS,
    ProblemReason.UPSTREAM_UNREACHABLE: Party.UPSTREAM,
    ProblemReason.UPSTREAM_TIMEOUT: Party.UPSTREAM,
}
"""Whose fault each answer of ours is; a test wants every reason here."""

_FINE: Final = (UpstreamClass.OK, UpstreamClass.PARTIAL)
_FAILED: Final = of_values("outcome", Outcome.FAILED)
_GONE: Final = of_values("outcome", RequestOutcome.CLIENT_GONE)
_BROKE: Final = of_values("outcome", RequestOutcome.UPSTREAM_BROKE)
_OPERATOR: Final = of_values("disposition", Disposition.OPERATOR)
_TROUBLE: Final = f'{BANKS}, class!~"{"|".join(_FINE)}"'


def _problems_of(party: Party) -> str:
    return of_values("reason", *(reason for reason, who in PARTY_OF.items() if who is party))


BLAME: Final = Row(
    question="Whose fault is it if not?",
    panels=(
        Panel(
            title="Whose fault",
            unit=Unit.CALLS_PER_SECOND,
            shows="Calls that the sidecar had to answer itself, by who caused it.",
            normal="Near 0; `the end user's consent` is everyday.",
            to_do="Go on with the panel of the party that stands out.",
            queries=tuple(
                Query(expr=rate(PROBLEMS, where=_problems_of(party)), legend=party)
                for party in Party
            ),
        ),
        Panel(
            title="The client",
            unit=Unit.CALLS_PER_SECOND,
            shows="Calls that no sidecar could serve as they came, and callers that left early.",
            normal="0 in production; what is here was met in testing.",
            to_do="Find the service by `client` in the lines `request.completed` of that reason.",
            queries=(
                Query(
                    expr=rate(PROBLEMS, "reason", _problems_of(Party.CLIENT)), legend="{{reason}}"
                ),
                Query(expr=rate(REQUESTS, where=_GONE), legend="left before the end"),
            ),
        ),
        Panel(
            title="Us",
            unit=Unit.PER_SECOND,
            shows="Faults of the sidecar, its disk and its limits.",
            normal="0, but for `draining` in a roll-out.",
            to_do="`overloaded`: more replicas. A failed spool: the runbook. A fault: report it.",
            queries=(
                Query(
                    expr=rate(PROBLEMS, "reason", _problems_of(Party.SIDECAR)), legend="{{reason}}"
                ),
                Query(expr=rate(WORK_FAILURES), legend="faults"),
                Query(
                    expr=rate(RESOURCE_EXHAUSTED, "resource, where"),
                    legend="no {{resource}} ({{where}})",
                ),
                Query(expr=rate(SPOOL_FAILURES), legend="spool not written"),
                Query(expr=rate(OBSERVER_FAILURES), legend="events not told"),
                Query(expr=rate(LOG_LINES_DROPPED), legend="log lines dropped"),
            ),
            runbooks=(
                "fault",
                "spool-not-writable",
                "resource-exhausted",
                "log-lines-dropped",
            ),
        ),
        Panel(
            title="Our credentials",
            unit=Unit.PER_SECOND,
            shows="Token requests that only an operator can mend, and whether the breaker is open.",
            normal="0, and the breaker at 0.",
            to_do="Put the right client secret into its file; no grant is blamed meanwhile.",
            queries=(
                Query(expr=rate(TOKEN_ERRORS, "reason", _OPERATOR), legend="{{reason}}"),
                Query(expr=level(BREAKER_OPEN, "max", "name"), legend="breaker {{name}}"),
            ),
            steps=((1, Mood.ACT),),
            runbooks=("client-credentials-refused",),
        ),
        Panel(
            title="Redis: is it there?",
            unit=Unit.STATE,
            shows="Whether each sidecar reaches Redis.",
            normal="1 everywhere.",
            to_do="0 everywhere: Redis. 0 on one: its network. Bring Redis back with its data.",
            queries=(Query(expr=level(STORE_UP, "min", "instance"), legend="{{instance}}"),),
            runbooks=("store-down",),
        ),
        Panel(
            title="Redis: calls that failed",
            unit=Unit.PER_SECOND,
            shows="Calls of Redis that failed, by what they were for and by cause; strained: 1 "
            "while that goes on though Redis answers.",
            normal="0, and strained at 0.",
            to_do="The runbook has a row for each cause.",
            queries=(
                Query(expr=rate(STORE_OPERATIONS, "operation", _FAILED), legend="{{operation}}"),
                Query(expr=rate(STORE_TROUBLES, "cause"), legend="because of {{cause}}"),
                Query(
                    expr=level(STORE_STRAINED, "max", "instance"), legend="{{instance}} strained"
                ),
            ),
            runbooks=("store-down", "store-strained"),
        ),
        Panel(
            title="Akoya's token service",
            unit=Unit.PER_SECOND,
            shows="Requests to the token service that failed, by what they were for.",
            normal="Near 0.",
            to_do="The next row has them by reason; the runbook has a line for each reason.",
            queries=(
                Query(expr=rate(TOKEN_REQUESTS, "operation", _FAILED), legend="{{operation}}"),
                Query(
                    expr=rate(PROBLEMS, "reason", _problems_of(Party.TOKENS)),
                    legend="calls answered {{reason}}",
                ),
            ),
            runbooks=("refreshes-failing",),
        ),
        Panel(
            title="A bank's breaker",
            unit=Unit.COUNT,
            shows="On how many sidecars the refreshes of a bank are stopped but for one at a time.",
            normal="0.",
            to_do="Wait for the bank; it closes with the first refresh that goes well.",
            queries=(
                Query(
                    expr=level(PROVIDER_BREAKER_OPEN, by="provider", where=BANKS),
                    legend="{{provider}}",
                ),
            ),
            steps=((1, Mood.LOOK),),
            runbooks=("provider-breaker-open",),
        ),
        Panel(
            title="Banks and Akoya's data APIs",
            unit=Unit.CALLS_PER_SECOND,
            shows="Data calls that went wrong at a bank or at Akoya, as Akoya tells it.",
            normal="Near 0, with a little `customer_601` and `account_701`.",
            to_do="One bank: the bank. All of them: Akoya, or the app's subscription.",
            queries=(
                Query(
                    expr=rate(UPSTREAM_RESPONSES, "provider, class", _TROUBLE),
                    legend="{{provider}} {{class}}",
                ),
                Query(expr=rate(UPSTREAM_FAILURES, "cause"), legend="no answer: {{cause}}"),
                Query(expr=rate(REQUESTS, where=_BROKE), legend="bodies that broke off"),
            ),
            runbooks=("upstream-errors", "upstream-unreachable"),
        ),
    ),
)

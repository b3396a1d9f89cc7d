"""The row on consents: how many end users must link their bank again, and why."""

from __future__ import annotations

from typing import Final

from sidecar.domain.events import UpstreamClass
from sidecar.reference.dashboard.blame import PARTY_OF, Party
from sidecar.reference.dashboard.form import Mood, Panel, Query, Row, Unit
from sidecar.reference.dashboard.queries import BANKS, increase, level, of_values, rate
from sidecar.telemetry.catalogue import (
    CONNECTS,
    DOUBTS,
    GRANTS,
    PROBLEMS,
    REAUTHS,
    UPSTREAM_RESPONSES,
)

_TURNED_AWAY: Final = of_values(
    "reason", *(reason for reason, party in PARTY_OF.items() if party is Party.USER)
)
_WAITING: Final = of_values("state", "reauth_required", "in_doubt")
_REJECTED: Final = of_values("class", UpstreamClass.TOKEN_602)

CONSENTS: Final = Row(
    question="Who must consent again?",
    panels=(
        Panel(
            title="Users that wait for a consent",
            unit=Unit.COUNT,
            shows="Grants that are dead until the user consents, and those in doubt.",
            normal="Changes slowly; `in_doubt` near 0.",
            to_do="`GET /events` of the grants API names them: ask these users.",
            queries=(Query(expr=level(GRANTS, "max", "state", _WAITING), legend="{{state}}"),),
            runbooks=("reconsents-above-normal",),
        ),
        Panel(
            title="New ones within an hour, by cause",
            unit=Unit.COUNT,
            shows="Grants whose user must consent again since an hour ago.",
            normal="`consent_or_expiry` at the everyday rate; the others 0.",
            to_do="Any other cause is a lost token of ours.",
            queries=(Query(expr=increase(REAUTHS, "cause", over="1h"), legend="{{cause}}"),),
            runbooks=("reconsents-above-normal", "token-lost"),
        ),
        Panel(
            title="Against the usual",
            unit=Unit.COUNT,
            shows="The whole fleet's new ones within an hour, and from when on the alert calls it "
            "too many: three times the last day, and at least ten.",
            normal="Below the limit.",
            to_do="One bank: its doing. Many banks: look for a second program with these tokens.",
            queries=(
                Query(expr="fleet:sidecar_reauths:increase1h", legend="within an hour"),
                Query(
                    expr="clamp_min(3 * avg_over_time(fleet:sidecar_reauths:increase1h[1d]), 10)",
                    legend="limit",
                ),
            ),
            runbooks=("reconsents-above-normal",),
        ),
        Panel(
            title="Consents in the browser",
            unit=Unit.COUNT,
            shows="Visits to the connect listener in the time shown, by what came of them.",
            normal="Mostly `shown`, `begun` and `connected`; all 0 where the listener is off.",
            to_do="`failed` or `unavailable`: look at Akoya and Redis; `other_browser`: links are "
            "passed on to others.",
            queries=(Query(expr=increase(CONNECTS, "outcome"), legend="{{outcome}}"),),
        ),
        Panel(
            title="Calls turned away",
            unit=Unit.CALLS_PER_SECOND,
            shows="Calls for users without a living grant.",
            normal="Few: an app that was told stops asking.",
            to_do="Many `grant_unknown`: the app calls before it onboards, or names users wrongly.",
            queries=(Query(expr=rate(PROBLEMS, "reason", _TURNED_AWAY), legend="{{reason}}"),),
        ),
        Panel(
            title="Refused tokens in doubt",
            unit=Unit.COUNT,
            shows="Refresh tokens refused without a clear reason within half an hour.",
            normal="0.",
            to_do="Above 10: bring every sidecar back with its disk.",
            queries=(Query(expr=increase(DOUBTS, over="30m"), legend="doubted"),),
            steps=((10, Mood.LOOK),),
            runbooks=("grants-in-doubt",),
        ),
        Panel(
            title="Fresh tokens that are rejected",
            unit=Unit.CALLS_PER_SECOND,
            shows="Data calls answered 602: the bank does not take the token.",
            normal="Near 0.",
            to_do="One bank: its consents end, or users are not entitled to the product.",
            queries=(
                Query(
                    expr=rate(UPSTREAM_RESPONSES, "provider", f"{BANKS}, {_REJECTED}"),
                    legend="{{provider}}",
                ),
            ),
            runbooks=("upstream-errors",),
        ),
    ),
)

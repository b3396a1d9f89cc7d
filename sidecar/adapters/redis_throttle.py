"""How the fleet's throttle lies in its hash, and how a step on it becomes a call of its script.

Holds no connection and decides nothing: the rules are in ``throttle.lua`` and in
`sidecar.domain.throttle`, whose numbers are handed to the script.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, assert_never

from sidecar.adapters.redis_scripts import Argument
from sidecar.adapters.redis_verdicts import ReplyUnreadable
from sidecar.domain import brake_trial
from sidecar.domain import throttle as rules
from sidecar.domain.brake_trial import Fate, Trial
from sidecar.domain.failure import FailureReason
from sidecar.domain.record import GrantId
from sidecar.domain.throttle import BrakeCause, Throttle, ThrottleStep
from sidecar.domain.windows import Slice

_SLICE: Final = re.compile(r"w:(\d+)")
_FATE: Final = re.compile(r"t:(.+)")


def arguments_of(step: ThrottleStep) -> tuple[Argument, ...]:
    """Return the arguments of a step, in the order of the script's header."""
    name, *own = _own_arguments_of(step)
    return (name, rules.FREE_MS, brake_trial.TRIAL_MS, brake_trial.DENIED_OF, *own)


def _own_arguments_of(step: ThrottleStep) -> tuple[Argument, ...]:
    match step:
        case rules.Look():
            return ("look",)
        case rules.CountDecided():
            return (
                "decided",
                step.decided,
                step.denied,
                rules.SLICE_MS,
                rules.SLICES,
                rules.LEAST_DECIDED,
                rules.DENIED_OF,
                len(step.refused),
                *step.refused,
                *step.paired,
            )
        case rules.PullBrake():
            return ("pull",)
        case rules.ReserveSettlement():
            return ("reserve", step.grant)
        case rules.ReleaseBrake():
            return ("release", step.limit)
        case rules.ReleaseAll():
            return ("release_all",)
        case rules.CountGrants():
            return ("grants", step.grants)
        case rules.CountRefusal():
            return ("refusal", step.reason.value, step.canary_ms, rules.REFUSALS_TO_OPEN)
        case rules.CountAcceptance():
            return ("acceptance",)
        case rules.TakeCanary():
            return ("canary", step.canary_ms)
        case _:
            assert_never(step)


def answer_of(reply: Sequence[Any]) -> tuple[Throttle, bool]:
    """Return what the script answered.

    Raises:
        ReplyUnreadable: It is no answer of this script.
    """
    try:
        granted, flat = reply
        texts = [part.decode() for part in flat]
        fields = dict(zip(texts[::2], texts[1::2], strict=True))
        return _decode(fields), granted == 1
    except (ValueError, AttributeError, UnicodeDecodeError) as error:
        raise ReplyUnreadable("the throttle of the fleet cannot be read") from error


def _decode(fields: dict[str, str]) -> Throttle:
    reason = fields.get("rr")
    return Throttle(
        braked_at_ms=int(fields.get("ba", "0")),
        brake_cause=_cause(fields),
        free_until_ms=int(fields.get("bf", "0")),
        trial=_trial(fields),
        grants=int(fields.get("gr", "0")),
        decided=tuple(_slices(fields)),
        refusals=int(fields.get("rf", "0")),
        refusal_reason=None if reason is None else FailureReason(reason),
        opened_at_ms=int(fields.get("oa", "0")),
        canary_at_ms=int(fields.get("ca", "0")),
        revision=int(fields.get("n", "0")),
    )


def _cause(fields: dict[str, str]) -> BrakeCause | None:
    """Return why the brake is on; earlier versions know two causes, so the third is beside them."""
    cause = fields.get("bc")
    if cause is None:
        return None
    return BrakeCause.TRIAL if fields.get("tx") == fields.get("ba") else BrakeCause(cause)


def _trial(fields: dict[str, str]) -> Trial | None:
    if "tl" not in fields:
        return None
    found = ((_FATE.fullmatch(name), fate) for name, fate in fields.items())
    fates = {GrantId(named[1]): Fate(fate) for named, fate in found if named}
    return Trial(
        limit=int(fields["tl"]),
        began_at_ms=int(fields.get("ts", "0")),
        fates=tuple(sorted(fates.items())),
    )


def _slices(fields: dict[str, str]) -> list[Slice]:
    found: list[Slice] = []
    for name, counts in fields.items():
        matched = _SLICE.fullmatch(name)
        if matched:
            decided, denied = counts.split(" ")
            found.append(Slice(number=int(matched[1]), ended=int(decided), bad=int(denied)))
    return sorted(found, key=lambda each: each.number)

"""How long 401s of data calls start no refresh of a grant: the cool-down and its end.

Keeps a user who lacks one product from rotating tokens for ever. Does not know what a data call
answered, only which product opened the cool-down.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from sidecar.domain.bounds import is_running
from sidecar.domain.commands import (
    CoolDown,
    Cooling,
    Done,
    EndCoolDown,
    Missing,
    Moment,
    Refused,
    StepVerdict,
)
from sidecar.domain.record import GrantRecord

MOST_DOUBLINGS: Final = 30
"""Beyond this the limit has long been reached; it keeps the product within exact numbers."""


def cool_down(
    record: GrantRecord | None, command: CoolDown, moment: Moment
) -> tuple[GrantRecord | None, Missing | Refused | Cooling]:
    """Open a cool-down twice as long as the last one, unless one runs."""
    if record is None:
        return None, Missing()
    if record.pair.consent.id != command.consent_id:
        return record, Refused()
    if is_running(record.cool_until_ms, now_ms=moment.now_ms, longest_ms=command.limit_ms):
        return record, Cooling(until_ms=record.cool_until_ms)
    doubled_ms = command.base_ms << min(record.cool_count, MOST_DOUBLINGS)
    until_ms = moment.now_ms + min(command.limit_ms, doubled_ms)
    cooled = replace(
        record,
        cool_until_ms=until_ms,
        cool_count=record.cool_count + 1,
        cool_product=command.product,
    )
    return cooled, Cooling(until_ms=until_ms)


def end_cool_down(
    record: GrantRecord | None, command: EndCoolDown, _moment: Moment
) -> tuple[GrantRecord | None, StepVerdict]:
    """Forget the cool-down and its doubling, since the product that opened it works."""
    if (
        record is None
        or record.pair.consent.id != command.consent_id
        or record.cool_count == 0
        or record.cool_product != command.product
    ):
        return record, Refused()
    return replace(record, cool_until_ms=0, cool_count=0, cool_product=""), Done()

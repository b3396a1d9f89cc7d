"""When the answer to a repeated command means the same to its caller as the first one."""

from __future__ import annotations

from sidecar.domain.commands import (
    Committed,
    Dead,
    Done,
    Duplicate,
    EndCoolDown,
    Forked,
    Invalidated,
    Missing,
    Purged,
    Refused,
    Release,
    Settle,
)
from sidecar.domain.record import GrantState
from sidecar.domain.transitions import AnyCommand


def is_equivalent(command: AnyCommand, first: object, second: object) -> bool:
    """Whether the second answer tells the caller that the step stands as the first one left it."""
    match first, second:
        case ((Committed() | Forked(is_ours_kept=True)), Duplicate()):
            return True
        case Invalidated(), Dead(state=GrantState.REAUTH_REQUIRED):
            return True
        case Purged(), Missing():
            return True
        case Done(), Dead(state=GrantState.REAUTH_REQUIRED):
            return isinstance(command, Settle)
        case Done(), Refused():
            return isinstance(command, (Release, EndCoolDown))
        case _:
            return first == second

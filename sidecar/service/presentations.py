"""What comes of presenting a refresh token once, as values.

What follows for the claim is decided in `claim`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeGuard

from sidecar.domain.failure import DISPOSITIONS, FailureReason, Operation
from sidecar.domain.outcomes import Refreshed
from sidecar.domain.spooled import PairReceived
from sidecar.domain.tokens import TokenFailure
from sidecar.domain.wire import Answered, Broken, NotSent, TokenReply

HTTP_SUCCESS: Final = range(200, 300)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """A pair came; `is_durable` says whether the spool has it and the waiters know."""

    received: PairReceived
    refreshed: Refreshed
    is_durable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Vetoed:
    """Nothing was sent: the lease, the hold or the send window was over, or the spool refused.

    Or a fault of ours came before the first byte.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """An answer came that may hold a pair, but a fault of ours kept it from being read."""


Presentation = Delivered | Vetoed | Unread | TokenFailure


def may_hold_a_pair(reply: TokenReply) -> TypeGuard[Answered | Broken]:
    """Whether an answer must be kept until it was read."""
    if isinstance(reply, NotSent):
        return False
    return bool(reply.body) if reply.status is None else reply.status in HTTP_SUCCESS


def _lost(reason: FailureReason) -> TokenFailure:
    return TokenFailure(
        operation=Operation.REFRESH, reason=reason, disposition=DISPOSITIONS[reason]
    )


ANSWER_LOST: Final = _lost(FailureReason.ANSWER_LOST)
"""A request may have left, and nothing is known of its answer."""
ANSWER_LOST_HERE: Final = _lost(FailureReason.ROTATION_LOST)
"""An answer came that may hold a pair, and it cannot be read."""

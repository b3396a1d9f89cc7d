"""Which share of a listener's slots one kind of call may take, so that no kind takes all of them.

Calls that wait for a token, calls of one grant among them, and calls of one bank each have a share.
Pure rules on counts and instants: who counts is the listener's business.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

OTHERS_COUNT_S: Final = 86_400.0
"""A bank counts as served for a day after its last call that had a token."""

GLANCE_S: Final = 0.25
"""How long a call beyond its share may look, holding no slot, for what is known of its grant."""


class SlotLimit(StrEnum):
    """Which limit a call met that was refused as `overloaded`."""

    ALL = "all"
    """Every slot is taken (`SIDECAR_MAX_IN_FLIGHT`)."""
    WAITING = "waiting"
    """Half of the slots wait for tokens."""
    GRANT = "grant"
    """A quarter of the slots wait for a token of this grant."""
    BANK = "bank"
    """All slots but a tenth are taken by calls of this bank, and other banks are served too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """The slots of one listener, and the shares of them; each share is one slot at least."""

    most: int

    @property
    def waiting(self) -> int:
        """How many calls may wait for tokens."""
        return max(1, self.most // 2)

    @property
    def of_grant(self) -> int:
        """How many calls may wait for a token of the same grant."""
        return max(1, self.most // 4)

    @property
    def of_bank(self) -> int:
        """How many calls of one bank there may be where other banks are served too."""
        return max(1, self.most - -(-self.most // 10))

    def refuse_wait(self, *, waiting: int, of_grant: int) -> SlotLimit | None:
        """Return the limit that one more wait would exceed.

        Args:
            waiting: Calls that wait for a token now.
            of_grant: Those of them that wait for the same grant.
        """
        if of_grant >= self.of_grant:
            return SlotLimit.GRANT
        return SlotLimit.WAITING if waiting >= self.waiting else None

    def refuse_bank(self, *, of_bank: int, is_only: bool) -> SlotLimit | None:
        """Return the limit that one more call of a bank would exceed.

        Args:
            of_bank: Calls of the bank that are under way.
            is_only: No other bank is served.
        """
        return None if is_only or of_bank < self.of_bank else SlotLimit.BANK


@dataclass(frozen=True, slots=True, kw_only=True)
class BanksServed:
    """The last two banks that had a call with a token, so that each knows whether it is alone.

    A name that a client makes up has no token, so it reserves nothing.
    """

    last: str = ""
    last_at_s: float = 0.0
    other: str = ""
    other_at_s: float = 0.0

    def after_call(self, bank: str, at_s: float) -> BanksServed:
        """Return what is known once a call of a bank had its token."""
        if bank == self.last:
            return replace(self, last_at_s=at_s)
        return BanksServed(last=bank, last_at_s=at_s, other=self.last, other_at_s=self.last_at_s)

    def is_only(self, bank: str, now_s: float) -> bool:
        """Whether no other bank is served."""
        other, at_s = self.last, self.last_at_s
        if other == bank:
            other, at_s = self.other, self.other_at_s
        return not other or now_s - at_s > OTHERS_COUNT_S

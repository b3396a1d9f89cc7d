"""How many ambiguous tries the owners of claims may repeat: a tenth of all claims, and a floor.

A repeat may save a token, and a hundred thousand of them keep a sick token service sick. Where none
is left, the claim is given back: nobody can hold its successor, so whoever asks next loses nothing
by it. It does not know which tries may be repeated at all.
"""

from __future__ import annotations

from typing import final

from sidecar.domain.events import RetryWithheld
from sidecar.domain.record import GrantId
from sidecar.domain.retrying import OF_CLAIMS, RetryBudget, deposit_request, withdraw
from sidecar.ports import Clock, Observer


@final
class OwnerRepeats:
    """The repeats that one sidecar may still make."""

    def __init__(self, *, clock: Clock, observer: Observer) -> None:
        self._clock = clock
        self._observer = observer
        self._budget = RetryBudget(balance=OF_CLAIMS.floor, at_s=clock.elapsed_s())

    def note_claim(self) -> None:
        """Take note of one more claim."""
        now_s = self._clock.elapsed_s()
        self._budget = deposit_request(self._budget, terms=OF_CLAIMS, now_s=now_s)

    def take(self, grant: GrantId, provider: str) -> bool:
        """Return whether a claim may be repeated once more, and count it."""
        after = withdraw(self._budget)
        if after is None:
            self._observer.observe(RetryWithheld(grant=grant, provider=provider))
            return False
        self._budget = after
        return True

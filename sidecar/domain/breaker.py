"""The breaker on the app's own credentials: a refusal of them is no fault of any grant.

It opens on the second refusal in a row and closes on any answer that shows that Akoya knows the
app. While it is open one canary at a time may try (the store rations canaries over the fleet). It
does not know which request was refused, or when.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

REFUSALS_TO_OPEN: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialsBreaker:
    """How often in a row Akoya refused the app's credentials."""

    refusals: int = 0

    @property
    def is_open(self) -> bool:
        """Whether claims stop but for a canary."""
        return self.refusals >= REFUSALS_TO_OPEN

    def refused(self) -> CredentialsBreaker:
        """Return the breaker after one more refusal."""
        return CredentialsBreaker(refusals=self.refusals + 1)

    def accepted(self) -> CredentialsBreaker:
        """Return the breaker after an answer that shows that the credentials are good."""
        return CredentialsBreaker()

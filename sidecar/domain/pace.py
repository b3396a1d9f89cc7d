"""How long a client may take for the body of a request, as a whole.

A bound on each read alone lets a client hold a request for as long as it likes, one byte at a time.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The least rate at which a body must come, after some grace.

    Attributes:
        grace_s: Time beside that which the rate allows.
        bytes_per_s: The rate.
    """

    grace_s: float
    bytes_per_s: float

    def patience_s(self, *, received_bytes: int, waited_s: float) -> float:
        """Return how much longer to wait for more; 0 or less: it came too slowly.

        Only time in which the client was waited for counts in `waited_s`.
        """
        return self.grace_s + received_bytes / self.bytes_per_s - waited_s

"""When to refresh, how long to wait, when to stop: the protocol's times and the rules on them.

Pure functions of instants, lives and a given random fraction; nothing here reads a clock or decides
what an answer means (see `token_wire`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolTimes:
    """The protocol's time constants in seconds; safety never rests on them.

    They bound how long a doubt lasts and how soon a stranger may ask again; `docs/explanation/
    refresh-protocol.md` says what each must satisfy. Tests shorten them by composition.
    """

    lease_s: float = 10.0
    send_window_s: float = 2.0
    hold_s: float = 300.0
    keep_every_s: float = 15.0
    quarantine_s: float = 60.0
    heal_s: float = 600.0
    slow_claim_s: float = 30.0
    watchdog_ticks: int = 600
    acquire_patience_s: float = 2.0
    owner_retry_pauses_s: tuple[float, ...] = (0.1, 0.5, 2.0)
    backoff_first_s: float = 0.2
    backoff_limit_s: float = 60.0
    unknown_backoff_limit_s: float = 600.0
    commit_retry_first_s: float = 0.05
    commit_retry_limit_s: float = 2.0
    peer_poll_first_s: float = 0.1
    peer_poll_factor: float = 1.6
    peer_poll_limit_s: float = 2.0
    housekeeping_every_s: float = 0.2
    store_probe_every_s: float = 1.0
    revoke_retry_s: float = 5.0
    cool_first_s: float = 30.0
    cool_limit_s: float = 3600.0
    young_token_s: float = 30.0
    store_check_every_s: float = 5.0
    canary_every_s: float = 30.0
    purge_after_s: float = 86400.0


DEFAULT_LIFE_S: Final = 900
"""Life of an id_token that tells none: Akoya asks recipients to assume fifteen minutes."""

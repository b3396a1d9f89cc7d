"""What the serving side of the sidecar works with, gathered once.

Everything here belongs to the loop that serves requests, but for the lane and the cooler, which may
be called from it.
"""

from __future__ import annotations

from dataclasses import dataclass

from sidecar.domain.policy import ProtocolTimes, RefreshPolicy
from sidecar.ports import Clock, Entropy, Observer, TokenStore
from sidecar.service.cooler import Cooler
from sidecar.service.hints import Hints
from sidecar.service.lane import ClaimLane
from sidecar.service.record_reader import RecordReader
from sidecar.service.store_clock import StoreClock
from sidecar.service.token_cache import TokenCache
from sidecar.service.use_log import UseLog
from sidecar.service.vault import Vault


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingParts:
    """Everything that looking up and healing bearers needs; `store` is only listened to."""

    store: TokenStore
    reader: RecordReader
    cache: TokenCache
    uses: UseLog
    vault: Vault
    cooler: Cooler
    lane: ClaimLane
    hints: Hints
    store_clock: StoreClock
    clock: Clock
    entropy: Entropy
    observer: Observer
    times: ProtocolTimes
    policy: RefreshPolicy

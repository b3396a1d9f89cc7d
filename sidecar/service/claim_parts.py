"""What every claim needs, gathered once; and what one claim is about.

Values only: no behaviour, so that claims stay easy to compose in tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sidecar.domain.events import ClaimKind
from sidecar.domain.outcomes import RefreshOutcome
from sidecar.domain.policy import ProtocolTimes, RefreshPolicy
from sidecar.domain.record import BootId, ClaimId, GrantId, GrantRecord, Position, ReplicaId
from sidecar.domain.tokens import TokenPair
from sidecar.ports import Clock, Entropy, IdentityProvider, Observer, TokenStore, Tracer
from sidecar.service.app_requests import TokenRequests
from sidecar.service.bank_breakers import BankBreakers
from sidecar.service.brake import Brake
from sidecar.service.committer import Committer
from sidecar.service.credentials_gate import CredentialsGate
from sidecar.service.journal import Journal
from sidecar.service.owner_repeats import OwnerRepeats
from sidecar.service.planner import Planner
from sidecar.service.settler import Settler
from sidecar.service.store_clock import StoreClock
from sidecar.service.vault import Vault

Announce = Callable[[RefreshOutcome], None]
"""Wakes whoever waits for a claim; called at least once, only the first call counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who this sidecar is to its peers: its spool and this start of the process."""

    replica_id: ReplicaId
    boot_id: BootId


@dataclass(frozen=True, slots=True, kw_only=True)
class Restraints:
    """What keeps claims from leaving: for the fleet, for a bank, for this sidecar's repeats."""

    brake: Brake
    gate: CredentialsGate
    banks: BankBreakers
    repeats: OwnerRepeats


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimParts:
    """Everything that a claim works with."""

    store: TokenStore
    journal: Journal
    committer: Committer
    planner: Planner
    settler: Settler
    restraints: Restraints
    idp: IdentityProvider
    requests: TokenRequests
    vault: Vault
    store_clock: StoreClock
    clock: Clock
    entropy: Entropy
    observer: Observer
    tracer: Tracer
    identity: Identity
    times: ProtocolTimes
    policy: RefreshPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshWish:
    """Somebody wants a newer pair than the one at `known`.

    Attributes:
        is_ordered: A person (or an app on the grants API) wants it, and answers for a probe.
        overrides_backoff: A person wants it now, whatever backoff stands; nothing else is skipped.
    """

    grant: GrantId
    provider: str
    known: Position
    is_ordered: bool = False
    overrides_backoff: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """One leased claim: the record as it was leased, and its tokens in the clear."""

    grant: GrantId
    provider: str
    claim_id: ClaimId
    record: GrantRecord
    tokens: TokenPair
    kind: ClaimKind

"""What can be seen of each sidecar while a story runs: its wire, its disk, its callers.

It holds I3, I4, I5, I13, I14 and I17 in the very step in which they could break, and keeps what the
judge needs at the end: who presented which token under which lease, and who could not work when. It
must not know what will go wrong next.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Final, final

from sidecar.domain.commands import Done, KeepHold, MarkSending
from sidecar.domain.record import ClaimId
from sidecar.domain.spooled import PairReceived
from sidecar.domain.tokens import TokenFound
from sidecar.service.token_cache import is_replacing
from tests.simulation.watch import Lease, Watch
from tests.support.rotating_idp import Presentation
from tests.support.virtual_fleet import Fleet, Peer

EVERYBODY: Final = "*"
LAST_ENTRIES: Final = 4
QUIET_POINTS: Final = frozenset(
    f"{when} {what}"
    for when in ("before", "at", "after", "back from")
    for what in ("probe", "read", "meet", "scan", "tell", "feed", "canary")
)
"""Of housekeeping and of looks at a record: too many, and nothing much hangs on them."""


@dataclass(slots=True, kw_only=True)
class Impairment:
    """A span in which a sidecar (or everybody) could not do its work, and why."""

    who: str
    kind: str
    from_s: float
    to_s: float = inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """One refresh token on its way, and by what right."""

    at_s: float
    number: int
    peer: str
    token: str
    claim_id: ClaimId | None
    lease: Lease | None


@final
class Witness:
    """Looks at every sidecar of a fleet.

    Attributes:
        trace: Every point that was passed, in order; the same for the same seed.
        sendings: Every refresh token that left.
        impairments: Who could not work when.
        drained: Starts of sidecars whose drain is over.
        strikes: Told of each point, so that something can go wrong there.
    """

    def __init__(self, fleet: Fleet, watch: Watch, *, report: Callable[[str], None]) -> None:
        self.trace: list[tuple[float, str, str]] = []
        self.sendings: list[Sending] = []
        self.impairments: list[Impairment] = []
        self.drained: set[str] = set()
        self.strikes: Callable[[Peer, str], None] = _nothing
        self._fleet = fleet
        self._clock = fleet.clock
        self._watch = watch
        self._report = report
        self._permits: set[ClaimId] = set()
        self._read_up_to: dict[str, int] = {}
        self._durable: set[str] = set()
        fleet.prepare = self._prepare
        fleet.idp.witness = self._left
        fleet.idp.reader = self._was_read

    def impaired(self, who: str, kind: str) -> Impairment:
        """Note that somebody cannot work from now on; end it by its `to_s`."""
        span = Impairment(who=who, kind=kind, from_s=self._now_s)
        self.impairments.append(span)
        return span

    def served(self, peer: Peer, found: TokenFound, *, rejected: TokenFound | None = None) -> None:
        """I5, I14: a bearer was given to a caller."""
        token = self._fleet.idp.bearers.get(found.bearer.reveal(), "")
        if not self.is_durable(token):
            self._report(f"I5: {peer.name} served a bearer that is on no disk")
        if rejected is not None and not is_replacing(found.position, rejected.position):
            self._report(f"I14: {rejected.position} was rejected, {found.position} was given")

    def is_durable(self, token: str) -> bool:
        """Whether a pair with this refresh token was ever taken to a disk for good."""
        for peer in self._fleet.peers:
            entries = peer.disk.entries
            for entry, is_synced in entries[self._read_up_to.get(peer.name, 0) :]:
                if isinstance(entry, PairReceived) and is_synced:
                    self._durable.add(entry.pair.fingerprint)
            self._read_up_to[peer.name] = len(entries)
        return token in self._durable

    @property
    def _now_s(self) -> float:
        return self._fleet.clock.elapsed_s()

    def _prepare(self, peer: Peer) -> None:
        peer.life.fate = partial(self._passed, peer)
        peer.store.carry_out = self._watch.apply
        peer.store.hears = self._heard

    def _passed(self, peer: Peer, point: str) -> None:
        self.trace.append((self._clock.running_s, peer.life.process, point))
        if point in QUIET_POINTS:
            return
        is_drained = peer.life.process in self.drained
        if point == "cancelled" and not is_drained:
            self._report(f"I13: a claim of {peer.name} was cut short")
        if point == "before MarkSending" and is_drained:
            self._report(f"I17: {peer.name} marked after its drain")
        self.strikes(peer, point)

    def _heard(self, command: object, verdict: object) -> None:
        if isinstance(command, MarkSending | KeepHold) and isinstance(verdict, Done):
            self._permits.add(command.claim_id)

    def _left(self, name: str, token: str, number: int) -> None:
        """I3, I4: a refresh token leaves in this step."""
        peer = self._peer(name)
        claim_id, lease = self._right_of(peer, token)
        sending = Sending(
            at_s=self._now_s,
            number=number,
            peer=name,
            token=token,
            claim_id=claim_id,
            lease=lease,
        )
        self.sendings.append(sending)
        if claim_id is None or lease is None or claim_id not in self._permits:
            self._report(f"I3: {name} presented {token} without a mark")
            return
        self._permits.discard(claim_id)
        intent = peer.spool.state.intents.get(claim_id)
        if intent is None or intent.grant != lease.grant:
            self._report(f"I3: {name} presented {token} without an intent on its disk")
        held = peer.spool.state.pairs.get(lease.grant)
        own = None if held is None else self._fleet.idp.origin(held.pair.fingerprint)
        presented = self._fleet.idp.origin(token)
        if own and presented and own[0] is presented[0] and own[1] > presented[1]:
            self._report(f"I4: {name} presented {token} and had generation {own[1]}")

    def _right_of(self, peer: Peer, token: str) -> tuple[ClaimId | None, Lease | None]:
        """Return the newest lease under which this start of a sidecar may present a token."""
        boot = peer.parts.claim_parts.identity.boot_id
        for claim_id, lease in reversed(self._watch.leases.items()):
            if lease.token == token and lease.boot == boot:
                return claim_id, lease
        return None, None

    def _was_read(self, name: str, presentation: Presentation) -> None:
        """I5: in the step in which an answer was read, its pair is on the disk."""
        if not presentation.is_told:
            return
        last = self._peer(name).disk.entries[-LAST_ENTRIES:]
        if not any(
            isinstance(entry, PairReceived)
            and is_synced
            and entry.pair.fingerprint == presentation.brought
            for entry, is_synced in last
        ):
            self._report(f"I5: {name} read {presentation.brought} and did not write it down")

    def _peer(self, name: str) -> Peer:
        return next(peer for peer in self._fleet.peers if peer.name == name)


def _nothing(peer: Peer, point: str) -> None:
    """Nothing goes wrong at most points."""
    del peer, point

"""When a grant is due although nobody asks for it: the schedule's rules, and its shards.

Decides from a record and the operator's policy at which instant somebody should look at the grant,
and what is to be done when that instant has come. The schedule is advice: whether a grant is
claimed, the lease decides. Does not know where the schedule is kept, nor who looks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from sidecar.domain import policy
from sidecar.domain.policy import ProtocolTimes, RefreshAhead, RefreshPolicy
from sidecar.domain.record import GrantId, GrantRecord, GrantState
from sidecar.domain.transitions_claim import bounded

SHARDS: Final = 16
"""Into so many parts the schedule is cut, so that no key of the store holds all grants."""

TELLS_IN_A_WINDOW: Final = 10
"""How often, at most, the use of a grant is told to the fleet while it counts as in use."""

KEEPALIVE_JITTER: Final = 0.1
UNANSWERED: Final = frozenset({GrantState.SENDING, GrantState.IN_DOUBT})


def shard_of(grant: GrantId) -> int:
    """Return the part of the schedule in which a grant stands.

    It is taken from the other end of the id than the grant's jitter, lest one shard hold the grants
    of one jitter.
    """
    return int(grant[-1], 16) % SHARDS


@dataclass(frozen=True, slots=True, kw_only=True)
class DueGrant:
    """A grant whose instant in the schedule has come (store clock)."""

    grant: GrantId
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Prospect:
    """When a grant is due next (store clock), as long as its record stands; ``None``: never."""

    if_used_ms: int | None
    if_idle_ms: int | None


_NEVER: Final = Prospect(if_used_ms=None, if_idle_ms=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class DueNow:
    """The grant is to be claimed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DueLater:
    """The grant is to be looked at again at this instant."""

    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NotDue:
    """Nothing is to be done until the grant is used or changes."""


DueVerdict = DueNow | DueLater | NotDue


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The rules as an operator chose them."""

    policy: RefreshPolicy
    times: ProtocolTimes

    @property
    def tell_use_every_s(self) -> float:
        """For how long the use of a grant need not be told again."""
        return self.policy.active_window_s / TELLS_IN_A_WINDOW

    @property
    def use_counts_s(self) -> float:
        """For how long a use that was told counts.

        It is told only now and then, so it counts for as much longer: no grant that was used within
        the window is ever taken for idle.
        """
        return self.policy.active_window_s + self.tell_use_every_s

    def is_in_use(self, used_at_ms: int, *, now_ms: int) -> bool:
        """Whether a grant counts as in use, by its last use that was told."""
        return now_ms - used_at_ms <= self.use_counts_s * 1000

    def prospect(self, grant: GrantId, record: GrantRecord, *, now_ms: int) -> Prospect:
        """Return when the grant is due next, in use or idle.

        Instants of another clock (`bounds`) do not count: the claim that follows corrects them.
        """
        if record.state.is_dead or not self.policy.is_ahead:
            return _NEVER
        if bounded(record, now_ms) != record:
            record = replace(
                record,
                lease_until_ms=0,
                hold_until_ms=0,
                quarantine_until_ms=0,
                not_before_ms=0,
                committed_at_ms=0,
            )
        if record.state in UNANSWERED:
            # Whoever claimed should have ended it by then; if not, somebody else probes or settles.
            over_ms = max(record.hold_until_ms, record.quarantine_until_ms)
            return Prospect(if_used_ms=over_ms, if_idle_ms=over_ms)
        expiring_ms = self._refresh_at_ms(grant, record)
        idling_ms = self._keep_alive_at_ms(grant, record)
        soonest_ms = expiring_ms if idling_ms is None else min(expiring_ms, idling_ms)
        used_ms = self._not_before(record, soonest_ms)
        if self.policy.ahead is RefreshAhead.ALL:
            return Prospect(if_used_ms=used_ms, if_idle_ms=used_ms)
        idle_ms = None if idling_ms is None else self._not_before(record, idling_ms)
        return Prospect(if_used_ms=used_ms, if_idle_ms=idle_ms)

    def judge(
        self, grant: GrantId, record: GrantRecord, *, is_used: bool, now_ms: int
    ) -> DueVerdict:
        """Tell what is to be done about a grant that somebody looks at."""
        prospect = self.prospect(grant, record, now_ms=now_ms)
        at_ms = prospect.if_used_ms if is_used else prospect.if_idle_ms
        if at_ms is None:
            return NotDue()
        return DueNow() if at_ms <= now_ms else DueLater(at_ms=at_ms)

    def _refresh_at_ms(self, grant: GrantId, record: GrantRecord) -> int:
        expires_at_ms = policy.believed_expiry_ms(
            expires_at_ms=record.pair.expires_at_ms,
            committed_at_ms=record.committed_at_ms,
            policy=self.policy,
        )
        return policy.horizon(
            expires_at_ms=expires_at_ms,
            committed_at_ms=record.committed_at_ms,
            jitter=policy.grant_jitter(grant),
            policy=self.policy,
        ).refresh_at_ms

    def _keep_alive_at_ms(self, grant: GrantId, record: GrantRecord) -> int | None:
        if not self.policy.keepalive_s:
            return None
        early = 1 - KEEPALIVE_JITTER * policy.grant_jitter(grant)
        return record.committed_at_ms + int(self.policy.keepalive_s * early * 1000)

    def _not_before(self, record: GrantRecord, wanted_ms: int) -> int:
        """Return the instant, or a later one before which a claim would be refused or too much.

        A token service that gives very short lives must not be asked for another one all the time.
        """
        least_ms = int(self.times.ahead_least_s * 1000)
        return max(
            wanted_ms,
            record.committed_at_ms + least_ms,
            record.not_before_ms,
            record.quarantine_until_ms,
            record.lease_until_ms,
        )

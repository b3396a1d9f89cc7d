"""Judges a chaos run: who lost a grant and why, and why a token was presented more than once.

A grant is *held* when the store has the provider's live token in a state that serves it. One that
is not is *lost*, with a cause that nobody could have avoided, or avoidably. A token that was
presented more than once was presented again under one of the rights that the protocol gives, or
without a right: *unexplained*.

A pure function of the evidence. It reads what was presented by whom in the order in which the
senders set about it, so that a request which a dead process sent and the provider took up late
counts where its sender decided. What a tag says about the right to present is not believed: each
right is checked against deaths, stops, restarts and instants that others noted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import Final, final

from tests.chaos.evidence import ClaimTag, Evidence, Presentation, ProviderGrant
from tests.chaos.fleet_history import FleetHistory

SERVING: Final = frozenset({"active", "leased", "sending"})
REUSE: Final = "reuse"


class LossCause(StrEnum):
    """Why the store does not hold the live token."""

    ANSWER_DROPPED = "answer_dropped"
    """The provider, or the network, ate the answer on purpose."""
    OWNER_KILLED = "owner_killed"
    """The owner was dead before the answer, or ran for at most 50 ms after it.

    Where the provider has grace, nobody had the time to repeat its claim, too.
    """
    DEAD_CLAIM = "dead_claim"
    """A process that was dead by then had sent a claim that ended the family."""
    ROLLBACK = "rollback"
    """The store forgot, the holder was away past the quarantine, and the family ended for it."""
    AVOIDABLE = "avoidable"


class RepeatCause(StrEnum):
    """By what right a token was presented again."""

    OWNER_RETRY = "owner_retry"
    """Its claim had got no whole answer, and nobody else can have one."""
    RELEASED = "released"
    """The earlier claims were over, and the provider had done nothing."""
    ORPHAN = "orphan"
    """The earlier owner was dead, and its spool had been read."""
    PROBE = "probe"
    """The hold of the earlier claim was over; a dead probe hands its right on."""
    AFTER_LOSS = "after_loss"
    """The successor was unavoidably lost before."""
    ROLLBACK = "rollback"
    """The store forgot, and the holder was away past the quarantine."""
    UNEXPLAINED = "unexplained"


UNAVOIDABLE: Final = frozenset(LossCause) - {LossCause.AVOIDABLE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A grant that is not held, and why."""

    user: str
    cause: LossCause
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """A presentation of a token that was presented before; stale if that had bought something."""

    presentation: Presentation
    cause: RepeatCause
    is_stale: bool
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of a run.

    Attributes:
        claims: Presentations that bought a successor.
        slowest_s: The longest time for which a living process had an answer and no copy on disk.
    """

    claims: int
    held: int
    slowest_s: float
    losses: tuple[Loss, ...]
    repeats: tuple[Repeat, ...]

    @property
    def avoidable(self) -> tuple[Loss, ...]:
        """Losses that need not have been."""
        return tuple(loss for loss in self.losses if loss.cause is LossCause.AVOIDABLE)

    @property
    def unexplained(self) -> tuple[Repeat, ...]:
        """Presentations without a right to them."""
        return tuple(each for each in self.repeats if each.cause is RepeatCause.UNEXPLAINED)

    @property
    def stale(self) -> int:
        """How many presentations were of a token that was worthless by then."""
        return sum(each.is_stale for each in self.repeats)

    @property
    def losses_by_cause(self) -> Counter[LossCause]:
        """How many grants each cause cost."""
        return Counter(loss.cause for loss in self.losses)

    @property
    def repeats_by_cause(self) -> Counter[RepeatCause]:
        """How many presentations each right allowed."""
        return Counter(each.cause for each in self.repeats)


def judge(evidence: Evidence) -> Verdict:
    """Return the verdict on a run."""
    return _Oracle(evidence).judge()


@final
class _Oracle:
    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._rules = evidence.rules
        self._history = FleetHistory(evidence)
        self._by_token: dict[str, list[Presentation]] = defaultdict(list)
        self._by_user: dict[str, list[Presentation]] = defaultdict(list)
        self._by_claim: dict[str, list[Presentation]] = defaultdict(list)
        self._bringers: dict[str, Presentation] = {}
        for each in sorted(evidence.presentations, key=lambda each: (each.began_s, each.seq)):
            self._by_token[each.token].append(each)
            self._by_user[each.user].append(each)
            if each.tag is not None:
                self._by_claim[each.tag.claim_id].append(each)
            if each.successor is not None:
                self._bringers[each.successor] = each

    def judge(self) -> Verdict:
        repeats = tuple(
            self._repeat(each, earlier)
            for presented in self._by_token.values()
            for place, each in enumerate(presented)
            if (earlier := presented[:place])
        )
        rights = {each.presentation.seq: each.cause for each in repeats}
        found = [self._loss(grant, rights) for grant in self._evidence.provider]
        losses = tuple(loss for loss in found if loss is not None)
        return Verdict(
            claims=len(self._bringers),
            held=len(found) - len(losses),
            slowest_s=max(map(self._kept_within_s, self._bringers.values()), default=0.0),
            losses=losses,
            repeats=repeats,
        )

    # Losses

    def _loss(self, grant: ProviderGrant, rights: dict[int, RepeatCause]) -> Loss | None:
        """Return why a grant is not held, or ``None`` where it is."""
        stored = self._evidence.stored.get(grant.user)
        live = self._live_tokens(grant)
        if stored is not None and stored.token in live and stored.state in SERVING:
            return None
        if stored is not None and stored.token in live:
            return self._avoidable(grant, f"the store has it and says {stored.state}")
        if live & self._evidence.spooled.get(grant.user, frozenset()):
            return self._avoidable(grant, "it lies in a spool")
        if grant.ended == REUSE:
            return self._ended_family(grant, rights)
        causes = [self._lost_for_good(self._bringers.get(token)) for token in sorted(live)]
        for cause, detail in causes:
            if cause is LossCause.AVOIDABLE:
                return self._avoidable(grant, detail)
        if not causes:
            return self._avoidable(grant, f"the provider has no live token: {grant.ended}")
        return Loss(user=grant.user, cause=causes[0][0], detail=causes[0][1])

    def _live_tokens(self, grant: ProviderGrant) -> frozenset[str]:
        """Return what can still be presented; a grace window may have issued two successors."""
        if grant.ended is not None:
            return frozenset()
        presented = self._by_user[grant.user]
        issued = {each.successor for each in presented if each.successor is not None}
        spent = {each.token for each in presented if each.is_success}
        return frozenset((issued | ({grant.token} if grant.token else set[str]())) - spent)

    def _avoidable(self, grant: ProviderGrant, detail: str) -> Loss:
        return Loss(user=grant.user, cause=LossCause.AVOIDABLE, detail=detail)

    def _lost_answer(self, bringer: Presentation | None) -> tuple[LossCause, str]:
        """Tell why nobody has what a presentation bought."""
        if bringer is None:
            return LossCause.AVOIDABLE, "nobody has the first pair"
        if bringer.is_withheld:
            return LossCause.ANSWER_DROPPED, f"presentation {bringer.seq}"
        life = None if bringer.tag is None else self._history.life_of(bringer.tag.pid)
        if life is None or life.ended_s is None:
            return LossCause.AVOIDABLE, f"presentation {bringer.seq} was answered to the living"
        if bringer.answered_s is None or life.ended_s <= bringer.answered_s:
            return LossCause.OWNER_KILLED, f"presentation {bringer.seq}, before its answer"
        ran_s = self._history.ran_s(life, bringer.answered_s, life.ended_s)
        where = f"presentation {bringer.seq}, {ran_s * 1000:.0f} ms after its answer"
        if ran_s <= self._rules.alive_s:
            return LossCause.OWNER_KILLED, where
        return LossCause.AVOIDABLE, where

    def _lost_for_good(self, bringer: Presentation | None) -> tuple[LossCause, str]:
        """Tell why nobody has what a presentation bought, and why nobody bought it again."""
        cause, detail = self._lost_answer(bringer)
        if cause is LossCause.OWNER_KILLED and bringer is not None and self._had_time(bringer):
            return LossCause.AVOIDABLE, f"{detail}, and not repeated in the grace"
        return cause, detail

    def _had_time(self, bringer: Presentation) -> bool:
        """Whether the next owner of a dead claim's spool could have repeated it in the grace.

        A store that was restarted meanwhile does not hand the dead claim over.
        """
        life = None if bringer.tag is None else self._history.life_of(bringer.tag.pid)
        if life is None or life.ended_s is None:
            return False
        bought = [each for each in self._by_token[bringer.token] if each.is_success]
        spent_s = min(each.decided_s for each in bought)
        repeated = (each.began_s for each in bought if each.began_s > bringer.began_s)
        until_s = min(
            spent_s + self._rules.grace_s,
            min(repeated, default=inf),
            self._history.next_restart_s(bringer.began_s),
        )
        ran_s = self._history.reachable_s(life.sidecar, max(life.ended_s, spent_s), until_s)
        return ran_s >= self._rules.repeats_within_s

    def _kept_within_s(self, bringer: Presentation) -> float:
        """Return for how long a process had an answer that was not on its disk yet."""
        tag = bringer.tag
        life = None if tag is None else self._history.life_of(tag.pid)
        spooled_s = None if tag is None else self._evidence.spool_times.get(tag.claim_id)
        if life is None or spooled_s is None or bringer.answered_s is None:
            return 0.0
        return self._history.ran_s(life, bringer.answered_s, spooled_s)

    def _ended_family(self, grant: ProviderGrant, rights: dict[int, RepeatCause]) -> Loss:
        """Tell why a family was ended for a second use, and whether it lived by then."""
        presented = self._by_user[grant.user]
        ending = next((each for each in presented if each.outcome == "family_revoked"), None)
        if ending is None:
            return self._avoidable(grant, "nobody is known to have ended the family")
        newest = self._newest_before(ending)
        cause, detail = self._lost_answer(newest)
        if cause in UNAVOIDABLE and not self._is_spooled(newest):
            return Loss(user=grant.user, cause=cause, detail=detail)
        life = None if ending.tag is None else self._history.life_of(ending.tag.pid)
        detail = f"presentation {ending.seq} ended the family"
        if life is not None and life.ended_s is not None and life.ended_s <= ending.decided_s:
            return Loss(user=grant.user, cause=LossCause.DEAD_CLAIM, detail=detail)
        if rights.get(ending.seq) is RepeatCause.ROLLBACK:
            return Loss(user=grant.user, cause=LossCause.ROLLBACK, detail=detail)
        return self._avoidable(grant, detail)

    def _newest_before(self, ending: Presentation) -> Presentation | None:
        bought = [each for each in self._by_user[ending.user] if each.is_success]
        return max(bought, key=lambda each: each.seq, default=None)

    def _is_spooled(self, presentation: Presentation | None) -> bool:
        tag = None if presentation is None else presentation.tag
        return tag is not None and tag.claim_id in self._evidence.spool_times

    # Repetitions

    def _repeat(self, each: Presentation, earlier: list[Presentation]) -> Repeat:
        """Judge one further presentation: it needs a right against every earlier one."""
        is_stale = any(former.is_success and former.seq < each.seq for former in earlier)
        rights = [(former, self._right(each, former)) for former in earlier]
        for former, right in rights:
            if right is RepeatCause.UNEXPLAINED:
                detail = f"{_told(former)}, then {_told(each)}"
                return Repeat(presentation=each, cause=right, is_stale=is_stale, detail=detail)
        bought = [right for former, right in rights if former.is_success]
        cause = bought[-1] if bought else rights[-1][1]
        return Repeat(presentation=each, cause=cause, is_stale=is_stale)

    def _right(self, each: Presentation, former: Presentation) -> RepeatCause:
        """Return the right to present again what `former` presented."""
        if each.tag is None or former.tag is None or self._had_successor(each, former):
            return RepeatCause.UNEXPLAINED
        if each.tag.claim_id == former.tag.claim_id:
            return RepeatCause.OWNER_RETRY if _got_nothing(former) else RepeatCause.UNEXPLAINED
        if not former.is_success and self._is_over(former.tag.claim_id, each.began_s):
            return RepeatCause.RELEASED
        if former.is_success and self._was_lost(former, each.began_s):
            return RepeatCause.AFTER_LOSS
        if each.tag.kind in ("orphan", "probe"):
            life = self._history.life_of(former.tag.pid)
            if life is not None and self._history.has_successor(life, each.began_s):
                return RepeatCause.ORPHAN
        if self._may_probe(each.tag) and self._is_past_hold(each, former.tag.claim_id):
            return RepeatCause.PROBE
        if self._is_after_rollback(each, former):
            return RepeatCause.ROLLBACK
        return RepeatCause.UNEXPLAINED

    def _had_successor(self, each: Presentation, former: Presentation) -> bool:
        """Whether the sender's own spool had what `former` bought (invariant 4)."""
        if each.tag is None or former.tag is None or not former.is_success:
            return False
        at_s = self._evidence.spool_times.get(former.tag.claim_id)
        sender = self._history.life_of(each.tag.pid)
        holder = self._history.life_of(former.tag.pid)
        if at_s is None or sender is None or holder is None or sender.sidecar != holder.sidecar:
            return False
        return at_s < each.began_s and not self._history.forgot_between(at_s, each.began_s)

    def _is_over(self, claim_id: str, by_s: float) -> bool:
        """Whether a claim had ended by an instant, with nothing that anybody can hold."""
        return all(
            self._was_lost(one, by_s)
            if one.is_success
            else one.answered_s is not None and one.answered_s <= by_s
            for one in self._by_claim[claim_id]
        )

    def _was_lost(self, former: Presentation, by_s: float) -> bool:
        cause, _ = self._lost_answer(former)
        life = None if former.tag is None else self._history.life_of(former.tag.pid)
        if cause is LossCause.ANSWER_DROPPED:
            return former.answered_s is not None and former.answered_s <= by_s
        was_dead = life is not None and life.ended_s is not None and life.ended_s <= by_s
        return cause is LossCause.OWNER_KILLED and was_dead and not self._is_spooled(former)

    def _may_probe(self, tag: ClaimTag) -> bool:
        """Whether a claim is a probe, or may repeat the probe of a process that is dead."""
        life = self._history.life_of(tag.pid)
        is_heir = life is not None and self._history.has_predecessor(life)
        return tag.kind == "probe" or (tag.kind == "orphan" and is_heir)

    def _is_past_hold(self, each: Presentation, claim_id: str) -> bool:
        """Whether strangers had waited for the hold of every mark of a claim."""
        began_s = [one.began_s for one in self._by_claim[claim_id] if one.began_s < each.began_s]
        return each.began_s >= max(began_s) + self._rules.hold_s

    def _is_after_rollback(self, each: Presentation, former: Presentation) -> bool:
        """Whether the store forgot `former`, and nobody could replay what it bought in time."""
        restart = self._history.restart_before(each.began_s)
        if restart is None or each.began_s < restart.up_s + self._rules.quarantine_s:
            return False
        if not self._history.forgot_between(former.began_s, each.began_s):
            return False
        holder = former
        for one in self._by_user[each.user]:
            if one.is_success and one.began_s < each.began_s and one.seq > holder.seq:
                holder = one
        life = None if holder.tag is None else self._history.life_of(holder.tag.pid)
        if life is None:
            return False
        answered_s = each.began_s if holder.answered_s is None else holder.answered_s
        since_s = max(restart.up_s, min(answered_s, each.began_s))
        reachable_s = self._history.reachable_s(life.sidecar, since_s, each.began_s)
        return reachable_s < self._rules.quarantine_s


def _got_nothing(presentation: Presentation) -> bool:
    """Whether its sender cannot have read a successor in the answer, nor a plain refusal."""
    return presentation.is_withheld


def _told(presentation: Presentation) -> str:
    tag = presentation.tag
    by = "somebody" if tag is None else f"{tag.kind} {tag.attempt} of process {tag.pid}"
    outcome = f"{presentation.outcome} (answer {presentation.answer})"
    return f"{presentation.seq} by {by} at {presentation.began_s:.3f}: {outcome}"

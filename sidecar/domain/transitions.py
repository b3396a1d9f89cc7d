"""The refresh protocol as a table: (record, command, moment) -> (record, verdict).

Everything that changes a grant's record is decided here and in the ``transitions_*`` modules
beside it, one function a command. The same rules exist once more as ``.lua`` scripts in the store;
a differential test holds the two together. Nothing here knows a clock, a store or a network.

Theory of operation. A refresh token can be used once, so the identity provider alone decides who
wins a claim; the record exists to keep needless claims from being made and to let the winner's
pair, the only live one in the world, always through:

====================  ==========================================================  ================
state                 command                                                     becomes
====================  ==========================================================  ================
active                acquire                                                     leased
leased                mark_sending                                                sending
leased                release                                                     active
leased, lease over    acquire                                                     leased
sending               release (no successor can appear)                           active
sending, hold over    acquire                                                     leased (a probe)
sending, leased       adopt_orphan (same replica)                                 leased (a probe)
sending               deny                                                        in_doubt
in_doubt, time over   settle                                                      reauth_required
any live one          invalidate                                                  reauth_required
any                   commit of a newer generation                                active
any                   commit of a newer consent                                   active
any                   begin_revocation of this or a newer consent                 revoking
revoking, revoked     commit of a newer generation                                revoking
revoking              finish_revocation                                           revoked
revoked, old          purge                                                       no record
====================  ==========================================================  ================

Whatever is not listed leaves the record as it is and says so in its verdict. Applying a command
twice in a row leaves the same record as applying it once.
"""

from __future__ import annotations

from typing import assert_never, cast

from sidecar.domain.commands import (
    Acquire,
    AdoptOrphan,
    BeginRevocation,
    Command,
    Commit,
    CoolDown,
    Deny,
    EndCoolDown,
    FinishRevocation,
    Invalidate,
    KeepHold,
    MarkSending,
    Moment,
    Purge,
    Release,
    Rewrap,
    Settle,
    VerdictT_co,
)
from sidecar.domain.record import GrantRecord
from sidecar.domain.transitions_claim import (
    acquire,
    adopt_orphan,
    keep_hold,
    mark_sending,
    release,
)
from sidecar.domain.transitions_commit import commit, rewrap
from sidecar.domain.transitions_cooling import cool_down, end_cool_down
from sidecar.domain.transitions_denial import deny, invalidate, settle
from sidecar.domain.transitions_revocation import begin_revocation, finish_revocation, purge

AnyCommand = (
    Acquire
    | MarkSending
    | KeepHold
    | Release
    | Commit
    | Deny
    | Settle
    | AdoptOrphan
    | BeginRevocation
    | FinishRevocation
    | Rewrap
    | Invalidate
    | CoolDown
    | EndCoolDown
    | Purge
)
"""Every command there is; `Command` is what its verdicts are called."""


def apply(
    record: GrantRecord | None, command: Command[VerdictT_co], moment: Moment
) -> tuple[GrantRecord | None, VerdictT_co]:
    """Return the record after the command, and what to tell the caller.

    Args:
        record: The record as it stands; ``None`` where there is none.
        command: One of `AnyCommand`.
        moment: The store's clock and incarnation.
    """
    after, verdict = _step(record, cast("AnyCommand", command), moment)
    return after, cast("VerdictT_co", verdict)


def _step(  # noqa: C901, PLR0912 - the table: one line a command
    record: GrantRecord | None, command: AnyCommand, moment: Moment
) -> tuple[GrantRecord | None, object]:
    match command:
        case Acquire():
            return acquire(record, command, moment)
        case MarkSending():
            return mark_sending(record, command, moment)
        case KeepHold():
            return keep_hold(record, command, moment)
        case Release():
            return release(record, command, moment)
        case Commit():
            return commit(record, command, moment)
        case Deny():
            return deny(record, command, moment)
        case Settle():
            return settle(record, command, moment)
        case AdoptOrphan():
            return adopt_orphan(record, command, moment)
        case BeginRevocation():
            return begin_revocation(record, command, moment)
        case FinishRevocation():
            return finish_revocation(record, command, moment)
        case Rewrap():
            return rewrap(record, command, moment)
        case Invalidate():
            return invalidate(record, command, moment)
        case CoolDown():
            return cool_down(record, command, moment)
        case EndCoolDown():
            return end_cool_down(record, command, moment)
        case Purge():
            return purge(record, command, moment)
        case _:
            assert_never(command)

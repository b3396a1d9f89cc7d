"""What a script answered, as a verdict of the domain; the reverse of the scripts' last lines.

A reply is a list whose first item names the verdict. Knows neither the commands nor the rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sidecar.adapters.redis_codec import decode_flat
from sidecar.domain import commands
from sidecar.domain.notices import FeedEntry
from sidecar.domain.record import GrantId, GrantState, RunId


class ReplyUnreadable(ValueError):
    """A script answered something that this version does not know."""


def verdict_of(reply: Sequence[Any]) -> object:  # noqa: C901, PLR0912 - one case each
    """Return the verdict in a reply.

    Raises:
        ReplyUnreadable: It is none.
        RecordUnreadable: The record in it cannot be read.
    """
    match list(reply):
        case [b"missing"]:
            return commands.Missing()
        case [b"dead", bytes(state)]:
            return commands.Dead(state=_state(state))
        case [b"fresh", [*flat]]:
            return commands.Fresh(record=decode_flat(flat))
        case [b"leased", [*flat]]:
            return commands.Leased(record=decode_flat(flat))
        case [b"new_incarnation", bytes(run_id)]:
            return commands.NewIncarnation(run_id=RunId(run_id.decode()))
        case [b"quarantined", int(until_ms)]:
            return commands.Quarantined(until_ms=until_ms)
        case [b"held", int(until_ms)]:
            return commands.Held(until_ms=until_ms)
        case [b"doubted", int(until_ms), int(since_ms)]:
            return commands.Doubted(until_ms=until_ms, since_ms=since_ms)
        case [b"healing_over", [*flat]]:
            return commands.HealingOver(record=decode_flat(flat))
        case [b"backing_off", int(until_ms)]:
            return commands.BackingOff(until_ms=until_ms)
        case [b"busy", int(until_ms)]:
            return commands.Busy(until_ms=until_ms)
        case [b"probe_withheld"]:
            return commands.ProbeWithheld()
        case [b"done"]:
            return commands.Done()
        case [b"refused"]:
            return commands.Refused()
        case _:
            return _pair_verdict_of(reply)


def _pair_verdict_of(reply: Sequence[Any]) -> object:
    match list(reply):
        case [b"committed", bytes(was), int(is_gap)]:
            return commands.Committed(was=_state(was) if was else None, is_gap=is_gap == 1)
        case [b"stale"]:
            return commands.Stale()
        case [b"duplicate"]:
            return commands.Duplicate()
        case [b"forked", int(is_ours_kept)]:
            return commands.Forked(is_ours_kept=is_ours_kept == 1)
        case [b"superseded"]:
            return commands.Superseded()
        case [b"revoke_successor"]:
            return commands.RevokeSuccessor()
        case [b"healed", [*flat]]:
            return commands.Healed(record=decode_flat(flat))
        case [b"cleanly_denied"]:
            return commands.CleanlyDenied()
        case [b"in_doubt", int(until_ms)]:
            return commands.InDoubt(until_ms=until_ms)
        case [b"being_revoked"]:
            return commands.BeingRevoked()
        case [b"not_ours"]:
            return commands.NotOurs()
        case _:
            return _ending_verdict_of(reply)


def _ending_verdict_of(reply: Sequence[Any]) -> object:
    match list(reply):
        case [b"revocation_begun", int(until_ms), [*flat]]:
            record = decode_flat(flat)
            return commands.RevocationBegun(record=record, in_flight_until_ms=until_ms)
        case [b"already_revoked"]:
            return commands.AlreadyRevoked()
        case [b"invalidated", bytes(was)]:
            return commands.Invalidated(was=_state(was))
        case [b"cooling", int(until_ms)]:
            return commands.Cooling(until_ms=until_ms)
        case [b"purged"]:
            return commands.Purged()
        case [b"not_purged", bytes(state), int(wait_ms)]:
            return commands.NotPurged(state=_state(state), wait_ms=wait_ms)
        case _:
            raise ReplyUnreadable("a script of the store answered something unknown")


def _state(value: bytes) -> GrantState:
    try:
        return GrantState(value.decode())
    except ValueError as error:
        raise ReplyUnreadable("a script of the store named an unknown state") from error


def feed_entry_of(cursor: bytes, fields: dict[bytes, bytes]) -> FeedEntry:
    """Return one entry of the feed.

    Raises:
        ReplyUnreadable: It is none.
    """
    try:
        return FeedEntry(
            cursor=cursor.decode(),
            grant=GrantId(fields[b"grant"].decode()),
            state=GrantState(fields[b"state"].decode()),
            reason=fields[b"reason"].decode(),
            at_ms=int(cursor.partition(b"-")[0]),
        )
    except (KeyError, ValueError):
        raise ReplyUnreadable("an entry of the feed cannot be read") from None

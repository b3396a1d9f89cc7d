"""The scripts of the store: their texts, and how each command becomes a call of one of them.

A script is named like its `StoreOperation` and lies in ``lua/``, one file a command. Its text is
put together from its first line, a clock, the record's reader and writer, and its own body. Holds
no connection and decides nothing: the rules are in the scripts, and in
`sidecar.domain.transitions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha1
from importlib import resources
from typing import Final, assert_never

from sidecar.domain.bounds import LARGEST_NUMBER, LONGEST_WAIT_MS
from sidecar.domain.commands import (
    Acquire,
    AdoptOrphan,
    BeginRevocation,
    Commit,
    CoolDown,
    Deny,
    EndCoolDown,
    FinishRevocation,
    Invalidate,
    KeepHold,
    MarkSending,
    Purge,
    Release,
    Rewrap,
    Settle,
)
from sidecar.domain.events import StoreOperation
from sidecar.domain.record import Position
from sidecar.domain.transitions import AnyCommand

Argument = str | bytes | int

WITHOUT_RECORD: Final = (
    StoreOperation.PROBE,
    StoreOperation.MEET,
    StoreOperation.TAKE_DUE,
    StoreOperation.THROTTLE,
    StoreOperation.RESERVE,
)
OF_COMMANDS: Final = (
    StoreOperation.ACQUIRE,
    StoreOperation.MARK,
    StoreOperation.KEEP,
    StoreOperation.RELEASE,
    StoreOperation.COMMIT,
    StoreOperation.DENY,
    StoreOperation.SETTLE,
    StoreOperation.ORPHAN,
    StoreOperation.REVOKE_BEGIN,
    StoreOperation.REVOKE_FINISH,
    StoreOperation.REWRAP,
    StoreOperation.INVALIDATE,
    StoreOperation.COOL_DOWN,
    StoreOperation.COOL_DOWN_END,
    StoreOperation.PURGE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A text for EVAL and its name for EVALSHA."""

    text: str
    sha: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One command as a call: the script of `operation` and its own arguments."""

    operation: StoreOperation
    arguments: tuple[Argument, ...]


def load_scripts(clock: str | None = None) -> Mapping[StoreOperation, Script]:
    """Read all scripts.

    Args:
        clock: Lua that defines ``moment()``; the server's own clock and incarnation if ``None``.
    """
    folder = resources.files("sidecar.adapters").joinpath("lua")

    def text_of(name: str) -> str:
        return folder.joinpath(f"{name}.lua").read_text(encoding="utf-8")

    moment = text_of("clock") if clock is None else clock
    record = f"local LONGEST_WAIT = {LONGEST_WAIT_MS}\n{text_of('record')}"
    return {
        operation: _compose(text_of(operation.value), moment, record) for operation in OF_COMMANDS
    } | {operation: _compose(text_of(operation.value), moment) for operation in WITHOUT_RECORD}


def _compose(own: str, *beginnings: str) -> Script:
    shebang, _, body = own.partition("\n")
    text = "\n".join((shebang, *beginnings, body))
    return Script(text=text, sha=sha1(text.encode(), usedforsecurity=False).hexdigest())


def call_of(command: AnyCommand) -> Call:  # noqa: C901, PLR0912 - one case a command
    """Return the call that carries a command out; the order is that of the script's header."""
    match command:
        case Acquire():
            return _acquire(command)
        case MarkSending(claim_id=claim, position=position, hold_ms=hold_ms):
            return _call(StoreOperation.MARK, claim, *_at(position), hold_ms)
        case KeepHold(claim_id=claim, hold_ms=hold_ms):
            return _call(StoreOperation.KEEP, claim, hold_ms)
        case Release():
            return _release(command)
        case Commit():
            return _commit(command)
        case Deny():
            return _deny(command)
        case Settle(position=position):
            return _call(StoreOperation.SETTLE, *_at(position))
        case AdoptOrphan():
            return _adopt(command)
        case BeginRevocation(consent=consent):
            return _call(StoreOperation.REVOKE_BEGIN, consent.id, consent.consented_at_ms)
        case FinishRevocation(position=position):
            return _call(StoreOperation.REVOKE_FINISH, *_at(position))
        case Rewrap(position=position, fingerprint=fingerprint):
            envelopes = (command.sealed_pair, command.sealed_key)
            return _call(StoreOperation.REWRAP, *_at(position), fingerprint, *envelopes)
        case Invalidate(error=error):
            return _call(StoreOperation.INVALIDATE, error.operation, error.reason)
        case CoolDown(consent_id=consent_id, product=product):
            spans = (command.base_ms, command.limit_ms)
            return _call(StoreOperation.COOL_DOWN, consent_id, product, *spans)
        case EndCoolDown(consent_id=consent_id, product=product):
            return _call(StoreOperation.COOL_DOWN_END, consent_id, product)
        case Purge(min_age_ms=min_age_ms):
            return _call(StoreOperation.PURGE, min_age_ms)
        case _:
            assert_never(command)


def _call(operation: StoreOperation, *arguments: Argument) -> Call:
    return Call(operation=operation, arguments=arguments)


def _at(position: Position) -> tuple[str, int]:
    return position.consent_id, position.generation


def _acquire(command: Acquire) -> Call:
    met = command.incarnation
    return _call(
        StoreOperation.ACQUIRE,
        command.claim_id,
        command.replica_id,
        command.boot_id,
        *_at(command.known),
        "" if met is None else met.run_id,
        0 if met is None else met.met_at_ms,
        command.lease_ms,
        command.quarantine_ms,
        int(command.may_probe),
        command.override_every_ms,
        int(command.may_go_on),
    )


def _release(command: Release) -> Call:
    error = command.error
    return _call(
        StoreOperation.RELEASE,
        command.claim_id,
        int(command.is_unspent),
        command.backoff_ms,
        int(error is not None),
        "" if error is None else error.operation,
        "" if error is None else error.reason,
        int(command.is_orphan),
    )


def _commit(command: Commit) -> Call:
    pair = command.pair
    return _call(
        StoreOperation.COMMIT,
        pair.consent.id,
        pair.consent.consented_at_ms,
        pair.generation,
        pair.fingerprint,
        pair.sealed_pair,
        pair.sealed_key,
        _counted(pair.expires_at_ms),
        _counted(pair.issued_at_s),
        command.claim_id or "",
        int(command.is_live),
    )


def _counted(instant: int) -> int:
    """Return an instant that a script can count to; of any other 0: it is not trusted.

    A spool of another version may hold one, beside a refresh token as good as any.
    """
    return instant if 0 <= instant <= LARGEST_NUMBER else 0


def _deny(command: Deny) -> Call:
    return _call(
        StoreOperation.DENY,
        command.claim_id,
        *_at(command.position),
        int(command.is_sole),
        command.heal_ms,
        command.error.operation,
        command.error.reason,
    )


def _adopt(command: AdoptOrphan) -> Call:
    return _call(
        StoreOperation.ORPHAN,
        command.orphan_claim_id,
        command.replica_id,
        command.claim_id,
        command.boot_id,
        command.lease_ms,
    )

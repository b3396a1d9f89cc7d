"""The one place that knows how a record lies in a Redis hash: field names, numbers, nothing.

A field that is not there means 0, false or empty; a number is a whole decimal number, true is
``1``. The scripts in ``lua/`` read and write the same fields. Knows neither a connection nor what
is inside an envelope.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

from sidecar.domain.bounds import LARGEST_NUMBER
from sidecar.domain.record import (
    BootId,
    ClaimId,
    Consent,
    ConsentId,
    GrantRecord,
    GrantState,
    LastError,
    ReplicaId,
    RunId,
    StoredPair,
)

IdT = TypeVar("IdT")

SCHEMA: Final = 1
"""The version in field ``v``; a record with a higher one is refused, here and in the scripts."""


class RecordUnreadable(ValueError):
    """A hash is not a record that this version knows; carries no value of it."""


def encode(record: GrantRecord) -> dict[bytes, bytes]:
    """Return the hash of a record, without the fields that say nothing."""
    pair, error = record.pair, record.last_error
    known: dict[str, str | bytes | int | None] = {
        "lid": pair.consent.id or None,
        "liat": pair.consent.consented_at_ms or None,
        "gen": pair.generation or None,
        "fp": pair.fingerprint or None,
        "tok": pair.sealed_pair or None,
        "key": pair.sealed_key or None,
        "iexp": pair.expires_at_ms or None,
        "iiat": pair.issued_at_s or None,
        "st": record.state.value,
        "op": record.claim_id,
        "rep": record.replica_id,
        "boot": record.boot_id,
        "lu": record.lease_until_ms or None,
        "sa": record.marked_at_ms or None,
        "hu": record.hold_until_ms or None,
        "att": record.marks or None,
        "prb": 1 if record.is_probe else None,
        "rid": record.run_id,
        "grid": record.committed_run_id,
        "qu": record.quarantine_until_ms or None,
        "nx": record.not_before_ms or None,
        "ov": record.overridden_at_ms or None,
        "fc": record.failures or None,
        "eo": None if error is None else error.operation,
        "er": None if error is None else error.reason,
        "ea": None if error is None else error.at_ms,
        "up": record.committed_at_ms or None,
        "ch": record.changed_at_ms or None,
        "cu": record.cool_until_ms or None,
        "cc": record.cool_count or None,
        "cp": record.cool_product or None,
    }
    said = {name: _to_bytes(value) for name, value in known.items() if value is not None}
    return {b"v": b"%d" % SCHEMA} | {name.encode(): value for name, value in said.items()}


def _to_bytes(value: str | bytes | int) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def decode(fields: Mapping[bytes, bytes]) -> GrantRecord:
    """Return the record that a hash holds.

    Raises:
        RecordUnreadable: A newer sidecar wrote it, or it is damaged.
    """
    try:
        version = int(fields[b"v"])
        if version <= SCHEMA:
            return _decode(_Fields(fields))
    except (KeyError, ValueError):  # whose text would carry the value
        raise RecordUnreadable("a record in the store is damaged") from None
    raise RecordUnreadable(f"a record has schema version {version}, known is {SCHEMA}")


def decode_flat(flat: Sequence[bytes]) -> GrantRecord:
    """Return the record of a reply that lists fields and values by turns."""
    return decode(dict(zip(flat[::2], flat[1::2], strict=True)))


class _Fields:
    """Reads typed values out of a hash."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[bytes, bytes]) -> None:
        self._fields = fields

    def bytes(self, name: str) -> bytes:
        return self._fields.get(name.encode(), b"")

    def text(self, name: str) -> str:
        return self.bytes(name).decode()

    def number(self, name: str) -> int:
        return _bounded(int(self._fields.get(name.encode(), b"0")))

    def optional(self, name: str, make: Callable[[str], IdT]) -> IdT | None:
        value = self._fields.get(name.encode())
        return None if value is None else make(value.decode())


def _bounded(number: int) -> int:
    """Return the number, if the scripts can count to it.

    Raises:
        ValueError: They cannot, so none of them wrote it.
    """
    if abs(number) > LARGEST_NUMBER:
        raise ValueError
    return number


def _decode(fields: _Fields) -> GrantRecord:
    return GrantRecord(
        pair=_decode_pair(fields),
        state=GrantState(fields.text("st")),
        claim_id=fields.optional("op", ClaimId),
        replica_id=fields.optional("rep", ReplicaId),
        boot_id=fields.optional("boot", BootId),
        lease_until_ms=fields.number("lu"),
        marked_at_ms=fields.number("sa"),
        hold_until_ms=fields.number("hu"),
        marks=fields.number("att"),
        is_probe=fields.number("prb") == 1,
        run_id=fields.optional("rid", RunId),
        committed_run_id=fields.optional("grid", RunId),
        quarantine_until_ms=fields.number("qu"),
        not_before_ms=fields.number("nx"),
        overridden_at_ms=fields.number("ov"),
        failures=fields.number("fc"),
        last_error=_decode_error(fields),
        committed_at_ms=fields.number("up"),
        changed_at_ms=fields.number("ch"),
        cool_until_ms=fields.number("cu"),
        cool_count=fields.number("cc"),
        cool_product=fields.text("cp"),
    )


def _decode_pair(fields: _Fields) -> StoredPair:
    return StoredPair(
        consent=Consent(id=ConsentId(fields.text("lid")), consented_at_ms=fields.number("liat")),
        generation=fields.number("gen"),
        fingerprint=fields.text("fp"),
        sealed_pair=fields.bytes("tok"),
        sealed_key=fields.bytes("key"),
        expires_at_ms=fields.number("iexp"),
        issued_at_s=fields.number("iiat"),
    )


def _decode_error(fields: _Fields) -> LastError | None:
    at_ms = fields.optional("ea", lambda text: _bounded(int(text)))
    if at_ms is None:
        return None
    return LastError(operation=fields.text("eo"), reason=fields.text("er"), at_ms=at_ms)


def instant_of(score: bytes) -> int:
    """Return a score as an instant; of one that is infinite, as far as the scripts can count."""
    return int(max(-LARGEST_NUMBER, min(float(score), LARGEST_NUMBER)))

"""The bytes of the spool: entries as records, records in segments.

A segment begins with a head of 24 bytes, little-endian: the format's name (8), the number of
records of the snapshot it begins with, or -1 (i64), four bytes of zero and the CRC-32 of all that.
Records follow without a gap::

    length (u32) | CRC-32 (u32) | type (1 byte) | written at (f64, seconds) | fields

`length` counts from the type on, and so does the CRC. A field is its length (u32) and its bytes:
text as UTF-8, numbers as decimal digits, envelopes as they are. A later version may append fields
to a type; this one reads those it knows. What was preallocated and never written is zero, so a
length of zero ends a segment.

A record that fails its check ends the segment: after it, no boundary can be trusted. Where nothing
but zeros follows, the write itself was cut short, by a crash that came before anybody was told that
the record is safe; otherwise something is damaged. A sound record of an unknown type, written by a
later version, is left alone and counted.

It must not know files, and never opens an envelope.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from typing import Final, assert_never

from sidecar.domain.record import ClaimId, Consent, ConsentId, GrantId, Position, StoredPair
from sidecar.domain.record import ReplicaId as Replica
from sidecar.domain.spooled import (
    AnswerReceived,
    ClaimEnded,
    ClaimIntended,
    ConsentEnded,
    PairConfirmed,
    PairForgotten,
    PairReceived,
    RevocationOrdered,
    RevocationSettled,
    SpoolEntry,
)

_NAME: Final = b"AKSPOOL1"
_HEAD: Final = struct.Struct("<8sq4xI")
_FRAME: Final = struct.Struct("<II")
_STAMP: Final = struct.Struct("<cd")
_LENGTH: Final = struct.Struct("<I")
_NO_SNAPSHOT: Final = -1

HEAD_BYTES: Final = _HEAD.size


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentContents:
    """What one segment holds.

    Attributes:
        entries: Each entry with the instant it was written (wall clock), in order.
        is_snapshot: The segment begins with the whole live state, and all of that is sound: what
            lies in earlier segments is worthless.
        torn_bytes: The bytes after the last sound record, where they look like one write that was
            cut short; 0 where the segment ends as it should.
        unreadable_bytes: Bytes that cannot be read for any other reason.
    """

    entries: tuple[tuple[SpoolEntry, float], ...] = ()
    is_snapshot: bool = False
    torn_bytes: int = 0
    unreadable_bytes: int = 0


def encode_head(snapshot_records: int | None = None) -> bytes:
    """Return the head of a segment, which begins with a snapshot of so many records, or none."""
    count = _NO_SNAPSHOT if snapshot_records is None else snapshot_records
    return _HEAD.pack(_NAME, count, zlib.crc32(_HEAD.pack(_NAME, count, 0)))


def encode_record(entry: SpoolEntry, *, at_s: float) -> bytes:
    """Return the record of `entry`, written at `at_s`."""
    kind, fields = _dissected(entry)
    parts = [_STAMP.pack(kind, at_s)]
    for field in fields:
        parts += (_LENGTH.pack(len(field)), field)
    body = b"".join(parts)
    return _FRAME.pack(len(body), zlib.crc32(body)) + body


def read_segment(data: bytes) -> SegmentContents:
    """Return what can be read of a segment; nothing in `data` makes it raise."""
    written = len(data.rstrip(b"\0"))
    if written == 0:
        return SegmentContents()  # its maker died before the head was written
    head = data[:HEAD_BYTES]
    if len(head) < HEAD_BYTES or not _is_head(head):
        return SegmentContents(unreadable_bytes=written)
    entries: list[tuple[SpoolEntry, float]] = []
    offset, records, strange_bytes = HEAD_BYTES, 0, 0
    while (end := _end_of_record(data, offset)) is not None:
        records += 1
        read = _read_body(data[offset + _FRAME.size : end])
        if read is None:
            strange_bytes += end - offset
        else:
            entries.append(read)
        offset = end
    left = max(0, written - offset)
    snapshot_records = int(_HEAD.unpack(head)[1])
    # A snapshot was on disk before it got its name: no crash can cut it short.
    is_torn = left > 0 and records >= snapshot_records and _looks_torn(data, offset, written)
    return SegmentContents(
        entries=tuple(entries),
        is_snapshot=0 <= snapshot_records <= records,
        torn_bytes=left if is_torn else 0,
        unreadable_bytes=strange_bytes + (0 if is_torn else left),
    )


def _is_head(head: bytes) -> bool:
    name, count, check = _HEAD.unpack(head)
    return head == _HEAD.pack(name, count, check) and head == encode_head(
        None if count == _NO_SNAPSHOT else count
    )


def _end_of_record(data: bytes, offset: int) -> int | None:
    """Return where the sound record at `offset` ends, or ``None`` where there is none."""
    body_at = offset + _FRAME.size
    if body_at > len(data):
        return None
    length, check = _frame_of(data[offset:body_at])
    end = body_at + length
    if length == 0 or end > len(data) or zlib.crc32(data[body_at:end]) != check:
        return None
    return end


def _looks_torn(data: bytes, offset: int, written: int) -> bool:
    """Whether the bytes from `offset` to `written` can be the beginning of a single record."""
    length, _ = _frame_of(data[offset : offset + _FRAME.size].ljust(_FRAME.size, b"\0"))
    return written <= offset + _FRAME.size + length


def _frame_of(frame: bytes) -> tuple[int, int]:
    length, check = _FRAME.unpack(frame)
    return int(length), int(check)


def _dissected(entry: SpoolEntry) -> tuple[bytes, tuple[bytes, ...]]:
    """Return the type and the fields of an entry; the grant comes first in each."""
    grant = entry.grant.encode()
    match entry:
        case ClaimIntended():
            claim = (entry.claim_id.encode(), entry.replica_id.encode())
            return b"I", (grant, *claim, *_of_position(entry.position))
        case AnswerReceived():
            head = (grant, entry.claim_id.encode(), *_of_position(entry.position))
            body = (*_of_consent(entry.consent), entry.sealed_key, entry.sealed_answer)
            return b"R", (*head, *body, b"%d" % entry.sent_at_ms)
        case PairReceived():
            return b"T", (grant, (entry.claim_id or "").encode(), *_of_pair(entry.pair))
        case PairConfirmed():
            return b"C", (grant, *_of_position(entry.position))
        case ClaimEnded():
            return b"N", (grant, entry.claim_id.encode())
        case PairForgotten():
            return b"P", (grant, *_of_position(entry.position))
        case RevocationOrdered():
            return b"V", (grant, *_of_consent(entry.consent))
        case RevocationSettled():
            return b"W", (grant, *_of_consent(entry.consent))
        case ConsentEnded():
            return b"E", (grant, *_of_consent(entry.consent))
        case _:
            assert_never(entry)


def _of_position(position: Position) -> tuple[bytes, bytes]:
    return position.consent_id.encode(), b"%d" % position.generation


def _of_consent(consent: Consent) -> tuple[bytes, bytes]:
    return consent.id.encode(), b"%d" % consent.consented_at_ms


def _of_pair(pair: StoredPair) -> tuple[bytes, ...]:
    return (
        *_of_consent(pair.consent),
        b"%d" % pair.generation,
        pair.fingerprint.encode(),
        pair.sealed_pair,
        pair.sealed_key,
        b"%d" % pair.expires_at_ms,
        b"%d" % pair.issued_at_s,
    )


def _read_body(body: bytes) -> tuple[SpoolEntry, float] | None:
    """Return the entry of a sound record, or ``None`` where this version cannot make it out."""
    try:
        kind, at_s = _STAMP.unpack_from(body)
        entry = _assembled(kind, _fields_of(body))
    except (struct.error, ValueError):
        return None
    return None if entry is None else (entry, at_s if math.isfinite(at_s) else 0.0)


def _fields_of(body: bytes) -> list[bytes]:
    fields: list[bytes] = []
    offset = _STAMP.size
    while offset < len(body):
        (length,) = _LENGTH.unpack_from(body, offset)
        offset += _LENGTH.size
        fields.append(body[offset : offset + length])
        offset += length
    return fields


def _assembled(kind: bytes, fields: list[bytes]) -> SpoolEntry | None:
    grant = GrantId(fields[0].decode()) if fields else GrantId("")
    match kind, fields:
        case b"I", [_, claim, replica, consent, generation, *_]:
            return ClaimIntended(
                grant=grant,
                claim_id=_claim(claim),
                replica_id=Replica(replica.decode()),
                position=_position(consent, generation),
            )
        case b"R", [_, claim, claimed, generation, consent, at_ms, sealed_key, sealed, *later]:
            return AnswerReceived(
                grant=grant,
                claim_id=_claim(claim),
                position=_position(claimed, generation),
                consent=_consent(consent, at_ms),
                sealed_key=sealed_key,
                sealed_answer=sealed,
                sent_at_ms=int(later[0]) if later else 0,
            )
        case b"T", [_, claim, *pair] if len(pair) >= _PAIR_FIELDS:
            claim_id = _claim(claim) if claim else None
            return PairReceived(grant=grant, claim_id=claim_id, pair=_pair(pair))
        case b"C", [_, consent, generation, *_]:
            return PairConfirmed(grant=grant, position=_position(consent, generation))
        case b"N", [_, claim, *_]:
            return ClaimEnded(grant=grant, claim_id=_claim(claim))
        case b"P", [_, consent, generation, *_]:
            return PairForgotten(grant=grant, position=_position(consent, generation))
        case b"V", [_, consent, at_ms, *_]:
            return RevocationOrdered(grant=grant, consent=_consent(consent, at_ms))
        case b"W", [_, consent, at_ms, *_]:
            return RevocationSettled(grant=grant, consent=_consent(consent, at_ms))
        case b"E", [_, consent, at_ms, *_]:
            return ConsentEnded(grant=grant, consent=_consent(consent, at_ms))
        case _:
            return None


def _claim(field: bytes) -> ClaimId:
    return ClaimId(field.decode())


def _position(consent: bytes, generation: bytes) -> Position:
    return Position(consent_id=ConsentId(consent.decode()), generation=int(generation))


def _consent(consent: bytes, at_ms: bytes) -> Consent:
    return Consent(id=ConsentId(consent.decode()), consented_at_ms=int(at_ms))


_PAIR_FIELDS: Final = 8


def _pair(fields: list[bytes]) -> StoredPair:
    consent, at_ms, generation, fingerprint, sealed_pair, sealed_key, expires, issued = fields[
        :_PAIR_FIELDS
    ]
    return StoredPair(
        consent=_consent(consent, at_ms),
        generation=int(generation),
        fingerprint=fingerprint.decode(),
        sealed_pair=sealed_pair,
        sealed_key=sealed_key,
        expires_at_ms=int(expires),
        issued_at_s=int(issued),
    )

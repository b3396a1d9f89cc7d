from __future__ import annotations

import hashlib
import math
import struct
import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.adapters.spool_codec import encode_head, encode_record, read_segment
from sidecar.domain.spooled import (
    ClaimEnded,
    ConsentEnded,
    RevocationOrdered,
    RevocationSettled,
    SpoolEntry,
)
from tests.support.spool_entries import (
    CLAIM,
    CONSENT,
    GRANT,
    answer,
    confirmed,
    forgotten,
    intent,
    pair,
    spool_entries,
)

ONE_OF_EACH: list[SpoolEntry] = [
    intent(),
    answer(),
    pair(5, claim_id=CLAIM),
    pair(6),
    confirmed(5),
    ClaimEnded(grant=GRANT, claim_id=CLAIM),
    forgotten(5),
    RevocationOrdered(grant=GRANT, consent=CONSENT),
    RevocationSettled(grant=GRANT, consent=CONSENT),
    ConsentEnded(grant=GRANT, consent=CONSENT),
]


def _segment(*records: bytes) -> bytes:
    return encode_head() + b"".join(records)


def _sound(body: bytes) -> bytes:
    return struct.pack("<II", len(body), zlib.crc32(body)) + body


@given(entry=spool_entries, at_s=st.floats(min_value=0, max_value=2**40))
def test_an_entry_comes_back_as_it_was_written(entry: SpoolEntry, at_s: float) -> None:
    """Each field of each entry and the instant survive the way to bytes and back."""
    held = read_segment(_segment(encode_record(entry, at_s=at_s)))

    assert held.entries == ((entry, at_s),)
    assert (held.torn_bytes, held.unreadable_bytes) == (0, 0)


def test_the_format_has_not_drifted() -> None:
    """A log written by this version's first release is read by every later one."""
    ended = encode_record(ClaimEnded(grant=GRANT, claim_id=CLAIM), at_s=1.5)
    every = b"".join(encode_record(entry, at_s=1.5) for entry in ONE_OF_EACH)

    assert encode_head() == b"AKSPOOL1" + b"\xff" * 8 + bytes(4) + bytes.fromhex("07e3d45a")
    assert ended.hex() == (
        "51000000"
        "0b692daf"  # length, check
        "4e"
        "000000000000f83f"  # N, 1.5 s
        "20000000"
        + b"0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a".hex()
        + "20000000"
        + b"c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1".hex()
    )
    assert (
        hashlib.sha256(every).hexdigest()
        == "84d8aca4370e0c2913b349312e28a8313748b3603b1b2269dd394cc38c660dd8"
    )


def test_an_answer_of_the_first_release_is_read_though_it_tells_no_instant() -> None:
    """Its pair is taken from it as ever; only its id_token is not trusted."""
    written = encode_record(answer(), at_s=1.0)[8:]
    instant = b"1700000000123"
    assert written.endswith(struct.pack("<I", len(instant)) + instant)

    held = read_segment(_segment(_sound(written[: -4 - len(instant)])))

    assert held.entries == ((replace(answer(), sent_at_ms=0), 1.0),)


@given(entry=spool_entries, added=st.binary(max_size=20))
def test_a_field_of_a_later_version_is_passed_over(entry: SpoolEntry, added: bytes) -> None:
    """A type may grow; this version reads what it knows."""
    body = encode_record(entry, at_s=1.0)[8:]

    held = read_segment(_segment(_sound(body + struct.pack("<I", len(added)) + added)))

    assert held.entries == ((entry, 1.0),)


@pytest.mark.parametrize(
    "body",
    [
        b"Z" + bytes(8) + struct.pack("<I", 2) + b"ab",  # a type of a later version
        b"N" + bytes(8),  # no field at all
        b"N" + bytes(8) + struct.pack("<I", 2) + b"ab",  # one too few
        b"N" + bytes(8) + struct.pack("<I", 2) + b"\xff\xfe" + struct.pack("<I", 0),  # no UTF-8
        b"C" + bytes(8) + (struct.pack("<I", 1) + b"x") * 3,  # no number
        b"N" + bytes(3),
    ],
)
def test_a_sound_record_that_says_nothing_is_counted_and_passed_over(body: bytes) -> None:
    """What this version cannot make out stops nothing behind it."""
    record = _sound(body)

    held = read_segment(_segment(record, encode_record(intent(), at_s=1.0)))

    assert held.entries == ((intent(), 1.0),)
    assert held.unreadable_bytes == len(record)


@pytest.mark.parametrize("place", range(16))
def test_a_changed_record_in_the_middle_ends_the_segment(place: int) -> None:
    """Damage anywhere in a record is found, and what stands before it is kept."""
    records = [encode_record(entry, at_s=1.0) for entry in (intent(), pair(5), answer())]
    image = bytearray(_segment(*records))
    image[24 + len(records[0]) + place * len(records[1]) // 16] ^= 0x10

    held = read_segment(bytes(image))

    assert held.entries == ((intent(), 1.0),)
    assert held.unreadable_bytes + held.torn_bytes == len(records[1]) + len(records[2])


def test_a_snapshot_that_lacks_a_record_is_none() -> None:
    """Earlier segments are worthless only where the whole state was read from this one."""
    records = [encode_record(entry, at_s=1.0) for entry in (pair(5), confirmed(5))]
    image = encode_head(snapshot_records=2) + b"".join(records)

    assert read_segment(image).is_snapshot
    cut = read_segment(image[:-1])
    assert not cut.is_snapshot
    assert cut.torn_bytes == 0
    assert 0 < cut.unreadable_bytes < len(records[1])
    assert not read_segment(_segment(*records)).is_snapshot


@given(image=st.binary(max_size=200), flips=st.lists(st.integers(0, 2000), max_size=4))
def test_no_bytes_make_the_reader_raise(image: bytes, flips: list[int]) -> None:
    """Whatever lies in a segment, reading it ends, and every entry it gives was written."""
    sound = bytearray(_segment(*(encode_record(entry, at_s=1.0) for entry in ONE_OF_EACH)))
    for flip in flips:
        sound[flip % len(sound)] ^= 1 + flip % 255

    read_segment(image)
    held = read_segment(bytes(sound) + image)

    entries = [entry for entry, _ in held.entries]
    assert [entry for entry in entries if entry not in ONE_OF_EACH] == []
    assert flips or entries == list(ONE_OF_EACH)


@pytest.mark.parametrize("at_s", [math.nan, math.inf, -math.inf])
def test_an_instant_that_is_none_costs_no_entry(at_s: float) -> None:
    """Another version, or a broken clock, wrote it: the pair is as good as one of long ago."""
    held = read_segment(_segment(encode_record(pair(5), at_s=at_s)))

    assert held.entries == ((pair(5), 0.0),)

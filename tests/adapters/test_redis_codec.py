"""How a record lies in a Redis hash."""

from __future__ import annotations

import pytest
from hypothesis import given

from sidecar.adapters.redis_codec import SCHEMA, RecordUnreadable, decode, decode_flat, encode
from sidecar.domain.record import GrantRecord
from tests.support.records import active, sending
from tests.support.strategies import records


@given(record=records())
def test_any_record_survives_its_hash(record: GrantRecord) -> None:
    """Whatever a record says is read back as it was, empty texts and nothing told apart."""
    fields = encode(record)

    assert decode(fields) == record
    assert decode_flat([part for item in fields.items() for part in item]) == record


def test_a_hash_says_only_what_is_set() -> None:
    """Zeros, empty texts and nothing are not written, so that scripts may leave them out too."""
    names = {
        *(b"v", b"lid", b"liat", b"fp", b"tok", b"key", b"iexp", b"iiat", b"st"),
        *(b"rid", b"grid", b"up"),
    }

    assert set(encode(active())) == names


def test_a_record_of_a_newer_sidecar_is_refused() -> None:
    """What this version may misread it does not read."""
    fields = encode(active()) | {b"v": b"%d" % (SCHEMA + 1)}

    with pytest.raises(RecordUnreadable, match="schema version 2, known is 1"):
        decode(fields)


@pytest.mark.parametrize(
    "damage", [{b"st": b"asleep"}, {b"gen": b"CANARY"}, {b"v": b""}, {b"op": b"\xff\xfe"}]
)
def test_a_damaged_record_is_refused_without_quoting_it(damage: dict[bytes, bytes]) -> None:
    """A field that cannot be read raises, and its value stays out of the error."""
    with pytest.raises(RecordUnreadable, match="damaged") as caught:
        decode(encode(sending()) | damage)

    assert "CANARY" not in str(caught.value)
    assert caught.value.__suppress_context__

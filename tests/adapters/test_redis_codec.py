"""How a record lies in a Redis hash."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given

from sidecar.adapters.redis_codec import SCHEMA, RecordUnreadable, decode, decode_flat, encode
from sidecar.domain.record import GrantRecord
from tests.support.records import DENIED, MINE, active, sending
from tests.support.strategies import records

ROOT = Path(__file__).parents[2]
EVERYTHING_SET = replace(
    sending(),
    pair=replace(active(1).pair, issued_at_s=1),
    lease_until_ms=1,
    claim_id=MINE,
    is_probe=True,
    quarantine_until_ms=1,
    not_before_ms=1,
    overridden_at_ms=1,
    failures=1,
    last_error=DENIED,
    changed_at_ms=1,
    cool_until_ms=1,
    cool_count=1,
    cool_product="balances",
)


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


@pytest.mark.parametrize("name", [b"gen", b"nx", b"iexp", b"ea", b"ov"])
def test_a_number_that_no_script_can_count_to_is_damage(name: bytes) -> None:
    """Up to what the scripts count exactly it is read; beyond it the record is refused, by name."""
    fields = encode(replace(sending(), last_error=DENIED))

    for number in (2**53 - 1, 1 - 2**53):
        assert decode(fields | {name: b"%d" % number}) is not None
    for number in (2**53, -(2**53), 10**400):
        with pytest.raises(RecordUnreadable, match="damaged"):
            decode(fields | {name: b"%d" % number})


def test_every_field_is_documented_and_nothing_else_is() -> None:
    """Whoever looks after the server can read what lies there."""
    page = (ROOT / "docs" / "reference" / "redis-keys.md").read_text(encoding="utf-8")
    table = page.partition("## Fields of a record")[2].partition("\n## ")[0]
    documented = re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE)

    written = {name.decode() for name in encode(EVERYTHING_SET)}

    assert sorted(documented) == sorted(written)

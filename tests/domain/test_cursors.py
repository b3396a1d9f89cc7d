"""Cursors come back as they were given, or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.domain.cursors import CursorKind, parse_cursor, to_opaque

INNER = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=64)


@given(inner=INNER, kind=st.sampled_from(CursorKind))
def test_a_cursor_comes_back_as_the_stores_own(inner: str, kind: CursorKind) -> None:
    """What a page gave leads on, and the cursor needs no escaping in a query."""
    opaque = to_opaque(kind, inner)

    assert parse_cursor(kind, opaque) == inner
    assert opaque.replace("-", "").replace("_", "").isalnum()


@given(inner=INNER)
def test_a_cursor_of_one_call_is_none_of_another(inner: str) -> None:
    """A listing is not continued with the cursor of the feed."""
    assert parse_cursor(CursorKind.EVENTS, to_opaque(CursorKind.GRANTS, inner)) is None


@given(text=st.text(max_size=40))
def test_what_was_never_given_is_no_cursor(text: str) -> None:
    """Mangled, cut or invented cursors are refused, and never raise."""
    assert text == "" or parse_cursor(CursorKind.GRANTS, text) is None


@pytest.mark.parametrize("at", range(8))
def test_each_changed_character_is_noticed(at: int) -> None:
    """A cursor is taken as it was given or not at all."""
    opaque = to_opaque(CursorKind.GRANTS, "17")
    changed = "A" if opaque[at] != "A" else "B"

    assert parse_cursor(CursorKind.GRANTS, opaque[:at] + changed + opaque[at + 1 :]) is None


@pytest.mark.parametrize("kind", CursorKind)
def test_the_start_is_no_text_at_all(kind: CursorKind) -> None:
    """A first page is asked for without a cursor, and the last one gives none."""
    assert to_opaque(kind, "") == ""
    assert parse_cursor(kind, "") == ""

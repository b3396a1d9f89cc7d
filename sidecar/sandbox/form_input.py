"""Reads the fields of a posted form.

It must not know which fields anyone wants.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp import web


async def read_fields(request: web.Request) -> list[tuple[str, str]]:
    """Read the text fields of a form in order; an unreadable form has none.

    Whoever needs a field then misses it, which is the answer such a form deserves.
    """
    try:
        posted = await request.post()
    except (LookupError, ValueError):  # an unknown charset, bytes that are not text, no boundary
        return []
    return [(name, value) for name, value in posted.items() if isinstance(value, str)]


def first_of_each(fields: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Keep the first field of each name."""
    kept: dict[str, str] = {}
    for name, value in fields:
        kept.setdefault(name, value)
    return kept

"""Time windows and pages of a listing, as the data APIs take and link them.

It must not know what is listed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeVar, final
from urllib.parse import quote, urlencode

from sidecar.sandbox.replies import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_DEFAULT_LIMIT: Final = 50
_LARGEST_LIMIT: Final = 500
_PAGING_NAMES: Final = frozenset({"offset", "limit"})

Item = TypeVar("Item")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A span of time, both ends in it."""

    start: datetime
    end: datetime


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Which part of a listing is asked for."""

    offset: int
    limit: int

    def cut(self, items: Sequence[Item]) -> Sequence[Item]:
        """Take this page's items."""
        return items[self.offset : self.offset + self.limit]

    def links(
        self, total: int, *, path: str, query: Mapping[str, str]
    ) -> dict[str, dict[str, str]]:
        """Link the neighbour pages by host-relative references that carry the whole query."""
        links: dict[str, dict[str, str]] = {}
        if self.offset + self.limit < total:
            links["next"] = self._link(self.offset + self.limit, path=path, query=query)
        if self.offset > 0:
            links["prev"] = self._link(max(0, self.offset - self.limit), path=path, query=query)
        return links

    def _link(self, offset: int, *, path: str, query: Mapping[str, str]) -> dict[str, str]:
        others = {name: value for name, value in query.items() if name not in _PAGING_NAMES}
        pairs = sorted({**others, "limit": str(self.limit), "offset": str(offset)}.items())
        return {"href": f"{quote(path)}?{urlencode(pairs, quote_via=quote)}"}


def parse_page(query: Mapping[str, str]) -> Page | DataError:
    """Read `offset` and `limit`."""
    offset, limit = query.get("offset", "0"), query.get("limit", str(_DEFAULT_LIMIT))
    if not all(text.isascii() and text.isdigit() for text in (offset, limit)):
        return DataError.INVALID_INPUT
    if not 1 <= int(limit) <= _LARGEST_LIMIT:
        return DataError.INVALID_INPUT
    return Page(offset=int(offset), limit=int(limit))


def parse_window(query: Mapping[str, str], *, now: float, default_days: int) -> Window | DataError:
    """Read `startTime` and `endTime`: both, or neither for the last days up to now."""
    start, end = query.get("startTime"), query.get("endTime")
    if start is None and end is None:
        until = datetime.fromtimestamp(int(now), UTC)
        return Window(start=until - timedelta(days=default_days), end=until)
    if start is None or end is None:
        return DataError.INVALID_RANGE
    first, last = parse_instant(start), parse_instant(end)
    if first is None or last is None:
        return DataError.INVALID_DATES
    if last < first:
        return DataError.INVALID_RANGE
    return Window(start=first, end=last)


def parse_instant(text: str) -> datetime | None:
    """Read an ISO 8601 instant; without an offset it is UTC."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        return None
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def to_text(instant: datetime) -> str:
    """Write an instant as the data APIs do."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

"""What a dashboard is made of, and the JSON that Grafana reads it from.

A panel says what it shows, what is normal and what to do; Grafana shows that as its description. It
must not know any panel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from string import ascii_uppercase
from typing import Any, Final

Document = dict[str, Any]

SOURCE: Final[Mapping[str, str]] = {"type": "prometheus", "uid": "${source}"}
COLUMNS: Final = 24


class Kind(StrEnum):
    """How a panel shows its numbers."""

    NUMBER = "stat"
    CURVES = "timeseries"


class Unit(StrEnum):
    """What a number counts, by Grafana's names."""

    COUNT = "short"
    PER_SECOND = "cps"
    CALLS_PER_SECOND = "reqps"
    SECONDS = "s"
    SHARE = "percentunit"
    BYTES = "bytes"
    STATE = "bool_on_off"


class Mood(StrEnum):
    """What a level means, by Grafana's names of colours."""

    FINE = "green"
    LOOK = "orange"
    ACT = "red"


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One expression and what its series are called."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One picture.

    Attributes:
        shows: What is to be seen.
        normal: How it looks when all is well.
        to_do: What to do when it looks otherwise.
        steps: From which level on what is to be done; below all of them it is fine.
        runbooks: Names of pages in `docs/runbooks`.
    """

    title: str
    unit: Unit
    shows: str
    normal: str
    to_do: str
    queries: tuple[Query, ...]
    kind: Kind = Kind.CURVES
    steps: tuple[tuple[float, Mood], ...] = ()
    runbooks: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height: six numbers or three pictures beside one another."""
        return (4, 5) if self.kind is Kind.NUMBER else (8, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A question and the panels that answer it."""

    question: str
    panels: tuple[Panel, ...]


def panels_of(rows: Sequence[Row]) -> list[Document]:
    """Return every row and panel, each at its place."""
    placed: list[Document] = []
    top = 0
    for row in rows:
        placed.append(_heading(row, top))
        top += 1
        for panel, left, above in _places(row.panels):
            width, height = panel.size
            grid = {"h": height, "w": width, "x": left, "y": top + above}
            placed.append(_picture(panel, grid))
        top = max(each["gridPos"]["y"] + each["gridPos"]["h"] for each in placed)
    for identity, each in enumerate(placed, start=1):
        each["id"] = identity
    return placed


def _places(panels: Sequence[Panel]) -> Iterator[tuple[Panel, int, int]]:
    """Yield each panel with its column and line: as many beside one another as there is room."""
    left = top = line = 0
    for panel in panels:
        width, height = panel.size
        if left + width > COLUMNS:
            left, top, line = 0, top + line, 0
        yield panel, left, top
        left += width
        line = max(line, height)


def _heading(row: Row, top: int) -> Document:
    return {
        "id": 0,
        "type": "row",
        "title": row.question,
        "collapsed": False,
        "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": top},
        "panels": [],
    }


def _picture(panel: Panel, grid: Document) -> Document:
    return {
        "id": 0,
        "type": panel.kind.value,
        "title": panel.title,
        "description": f"{panel.shows}\n\n**Normal:** {panel.normal}\n\n**Else:** {panel.to_do}",
        "datasource": dict(SOURCE),
        "gridPos": grid,
        "links": [_link(page) for page in panel.runbooks],
        "targets": [
            _target(panel, *each) for each in zip(ascii_uppercase, panel.queries, strict=False)
        ],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _options(panel),
    }


def _link(page: str) -> Document:
    return {
        "title": f"Runbook: {page.replace('-', ' ')}",
        "url": f"${{runbooks:raw}}/{page}.md",
        "targetBlank": True,
    }


def _target(panel: Panel, identity: str, query: Query) -> Document:
    is_now = panel.kind is not Kind.CURVES
    return {
        "refId": identity,
        "expr": query.expr,
        "legendFormat": query.legend,
        "instant": is_now,
        "range": not is_now,
    }


def _defaults(panel: Panel) -> Document:
    steps: list[Document] = [{"color": Mood.FINE.value, "value": None}]
    steps += [{"color": mood.value, "value": level} for level, mood in panel.steps]
    defaults: Document = {
        "unit": panel.unit.value,
        "min": 0,
        "thresholds": {"mode": "absolute", "steps": steps},
    }
    if panel.kind is Kind.CURVES:
        style = "line" if panel.steps else "off"
        defaults["custom"] = {
            "fillOpacity": 8,
            "showPoints": "never",
            "thresholdsStyle": {"mode": style},
        }
    return defaults


def _options(panel: Panel) -> Document:
    match panel.kind:
        case Kind.NUMBER:
            return {
                "colorMode": "background" if panel.steps else "none",
                "graphMode": "none",
                "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            }
        case Kind.CURVES:
            return {
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
                "tooltip": {"mode": "multi", "sort": "desc"},
            }

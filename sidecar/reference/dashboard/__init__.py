"""The Grafana dashboard: six questions, in the order in which they are asked at night.

Each question is a module beside this one. What a panel is stands in `form`; this one puts the rows
together with what they share: variables, annotations, links.
"""

from __future__ import annotations

import json
from typing import Final

from sidecar.reference.dashboard.blame import BLAME
from sidecar.reference.dashboard.consents import CONSENTS
from sidecar.reference.dashboard.disk import DISK
from sidecar.reference.dashboard.form import SOURCE, Document, panels_of
from sidecar.reference.dashboard.latency import LATENCY
from sidecar.reference.dashboard.queries import FLEET, series
from sidecar.reference.dashboard.tokens import TOKENS
from sidecar.reference.dashboard.traffic import TRAFFIC
from sidecar.telemetry.catalogue import BUILD_INFO_NAME, UPSTREAM_RESPONSES

ROWS: Final = (TRAFFIC, BLAME, TOKENS, CONSENTS, DISK, LATENCY)


def dashboard() -> str:
    """Return `config/grafana/dashboards/akoya-sidecar.json`."""
    document: Document = {
        "uid": "akoya-sidecar",
        "title": "Akoya sidecar",
        "description": "Is traffic served, and if not: Akoya, the bank, Redis, our credentials or "
        "us? Made by `python -m sidecar reference dashboard`.",
        "tags": ["akoya-sidecar"],
        "schemaVersion": 39,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": [_alerts(), _starts()]},
        "templating": {"list": _variables()},
        "panels": panels_of(ROWS),
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _variables() -> list[Document]:
    return [
        {
            "name": "source",
            "label": "Prometheus",
            "type": "datasource",
            "query": "prometheus",
            "current": {},
        },
        _labels("job", f"label_values({BUILD_INFO_NAME}, job)"),
        _labels("instance", f"label_values({BUILD_INFO_NAME}{{{FLEET}}}, instance)"),
        _labels("provider", f"label_values({series(UPSTREAM_RESPONSES.name)}, provider)"),
        {
            "name": "runbooks",
            "label": "Runbooks at",
            "description": "Where the pages of docs/runbooks can be read in a browser.",
            "type": "textbox",
            "query": "/public/runbooks",
            "current": {"text": "/public/runbooks", "value": "/public/runbooks"},
        },
    ]


def _labels(name: str, query: str) -> Document:
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": dict(SOURCE),
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _alerts() -> Document:
    return {
        "name": "Alerts",
        "datasource": dict(SOURCE),
        "enable": True,
        "iconColor": "red",
        "expr": 'ALERTS{alertname=~"Sidecar.*", alertstate="firing"}',
        "titleFormat": "{{alertname}}",
        "textFormat": "{{instance}} {{provider}} {{reason}} {{cause}}",
    }


def _starts() -> Document:
    return {
        "name": "Starts of sidecars",
        "datasource": dict(SOURCE),
        "enable": True,
        "iconColor": "blue",
        "expr": f"{series('process_start_time_seconds')} * 1000",
        "useValueForTime": "on",
        "titleFormat": "{{instance}} started",
    }

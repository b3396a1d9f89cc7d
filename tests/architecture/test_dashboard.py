from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import pytest

from sidecar.domain.tokens import ProblemReason
from sidecar.reference.dashboard import ROWS, dashboard
from sidecar.reference.dashboard.blame import PARTY_OF
from sidecar.reference.dashboard.form import COLUMNS, Panel
from sidecar.telemetry.catalogue import BUILD_INFO_NAME, SPECS
from tests.support.series import known_series

ROOT: Final = Path(__file__).parent.parent.parent
GRAFANA: Final = ROOT / "config/grafana"
DOCUMENT: Final[dict[str, Any]] = json.loads(dashboard())
PICTURES: Final = [each for each in DOCUMENT["panels"] if each["type"] != "row"]
PANELS: Final = [panel for row in ROWS for panel in row.panels]
VARIABLE: Final = re.compile(r"\$\{?(\w+)")
METRIC: Final = re.compile(r"(?<![\w:])(?:sidecar_|process_)\w+")
RECORDED: Final = re.compile(r"\b(?:fleet|instance|reason|provider):[\w:]+")
GIVEN_BY_GRAFANA: Final = frozenset({"__rate_interval", "__range", "__all"})


def yaml_of(path: str) -> Any:
    """Return a YAML file as plain values; the library brings no types."""
    yaml: Any = import_module("yaml")
    return yaml.safe_load((ROOT / path).read_text("utf-8"))


def titled(panel: Panel) -> str:
    return panel.title


def every_expression() -> list[str]:
    written = [query.expr for panel in PANELS for query in panel.queries]
    return written + [each["expr"] for each in DOCUMENT["annotations"]["list"]]


def test_the_rows_are_the_questions_that_are_asked_at_night() -> None:
    """Whoever opens it reads the questions from top to bottom and finds an answer to each."""
    shown = [each["title"] for each in DOCUMENT["panels"] if each["type"] == "row"]

    assert shown == [
        "Is traffic served?",
        "Whose fault is it if not?",
        "Are tokens healthy?",
        "Who must consent again?",
        "Is anything on one disk only?",
        "How much of the latency is ours?",
    ]


@pytest.mark.parametrize("panel", PANELS, ids=titled)
def test_a_panel_says_what_it_shows_what_is_normal_and_what_to_do(panel: Panel) -> None:
    """Nobody needs to have built this to read it."""
    assert all(text.endswith(".") for text in (panel.shows, panel.normal, panel.to_do))
    assert panel.queries
    assert all(query.legend for query in panel.queries)
    assert list(panel.steps) == sorted(panel.steps)


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture["title"])
def test_a_picture_has_all_that_its_panel_says(picture: dict[str, Any]) -> None:
    """Title, unit, description, thresholds and the source of its numbers reach Grafana."""
    (panel,) = (each for each in PANELS if each.title == picture["title"])
    levels = [step["value"] for step in picture["fieldConfig"]["defaults"]["thresholds"]["steps"]]

    for text in (panel.shows, panel.normal, panel.to_do):
        assert text in picture["description"]
    assert picture["fieldConfig"]["defaults"]["unit"] == panel.unit
    assert levels == [None, *(level for level, _ in panel.steps)]
    assert picture["datasource"] == {"type": "prometheus", "uid": "${source}"}
    assert [each["expr"] for each in picture["targets"]] == [each.expr for each in panel.queries]
    assert len({each["refId"] for each in picture["targets"]}) == len(panel.queries)


def test_no_two_panels_have_one_title_or_one_place() -> None:
    """A panel can be named on the telephone, and none hides another."""
    taken: set[tuple[int, int]] = set()
    for each in DOCUMENT["panels"]:
        at = each["gridPos"]
        cells = {
            (column, line)
            for column in range(at["x"], at["x"] + at["w"])
            for line in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, each["title"]
        assert at["x"] + at["w"] <= COLUMNS
        taken |= cells

    assert len({panel.title for panel in PANELS}) == len(PANELS)
    assert len({each["id"] for each in DOCUMENT["panels"]}) == len(DOCUMENT["panels"])


def test_every_metric_is_on_the_dashboard_and_nothing_else_is() -> None:
    """What the sidecar counts can be seen; a renamed metric leaves no empty panel behind."""
    named = {name for expr in every_expression() for name in METRIC.findall(RECORDED.sub("", expr))}
    recorded = {name for expr in every_expression() for name in RECORDED.findall(expr)}
    rules = yaml_of("config/prometheus/recording.yml")["groups"][0]["rules"]
    behind = {rule["record"]: set(METRIC.findall(rule["expr"])) for rule in rules}
    of_sidecar = {name for name in named if name.startswith("sidecar_")}
    shown = of_sidecar.union(*(behind[name] for name in recorded))
    families = {re.sub(r"_(?:bucket|sum|count)$", "", name) for name in shown}

    assert of_sidecar <= known_series()
    assert recorded <= behind.keys()
    assert families == {spec.name for spec in SPECS} | {BUILD_INFO_NAME}


def test_every_runbook_can_be_reached_from_a_panel() -> None:
    """The picture of a trouble leads to the page that says what to do."""
    pages = {page.stem for page in (ROOT / "docs/runbooks").glob("*.md")}
    linked = {link["url"] for picture in PICTURES for link in picture["links"]}

    assert {page for panel in PANELS for page in panel.runbooks} == pages
    assert linked == {f"${{runbooks:raw}}/{page}.md" for page in pages}


def test_every_answer_of_ours_is_somebodys_fault() -> None:
    """A new reason cannot be left out of the row that says whose fault it is."""
    assert set(PARTY_OF) == set(ProblemReason)


def test_every_variable_that_is_used_exists() -> None:
    """No query asks for the empty text in place of a choice."""
    used = set(VARIABLE.findall(json.dumps(DOCUMENT)))
    made = {each["name"] for each in DOCUMENT["templating"]["list"]}

    assert made == {"source", "job", "instance", "provider", "runbooks"}
    assert used - GIVEN_BY_GRAFANA == made


def test_compose_shows_the_dashboard_and_the_runbooks() -> None:
    """One command starts Prometheus, its rules and the dashboard, on this machine alone."""
    services = yaml_of("docker-compose.yml")["services"]
    grafana = services["grafana"]
    mounts = dict(volume.split(":")[:2] for volume in grafana["volumes"])
    provider = yaml_of("config/grafana/provisioning/dashboards/akoya-sidecar.yml")["providers"][0]
    source = yaml_of("config/grafana/provisioning/datasources/prometheus.yml")["datasources"][0]

    assert grafana["profiles"] == services["prometheus"]["profiles"] == ["observe"]
    assert grafana["read_only"] is True
    assert all(port.startswith("127.0.0.1:") for port in grafana["ports"])
    assert mounts["./config/grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./config/grafana/provisioning"] == "/etc/grafana/provisioning"
    assert source["url"] == "http://prometheus:9090"
    runbooks = DOCUMENT["templating"]["list"][-1]["query"]
    assert mounts["./docs/runbooks"] == f"/usr/share/grafana{runbooks}"

from __future__ import annotations

import re
import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.series import known_series

ROOT: Final = Path(__file__).parent.parent.parent
RULES: Final = ROOT / "config/prometheus"
RUNBOOKS: Final = ROOT / "docs/runbooks"
SAYS: Final = ("summary", "consequence", "first_look", "action", "runbook_url")
SEVERITIES: Final = frozenset({"page", "ticket"})
CHAPTERS: Final = (
    "Meaning",
    "Consequence for end users",
    "First look",
    "What to do",
    "How to know that it is over",
)
FIRES_WITH: Final = re.compile(r"^May fire with it: (.+)$", re.MULTILINE)
METRIC: Final = re.compile(r"\bsidecar_\w+")
RECORDED: Final = re.compile(r"\b(?:fleet|reason|provider|instance):[\w:]+")


def loaded(name: str) -> Any:
    """Return a YAML file as plain values; the library brings no types."""
    yaml: Any = import_module("yaml")
    return yaml.safe_load((RULES / name).read_text("utf-8"))


def rules_of(name: str) -> list[dict[str, Any]]:
    return [rule for group in loaded(name)["groups"] for rule in group["rules"]]


ALERTS: Final = {rule["alert"]: rule for rule in rules_of("alerts.yml")}
RECORDINGS: Final = {rule["record"]: rule for rule in rules_of("recording.yml")}
CASES: Final = loaded("alerts.test.yml")["tests"]


def fired_in(case: dict[str, Any]) -> set[str]:
    samples = [sample for test in case["promql_expr_test"] for sample in test["exp_samples"]]
    return {name for each in samples for name in re.findall(r'alertname="(\w+)"', each["labels"])}


def series_behind(rule: dict[str, Any]) -> set[str]:
    """Return the metrics that an alert rests on, through the recording rules too."""
    found = set(METRIC.findall(rule["expr"]))
    for name in RECORDED.findall(rule["expr"]):
        found |= set(METRIC.findall(RECORDINGS[name]["expr"]))
    return found or {"up"}


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_it_means_and_what_to_do(name: str) -> None:
    """Whoever is woken reads the consequence, where to look and what to do, and has a runbook."""
    rule = ALERTS[name]
    page = ROOT / rule["annotations"]["runbook_url"]
    text = page.read_text("utf-8")

    assert rule["labels"]["severity"] in SEVERITIES
    assert all(rule["annotations"][part].rstrip(".") for part in SAYS)
    assert text.startswith(f"# {name}\n")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == list(CHAPTERS)


def test_every_runbook_belongs_to_an_alert() -> None:
    """No page describes an alert that nobody can get."""
    linked = {ROOT / rule["annotations"]["runbook_url"] for rule in ALERTS.values()}

    assert set(RUNBOOKS.glob("*.md")) == linked


def test_a_runbook_names_alerts_that_may_fire_with_it() -> None:
    """Whoever is woken by two alerts at once finds that they belong together."""
    for page in RUNBOOKS.glob("*.md"):
        line = FIRES_WITH.search(page.read_text("utf-8"))
        for name in re.findall(r"\]\(([^)]+)\)", line[1]) if line else ():
            head = (RUNBOOKS / name).read_text("utf-8").partition("\n")[0]
            assert head.removeprefix("# ") in ALERTS
            assert name != page.name


@pytest.mark.parametrize("name", [*ALERTS, *RECORDINGS])
def test_a_rule_asks_for_what_exists(name: str) -> None:
    """A metric that was renamed cannot leave an alert behind that never fires."""
    rule = {**ALERTS, **RECORDINGS}[name]

    assert set(METRIC.findall(RECORDED.sub("", rule["expr"]))) <= known_series()
    assert set(RECORDED.findall(rule["expr"])) <= RECORDINGS.keys()


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_is_seen_to_fire_and_to_stay_silent(name: str) -> None:
    """Each has a case in which it fires alone, and one on its own series in which it does not."""
    behind = series_behind(ALERTS[name])
    silent = [case for case in CASES if not fired_in(case)]

    assert [case for case in CASES if fired_in(case) == {name}]
    assert [
        case
        for case in silent
        if behind & {each["series"].partition("{")[0] for each in case["input_series"]}
    ]


@pytest.mark.system
@pytest.mark.parametrize(
    "words",
    [
        ("check", "config", "--syntax-only", "prometheus.yml"),
        ("check", "rules", "alerts.yml", "recording.yml"),
        ("test", "rules", "alerts.test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_agrees(words: tuple[str, ...]) -> None:
    """Prometheus itself reads configuration and rules, and finds each case as it is told."""
    done = subprocess.run(
        ["promtool", *words], cwd=RULES, capture_output=True, text=True, check=False, timeout=50
    )

    assert done.returncode == 0, done.stdout + done.stderr

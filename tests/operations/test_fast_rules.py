from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

from tests.operations.watched_fleet import FACTOR, RULE_FILES, RULES
from tests.support.fast_rules import SPAN, faster, faster_expression

FILE = """
groups:
  - name: some
    rules:
      - alert: Late
        expr: sum(rate(sidecar_x_total[10m])) > 0.1 and time() - sidecar_y_timestamp_seconds > 300
        for: 2m
        labels: {severity: page}
        annotations: {summary: Late for 2m.}
"""


def rules_of(text: str) -> list[dict[str, Any]]:
    yaml: Any = import_module("yaml")
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


@pytest.mark.parametrize(
    ("expression", "shortened"),
    [
        ("increase(x_total[15m]) > 0", "increase(x_total[15000ms]) > 0"),
        (
            "avg_over_time(a:b:increase1h[1d] offset 1h)",
            "avg_over_time(a:b:increase1h[1440000ms] offset 60000ms)",
        ),
        ("reason:x:ratio_rate10m > 0.1", "reason:x:ratio_rate10m > 0.1"),
        ("time() - x_seconds > 300", "time() - x_seconds > 5"),
        (
            "histogram_quantile(0.99, rate(x_bucket[5m])) > 0.1",
            "histogram_quantile(0.99, rate(x_bucket[5000ms])) > 0.1",
        ),
    ],
)
def test_spans_get_shorter_and_nothing_else_does(expression: str, shortened: str) -> None:
    """Ranges, offsets and ages; names, shares, counts and times of calls stay."""
    assert faster_expression(expression, factor=60) == shortened


def test_a_rule_file_keeps_all_that_is_no_span() -> None:
    """Labels and texts of an alert are those of the real file."""
    (real,), (fast,) = rules_of(FILE), rules_of(faster(FILE, factor=60))

    assert fast["for"] == "2000ms"
    assert "[10000ms]" in fast["expr"]
    assert "> 5" in fast["expr"]
    assert {**fast, "for": real["for"], "expr": real["expr"]} == real


def test_a_span_that_cannot_be_divided_is_refused() -> None:
    """No rule is rounded to one that means something else."""
    with pytest.raises(ValueError, match="1s cannot be divided by 7"):
        faster_expression("rate(x[1s])", factor=7)


@pytest.mark.parametrize("name", RULE_FILES)
def test_every_span_of_the_real_rules_gets_shorter(name: str) -> None:
    """No span of ten minutes is overlooked in a test that lasts seconds."""
    real = (RULES / name).read_text("utf-8")

    for rule in rules_of(faster(real, factor=FACTOR)):
        written = f"{rule['expr']} for {rule.get('for', '0ms')}"
        assert {unit for _, unit in SPAN.findall(written)} == {"ms"}
        assert "> 300" not in written

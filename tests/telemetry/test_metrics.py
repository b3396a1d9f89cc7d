from __future__ import annotations

import subprocess
import threading

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sidecar.domain import events as ev
from sidecar.domain.failure import OPERATION_REASONS, Disposition, FailureReason, Operation
from sidecar.domain.tokens import TokenFailure
from sidecar.telemetry.catalogue import GRANTS, SPECS, Kind, Spec
from sidecar.telemetry.families import MOST_PROVIDERS
from sidecar.telemetry.logging import Level, Log
from sidecar.telemetry.metrics import Metrics, MetricsPage
from sidecar.telemetry.observer import TelemetryObserver
from tests.support.lines import KeptLines
from tests.support.sample_events import EVENT_TYPES, sample


def observed() -> tuple[Metrics, TelemetryObserver]:
    metrics = Metrics(version="1.2.3")
    return metrics, TelemetryObserver(metrics=metrics, log=Log(KeptLines(), least=Level.ERROR))


def page_of(metrics: Metrics, accept: str = "") -> str:
    return MetricsPage(metrics.registry).render(accept)[0].decode()


def providers_in(metrics: Metrics) -> set[str]:
    return {
        found.labels["provider"]
        for family in metrics.registry.collect()
        for found in family.samples
        if "provider" in found.labels
    }


def test_every_series_without_a_provider_is_there_from_the_start_and_no_other_comes() -> None:
    """A rate or an alert works at zero, and nothing that happens makes the page grow."""
    metrics, observer = observed()
    fresh = text_string_to_metric_families(page_of(metrics))
    before = {(s.name, frozenset(s.labels.items())) for f in fresh for s in f.samples}

    for event in EVENT_TYPES:
        observer.observe(sample(event))

    after = {
        (s.name, frozenset(s.labels.items()))
        for family in text_string_to_metric_families(page_of(metrics))
        for s in family.samples
        if "provider" not in s.labels and s.name != GRANTS.name
    }
    assert after == before
    for spec in SPECS:
        if not spec.has_provider and spec is not GRANTS:
            assert any(name.startswith(spec.name) for name, _ in before), spec.name


def test_only_the_sidecar_that_counts_the_grants_shows_how_many_there_are() -> None:
    """Elsewhere there is no series, so that the fleet's grants are not counted twice."""
    metrics, observer = observed()
    before = page_of(metrics)

    observer.observe(ev.GrantsCounted(is_ours=True, active=7, revoked=2))
    counting = page_of(metrics)
    observer.observe(ev.GrantsCounted(is_ours=False))

    assert "sidecar_grants{" not in before
    assert 'sidecar_grants{state="active"} 7.0' in counting
    assert 'sidecar_grants{state="in_doubt"} 0.0' in counting
    assert 'sidecar_grants{state="revoked"} 2.0' in counting
    assert "sidecar_grants{" not in page_of(metrics)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_every_metric_follows_the_naming_rules(spec: Spec) -> None:
    """Prefix, base unit, `_total` on counters and on nothing else."""
    assert spec.name.startswith("sidecar_")
    assert spec.name.endswith("_total") == (spec.kind is Kind.COUNTER)
    assert (spec.kind is not Kind.HISTOGRAM) or spec.name.endswith("_seconds")
    assert not {"user", "grant", "path", "url", "request_id"} & set(spec.labels)
    assert spec.meaning.endswith(".")


def test_a_provider_has_all_its_series_from_its_first_grant() -> None:
    """The first token error of a provider is an increase from zero and can be alerted on."""
    metrics, observer = observed()
    none_yet = providers_in(metrics)

    observer.observe(sample(ev.TokenObtained, provider="mikomo"))

    rows = [
        found
        for family in metrics.registry.collect()
        for found in family.samples
        if found.name == "sidecar_token_errors_total"
    ]
    assert none_yet == set()
    assert providers_in(metrics) == {"mikomo"}
    assert len(rows) == sum(len(reasons) for reasons in OPERATION_REASONS.values())
    assert {found.value for found in rows} == {0}


def test_a_provider_that_nobody_has_a_grant_of_is_other() -> None:
    """A client that asks for made-up providers makes no series."""
    metrics, observer = observed()

    failure = TokenFailure(
        operation=Operation.OBTAIN,
        reason=FailureReason.CODE_INVALID,
        disposition=Disposition.REAUTH,
    )
    for number in range(5):
        observer.observe(
            sample(ev.TokenRequestFailed, provider=f"made-up-{number}", failure=failure)
        )

    assert providers_in(metrics) == {"other"}
    labels = {
        "operation": "obtain",
        "reason": "code_invalid",
        "disposition": "reauth",
        "provider": "other",
    }
    assert metrics.registry.get_sample_value("sidecar_token_errors_total", labels) == 5


def test_a_failed_refresh_names_the_provider_of_its_grant() -> None:
    """A sidecar that has only just started tells which bank's tokens are refused."""
    metrics, observer = observed()

    observer.observe(sample(ev.TokenRequestFailed, provider="mikomo"))

    labels = {
        "operation": "refresh",
        "reason": "refresh_token_claimed",
        "disposition": "in_doubt",
        "provider": "mikomo",
    }
    assert metrics.registry.get_sample_value("sidecar_token_errors_total", labels) == 1


def test_at_most_a_hundred_providers_have_a_name() -> None:
    """A fleet with many banks keeps its metrics bounded; those it knows keep their name."""
    metrics, observer = observed()

    for number in range(MOST_PROVIDERS + 7):
        observer.observe(sample(ev.UpstreamAnswered, provider=f"bank-{number}"))
    observer.observe(sample(ev.UpstreamAnswered, provider="bank-0"))

    assert len(providers_in(metrics)) == MOST_PROVIDERS + 1
    labels = {"class": "timeout", "provider": "other"}
    assert metrics.registry.get_sample_value("sidecar_upstream_responses_total", labels) == 7
    labels = {"class": "timeout", "provider": "bank-0"}
    assert metrics.registry.get_sample_value("sidecar_upstream_responses_total", labels) == 2


def test_the_page_is_text_or_openmetrics_as_the_scraper_asks() -> None:
    """Prometheus gets what it prefers, a browser gets text, and both parse."""
    page = MetricsPage(Metrics(version="1.2.3").registry)

    text, text_type = page.render("text/html,*/*;q=0.8")
    exact, exact_type = page.render(
        "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5"
    )

    assert text_type.startswith("text/plain")
    assert exact_type.startswith("application/openmetrics-text; version=1.0.0")
    assert exact.endswith(b"# EOF\n")
    assert b'sidecar_build_info{python="3' in text
    assert b'version="1.2.3"} 1.0' in text
    assert b"process_resident_memory_bytes" in text
    assert b"_created" not in text


def test_nothing_is_lost_when_two_threads_count() -> None:
    """The claim lane's thread and the main loop may tell at the same moment."""
    metrics, observer = observed()
    event = sample(ev.TokenRefreshed, provider="mikomo")
    started = threading.Event()

    def tell() -> None:
        started.wait(5)
        for _ in range(2000):
            observer.observe(event)

    threads = [threading.Thread(target=tell) for _ in range(4)]
    for thread in threads:
        thread.start()
    started.set()
    for thread in threads:
        thread.join(30)

    assert metrics.registry.get_sample_value("sidecar_answer_to_spool_seconds_count") == 8000
    assert metrics.registry.get_sample_value("sidecar_observer_failures_total") == 0


@pytest.mark.system
def test_promtool_finds_nothing_to_complain_about() -> None:
    """The page follows the rules of Prometheus for names, units and help."""
    metrics, observer = observed()
    for event in EVENT_TYPES:
        observer.observe(sample(event))
    own = "\n".join(
        line for line in page_of(metrics).splitlines() if "sidecar_" in line.partition("{")[0]
    )

    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input=own + "\n",
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )

    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")

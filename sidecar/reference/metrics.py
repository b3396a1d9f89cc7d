"""The page of metrics, with every label value.

It decides wording only; the metrics are `sidecar.telemetry.catalogue`'s.
"""

from __future__ import annotations

from sidecar.reference.tables import code, codes, heading, table
from sidecar.telemetry.catalogue import (
    BUILD_INFO_LABELS,
    BUILD_INFO_MEANING,
    BUILD_INFO_NAME,
    SPECS,
    TOKEN_ERRORS,
    Kind,
    Spec,
)
from sidecar.telemetry.metrics import token_error_rows


def metrics_page() -> str:
    """Return `docs/reference/metrics.md`."""
    parts = [
        heading(
            "Metrics",
            "metrics",
            "`GET /metrics` of the metrics listener, as text or OpenMetrics.",
            "Every series without the label `provider` exists from the start, so that rates and "
            "alerts work at zero.\nA provider's series begin with its first grant; at most 100 "
            "providers have a name, the rest is `other`.\nNo label ever holds a user, a path or a "
            "token.",
            "The process metrics of the Prometheus client (`process_cpu_seconds_total`, "
            "`process_resident_memory_bytes`, `process_open_fds` and their like) are there too.",
        ),
        table(("metric", "kind", "labels", "meaning"), [_build_info(), *map(_row, SPECS)]),
        "## Label values\n",
        table(("metric", "label", "values"), _label_rows()),
        "## Buckets\n",
        table(("histogram", "upper bounds in seconds"), _bucket_rows()),
    ]
    return "\n".join(parts)


def _build_info() -> tuple[str, str, str, str]:
    return (code(BUILD_INFO_NAME), "gauge", codes(BUILD_INFO_LABELS), BUILD_INFO_MEANING)


def _row(spec: Spec) -> tuple[str, str, str, str]:
    labels = (*spec.labels, "provider") if spec.has_provider else tuple(spec.labels)
    return (code(spec.name), spec.kind.value, codes(labels), spec.meaning)


def _label_rows() -> list[tuple[str, str, str]]:
    rows: list[tuple[str, str, str]] = []
    for spec in SPECS:
        for position, (label, values) in enumerate(spec.labels.items()):
            told = values or _values_in_use(spec, position)
            rows.append((code(spec.name), code(label), codes(told)))
    return rows


def _values_in_use(spec: Spec, position: int) -> tuple[str, ...]:
    if spec is not TOKEN_ERRORS:
        return ()
    return tuple(dict.fromkeys(str(row[position]) for row in token_error_rows()))


def _bucket_rows() -> list[tuple[str, str]]:
    return [
        (code(spec.name), ", ".join(f"{bound:g}" for bound in spec.buckets))
        for spec in SPECS
        if spec.kind is Kind.HISTOGRAM
    ]

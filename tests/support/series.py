"""The names under which Prometheus knows what a sidecar shows."""

from __future__ import annotations

from sidecar.telemetry.catalogue import BUILD_INFO_NAME, SPECS, Kind


def known_series() -> set[str]:
    """Return every name under which Prometheus stores something of a sidecar."""
    names = {BUILD_INFO_NAME}
    for spec in SPECS:
        names.add(spec.name)
        if spec.kind is Kind.HISTOGRAM:
            names |= {f"{spec.name}_{part}" for part in ("bucket", "sum", "count")}
    return names

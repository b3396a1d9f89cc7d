"""The words of which the dashboard's queries are made, over the metrics of the catalogue.

A query names a metric by its `Spec`, so a metric that was renamed is renamed here too. It must not
know how a panel looks.
"""

from __future__ import annotations

from typing import Final

from sidecar.telemetry.catalogue import Spec

FLEET: Final = 'job=~"$job"'
INSTANCES: Final = 'job=~"$job", instance=~"$instance"'
BANKS: Final = 'provider=~"$provider"'


def rate(spec: Spec, by: str = "", where: str = "") -> str:
    """Return how often a counter counts a second, summed by labels."""
    return _summed(f"rate({series(spec.name, where)}[$__rate_interval])", by)


def increase(spec: Spec, by: str = "", where: str = "", over: str = "$__range") -> str:
    """Return how much a counter grew `over` a span, by default that of the picture."""
    return _summed(f"increase({series(spec.name, where)}[{over}])", by)


def level(spec: Spec, how: str = "sum", by: str = "", where: str = "") -> str:
    """Return a gauge now, put together in the way that fits it."""
    return f"{how}{_by(by)} ({series(spec.name, where)})"


def quantile(share: float, spec: Spec, by: str = "", where: str = "") -> str:
    """Return the span that a share of the observations stayed below."""
    labels = f"{by}, le" if by else "le"
    buckets = f"rate({series(f'{spec.name}_bucket', where)}[$__rate_interval])"
    return f"histogram_quantile({share}, sum by ({labels}) ({buckets}))"


def spent(spec: Spec, by: str = "", where: str = "") -> str:
    """Return how many seconds a histogram gathered each second."""
    return _summed(f"rate({series(f'{spec.name}_sum', where)}[$__rate_interval])", by)


def series(name: str, where: str = "") -> str:
    """Return the series of a metric, of the chosen instances."""
    return f"{name}{{{', '.join(part for part in (INSTANCES, where) if part)}}}"


def of_values(label: str, *values: str) -> str:
    """Return the condition that a label has one of these values."""
    return f'{label}=~"{"|".join(values)}"'


def _summed(of: str, by: str) -> str:
    return f"sum{_by(by)} ({of})"


def _by(labels: str) -> str:
    return f" by ({labels})" if labels else ""

"""Metrics whose every series exists from the start, counted by label values in order.

A child is bound once, so that counting costs a dictionary look-up; a value outside the closed set
is a `KeyError`. Which metrics there are is the business of `catalogue`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product
from threading import Lock
from typing import Final, final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from sidecar.telemetry.catalogue import Spec

MOST_PROVIDERS: Final = 100
OTHER_PROVIDER: Final = "other"


def _combinations(spec: Spec) -> Iterable[tuple[str, ...]]:
    return product(*spec.labels.values())


@final
class Counts:
    """A counter over closed labels."""

    def __init__(self, spec: Spec, registry: CollectorRegistry) -> None:
        counter = Counter(spec.name, spec.meaning, tuple(spec.labels), registry=registry)
        self._children = {
            values: counter.labels(*values) if values else counter for values in _combinations(spec)
        }

    def add(self, *values: str) -> None:
        """Count one more."""
        self._children[values].inc()

    def add_many(self, amount: int, *values: str) -> None:
        """Count `amount` more."""
        self._children[values].inc(amount)


@final
class Levels:
    """A gauge over closed labels."""

    def __init__(self, spec: Spec, registry: CollectorRegistry) -> None:
        gauge = Gauge(spec.name, spec.meaning, tuple(spec.labels), registry=registry)
        self._children = {
            values: gauge.labels(*values) if values else gauge for values in _combinations(spec)
        }

    def set(self, level: float, *values: str) -> None:
        """Set the level."""
        self._children[values].set(level)

    def add(self, amount: float, *values: str) -> None:
        """Change the level by `amount`."""
        self._children[values].inc(amount)

    def set_to_now(self, *values: str) -> None:
        """Set the level to the wall clock."""
        self._children[values].set_to_current_time()


@final
class AllOrNone:
    """A gauge with all its series or none."""

    def __init__(self, spec: Spec, registry: CollectorRegistry) -> None:
        self._gauge = Gauge(spec.name, spec.meaning, tuple(spec.labels), registry=registry)

    def show(self, levels: Mapping[str, int]) -> None:
        """Set the level of each label value."""
        for value, level in levels.items():
            self._gauge.labels(value).set(level)

    def hide(self) -> None:
        """Have no series."""
        self._gauge.clear()


@final
class Spans:
    """A histogram of seconds over closed labels."""

    def __init__(self, spec: Spec, registry: CollectorRegistry) -> None:
        histogram = Histogram(
            spec.name, spec.meaning, tuple(spec.labels), buckets=spec.buckets, registry=registry
        )
        self._children = {
            values: histogram.labels(*values) if values else histogram
            for values in _combinations(spec)
        }

    def observe(self, seconds: float, *values: str) -> None:
        """Take note of one span."""
        self._children[values].observe(seconds)


@final
class ProviderNames:
    """Which providers have a name in labels: the first hundred that have grants.

    A name that a client made up must not become a series, so a provider is known only once
    somebody vouched for it with `admit`.
    """

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._lock = Lock()

    def admit(self, provider: str) -> str:
        """Return the label of a provider that has a grant."""
        if provider not in self._known:
            with self._lock:
                if len(self._known) >= MOST_PROVIDERS:
                    return OTHER_PROVIDER
                self._known.add(provider)
        return provider

    def recall(self, provider: str) -> str:
        """Return the label of a provider that may have no grant."""
        return provider if provider in self._known else OTHER_PROVIDER


@final
class ProviderCounts:
    """A counter over closed labels and a provider; all its series begin with the provider."""

    def __init__(
        self, spec: Spec, registry: CollectorRegistry, combinations: Iterable[tuple[str, ...]] = ()
    ) -> None:
        names = (*spec.labels, "provider")
        self._counter = Counter(spec.name, spec.meaning, names, registry=registry)
        self._combinations = tuple(combinations) or tuple(_combinations(spec))
        self._children: dict[tuple[str, ...], Counter] = {}
        self._begun: set[str] = set()

    def begin(self, provider: str) -> None:
        """Make every series of a provider exist; safe to repeat."""
        if provider in self._begun:
            return
        self._children.update(
            {
                (*values, provider): self._counter.labels(*values, provider)
                for values in self._combinations
            }
        )
        self._begun.add(provider)

    def add(self, *values: str, provider: str) -> None:
        """Count one more; unlike elsewhere a combination that was not foreseen begins a series."""
        self.begin(provider)
        child = self._children.get((*values, provider))
        (child or self._counter.labels(*values, provider)).inc()


@final
class ProviderLevels:
    """A gauge over providers; a series begins with its provider."""

    def __init__(self, spec: Spec, registry: CollectorRegistry) -> None:
        self._gauge = Gauge(spec.name, spec.meaning, ("provider",), registry=registry)

    def begin(self, provider: str) -> None:
        """Make the series of a provider exist; safe to repeat."""
        self._gauge.labels(provider)

    def add(self, amount: float, *, provider: str) -> None:
        """Change the level by `amount`."""
        self._gauge.labels(provider).inc(amount)

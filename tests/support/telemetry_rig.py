"""The observer of production on a registry and lines of its own, with a clock that stands still."""

from __future__ import annotations

from typing import Any, final

from sidecar.telemetry.logging import Level, Log
from sidecar.telemetry.metrics import Metrics
from sidecar.telemetry.observer import TelemetryObserver
from tests.support.lines import KeptLines


@final
class Rig:
    """An observer, what it counted and what it wrote."""

    def __init__(self, least: Level = Level.DEBUG) -> None:
        self.sink = KeptLines()
        self.metrics = Metrics(version="1.2.3")
        self.elapsed_s = 0.0
        log = Log(self.sink, least=least, elapsed_s=lambda: self.elapsed_s)
        self.observer = TelemetryObserver(metrics=self.metrics, log=log)

    def lines(self) -> list[dict[str, Any]]:
        return self.sink.lines

    def value(self, name: str, /, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)

    def all_samples(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        return {
            (found.name, tuple(found.labels.items())): found.value
            for family in self.metrics.registry.collect()
            if family.name.startswith("sidecar_")
            for found in family.samples
        }

"""Keeps finished log lines in memory, in place of the writer that puts them on a descriptor."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, final


@final
@dataclass
class KeptLines:
    """Implements `sidecar.telemetry.logging.LineSink`.

    Attributes:
        raw: The lines, without their ends.
        kept: For each of them whether it was to be kept.
    """

    raw: list[bytes] = field(default_factory=list[bytes])
    kept: list[bool] = field(default_factory=list[bool])

    @property
    def is_terminal(self) -> bool:
        """No person looks at them."""
        return False

    def put(self, line: bytes, *, level: str, is_kept: bool) -> None:
        """Keep one line."""
        del level
        self.raw.append(line)
        self.kept.append(is_kept)

    @property
    def text(self) -> bytes:
        """All of them, as a descriptor would get them."""
        return b"".join(line + b"\n" for line in self.raw)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """All of them, read as JSON."""
        return [json.loads(line) for line in self.raw]

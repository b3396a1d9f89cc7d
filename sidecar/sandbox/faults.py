"""Faults on demand: what shall go wrong, for whom, and how often.

It decides which fault strikes a request. It must not know HTTP or carry a fault out.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, final, get_args

from sidecar.sandbox.framing import Beside, End, Framing

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.sandbox.replies import Document

Operation: TypeAlias = Literal["obtain", "refresh", "revoke", "data"]
Target: TypeAlias = Literal["obtain", "refresh", "revoke", "data", "any_token"]
Kind: TypeAlias = Literal[
    "drop_before",
    "drop_after",
    "cut_after",
    "frame",
    "slow_before",
    "slow_after",
    "status_before",
    "status_after",
    "html",
    "redirect",
    "error",
    "body",
    "omit",
    "reject_bearer",
]

_STATUS_OF_KIND: Final[dict[Kind, int]] = {
    "status_before": 503,
    "status_after": 503,
    "html": 200,
    "redirect": 307,
    "error": 400,
    "body": 200,
    "reject_bearer": 401,
}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that shall go wrong.

    `times` counts the requests it strikes, 0 meaning until it is deleted; `chance` is the
    probability of striking a request that fits. `delay_s` comes before the effect, whatever the
    kind. `after_bytes` counts bytes of the body; a negative number, from its end. `framing`,
    `beside` and `end` say how the answer of any kind goes over the wire; the kind `frame` changes
    nothing else. The last six fields are for single kinds: `location` for redirect, `error` and
    `error_description` for error, `body` and `content_type` for body, `fields` for omit.

    Raises:
        ValueError: the operation, the kind or a number is not one of those allowed.
    """

    operation: Target
    kind: Kind
    times: int = 1
    chance: float = 1.0
    user: str | None = None
    provider: str | None = None
    delay_s: float = 0
    status: int | None = None
    retry_after_s: float | None = None
    after_bytes: int = 0
    framing: Framing | None = None
    beside: Beside = "nothing"
    end: End = "fin"
    location: str = "/elsewhere"
    error: str = "server_error"
    error_description: str | None = None
    body: str = ""
    content_type: str = "text/plain"
    fields: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.operation not in get_args(Target):
            raise ValueError(f"operation must be one of {', '.join(get_args(Target))}")
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind must be one of {', '.join(get_args(Kind))}")
        for name, allowed in (("framing", Framing), ("beside", Beside), ("end", End)):
            if getattr(self, name) not in (None, *get_args(allowed)):
                raise ValueError(f"{name} must be one of {', '.join(get_args(allowed))}")
        if self.kind == "frame" and self.framing is None:
            raise ValueError("frame needs a framing")
        if self.kind == "reject_bearer" and self.operation != "data":
            raise ValueError("reject_bearer is for the operation data")
        if min(self.times, self.delay_s, self.chance) < 0 or self.chance > 1:
            raise ValueError("times, delay_s must be at least 0, chance 0 to 1")
        if self.status is not None and not 200 <= self.status <= 599:  # noqa: PLR2004 - HTTP's
            raise ValueError("status must be 200 to 599")

    @property
    def answer_status(self) -> int:
        """The status of the answer it makes: the one asked for, or the kind's own."""
        return self.status if self.status is not None else _STATUS_OF_KIND.get(self.kind, 200)

    def fits(self, operation: Operation, *, user: str | None, provider: str | None) -> bool:
        """Tell whether a request is one this fault is for."""
        return (
            (self.operation == operation or (self.operation == "any_token" and operation != "data"))
            and self.user in (None, user)
            and self.provider in (None, provider)
        )


@final
@dataclass(slots=True, kw_only=True)
class _Armed:
    fault: Fault
    hits: int = 0

    @property
    def is_spent(self) -> bool:
        return self.fault.times > 0 and self.hits >= self.fault.times


@final
class FaultBook:
    """The faults that are armed. The oldest that fits a request strikes it, and only that one."""

    def __init__(self, *, draw: Callable[[], float] = random.random) -> None:
        self._draw = draw
        self._armed: dict[int, _Armed] = {}
        self._last_id = 0

    def add(self, fault: Fault) -> int:
        """Arm a fault and return its id."""
        self._last_id += 1
        self._armed[self._last_id] = _Armed(fault=fault)
        return self._last_id

    def take(self, operation: Operation, *, user: str | None, provider: str | None) -> Fault | None:
        """Return the fault that strikes this request, counted, if one does."""
        for armed in self._armed.values():
            fits = armed.fault.fits(operation, user=user, provider=provider)
            if armed.is_spent or not fits:
                continue
            if armed.fault.chance < 1 and self._draw() >= armed.fault.chance:
                continue
            armed.hits += 1
            return armed.fault
        return None

    def hits(self, fault_id: int) -> int:
        """Count the requests a fault has struck.

        Raises:
            KeyError: it was deleted or never armed.
        """
        return self._armed[fault_id].hits

    def delete(self, fault_id: int | None = None) -> int:
        """Disarm one fault, or all; return how many there were."""
        before = len(self._armed)
        if fault_id is None:
            self._armed.clear()
        else:
            self._armed.pop(fault_id, None)
        return before - len(self._armed)

    def listing(self) -> list[Document]:
        """List the armed and the spent faults with their ids and hits."""
        return [
            {"id": fault_id, **asdict(armed.fault), "hits": armed.hits, "spent": armed.is_spent}
            for fault_id, armed in self._armed.items()
        ]

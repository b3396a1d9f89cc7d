"""The ledger: every presentation of a refresh token, in order, and what became of it.

It is the witness a chaos test asks who claimed what twice. It holds digests, never tokens, and must
not know how a presentation was decided.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.sandbox.replies import Document

Presentation: TypeAlias = Literal["refresh", "revoke"]
Outcome: TypeAlias = Literal[
    "rotated", "grace", "denied", "family_revoked", "revoked", "error", "dropped"
]
Answer: TypeAlias = Literal["pending", "sent", "dropped", "cut"]

# What the grant book decided on; the other outcomes never reached it.
_DECIDED: Final = frozenset({"rotated", "grace", "denied", "family_revoked", "revoked"})


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One presentation.

    `outcome` is what the presentation did: `error` and `dropped` mean that a fault or an earlier
    check kept it from the grants. `answer` is what the sandbox meant to happen to the answer;
    `client_gone` says that nobody was there to take it. The request was there at `arrived_at`, it
    was decided on at `at`, and its answer had left at `answered_at`, all in Unix time. `token` and
    `successor` are the digests of what was presented and of what it bought.
    """

    at: float
    arrived_at: float
    presentation: Presentation
    token: str
    successor: str | None
    user: str | None
    provider: str | None
    family: str | None
    generation: int | None
    outcome: Outcome
    status: int | None
    client_ip_port: str
    request_id: str | None
    seq: int = 0
    answered_at: float | None = None
    answer: Answer = "pending"
    client_gone: bool = False


@final
class Ledger:
    """The presentations so far. Sequence numbers go on after it is cleared."""

    def __init__(self) -> None:
        self._entries: dict[int, Entry] = {}
        self._last_seq = 0

    def __iter__(self) -> Iterator[Entry]:
        return iter(tuple(self._entries.values()))

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Entry) -> int:
        """Append a presentation and return its sequence number."""
        self._last_seq += 1
        self._entries[self._last_seq] = replace(entry, seq=self._last_seq)
        return self._last_seq

    def settle(self, seq: int, *, at: float, answer: Answer, status: int | None) -> None:
        """Note how the answer of a presentation went out; nothing if it was cleared since."""
        entry = self._entries.get(seq)
        if entry is not None:
            self._entries[seq] = replace(entry, answered_at=at, answer=answer, status=status)

    def miss_client(self, seq: int) -> None:
        """Note that nobody was there to take the answer."""
        entry = self._entries.get(seq)
        if entry is not None:
            self._entries[seq] = replace(entry, client_gone=True)

    def of(self, user: str | None) -> list[Document]:
        """List the presentations as JSON documents, all or one user's."""
        names = [field.name for field in fields(Entry)]
        return [
            {name: getattr(entry, name) for name in names}
            for entry in self
            if user in (None, entry.user)
        ]

    def clear(self) -> None:
        """Forget all presentations."""
        self._entries.clear()

    def summary(self) -> Document:
        """Count what matters.

        `presented_twice` names the tokens that arrived more than once in a refresh, whatever a
        fault did to the earlier ones; `claimed_twice` those that the grants saw more than once.
        """
        refreshes = [entry for entry in self if entry.presentation == "refresh"]
        presented = Counter(entry.token for entry in refreshes)
        claimed = Counter(entry.token for entry in refreshes if entry.outcome in _DECIDED)
        return {
            "presentations": len(self._entries),
            "rotations": sum(entry.outcome in ("rotated", "grace") for entry in refreshes),
            "presented_twice": [token for token, times in presented.items() if times > 1],
            "claimed_twice": [token for token, times in claimed.items() if times > 1],
            "outcomes": dict(Counter(entry.outcome for entry in self)),
            "answers": dict(Counter(entry.answer for entry in self)),
        }

"""Seals anew what a former key sealed in the own spool, so that the key can be retired.

It changes no pair and no answer, only their envelopes. An entry that cannot be opened stays as it
is: the key may come back.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import final

from sidecar.domain.events import SpoolResealed
from sidecar.domain.spooled import AnswerReceived, PairReceived
from sidecar.ports import SealError
from sidecar.service.claim_parts import ClaimParts

Sealed = PairReceived | AnswerReceived


@final
class SpoolResealer:
    """The own spool's part in a rotation of keys."""

    def __init__(self, *, parts: ClaimParts) -> None:
        self._parts = parts

    async def reseal(self) -> None:
        """Seal anew what must be, letting claims go on in between."""
        state = self._parts.journal.state
        resealed = unreadable = 0
        entries: list[Sealed] = [*state.pairs.values(), *state.answers.values()]
        for entry in entries:
            if self._is_current(entry):
                continue
            await asyncio.sleep(0)
            if not self._is_standing(entry):
                continue
            try:
                resealed += self._parts.journal.note(self._resealed(entry))
            except SealError:
                unreadable += 1
        if resealed or unreadable:
            self._parts.observer.observe(SpoolResealed(entries=resealed, unreadable=unreadable))

    def _is_current(self, entry: Sealed) -> bool:
        if isinstance(entry, PairReceived):
            return self._parts.vault.is_current(entry.pair)
        return self._parts.vault.is_current_answer(entry)

    def _is_standing(self, entry: Sealed) -> bool:
        """Whether the spool still holds this very entry: what replaced it is sealed newly."""
        state = self._parts.journal.state
        if isinstance(entry, PairReceived):
            return state.pairs.get(entry.grant) is entry
        return state.answers.get(entry.claim_id) is entry

    def _resealed(self, entry: Sealed) -> Sealed:
        if isinstance(entry, PairReceived):
            return replace(entry, pair=self._parts.vault.reseal_pair(entry.grant, entry.pair))
        return self._parts.vault.reseal_answer(entry)

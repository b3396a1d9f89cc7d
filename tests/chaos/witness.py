"""What a sidecar process leaves behind for the oracle, written by itself and read after its death.

Composed around production code by the main of a test process: a header on each claim that says who
sent it, an instant for each pair that became durable, and a beat of the loop that runs the claims.
Everything is appended with one write each, so that it survives a SIGKILL.
"""

# It is composed around the insides of production code.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import os
import struct
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from sidecar.adapters import http_idp
from sidecar.app.lane_side import LaneSide
from sidecar.domain.wire import TokenReply, TokenRequest
from sidecar.service.presentations import Delivered, Presentation
from sidecar.service.transmission import Transmission
from tests.chaos.evidence import ClaimTag

BEAT_S: Final = 0.01
_INSTANT: Final = struct.Struct("<d")
_TAG: ContextVar[ClaimTag | None] = ContextVar("tag", default=None)


def now_s() -> float:
    """Return Unix time, as the sandbox and Redis read it."""
    return time.clock_gettime(time.CLOCK_REALTIME)


@final
class Witness:
    """Writes down what happens in this process; files are named after it."""

    def __init__(self, directory: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._beats = os.open(directory / f"{os.getpid()}.beats", flags, 0o600)
        self._spooled = os.open(directory / f"{os.getpid()}.spooled", flags, 0o600)

    def beat(self) -> None:
        """Note that the running loop came round; from now on it does so by itself."""
        os.write(self._beats, _INSTANT.pack(now_s()))
        asyncio.get_running_loop().call_later(BEAT_S, self.beat)

    def spooled(self, claim_id: str) -> None:
        """Note that a claim's pair is durable."""
        os.write(self._spooled, f"{claim_id} {now_s()}\n".encode())

    def tag(self, *, claim_id: str, kind: str, attempt: int) -> None:
        """Have the next request of the running task say who sent it."""
        tag = ClaimTag(
            pid=os.getpid(), claim_id=claim_id, kind=kind, attempt=attempt, began_s=now_s()
        )
        _TAG.set(tag)


def headers() -> dict[str, str]:
    """Return the header of the running task's request."""
    tag = _TAG.get()
    return {} if tag is None else {"X-Request-Id": str(tag)}


def attach(witness: Witness) -> None:
    """Compose the witness around a sidecar that is yet to be built."""
    _tag_claims(witness)
    _note_spooled(witness)
    start = LaneSide._start

    async def start_beating(self: LaneSide) -> None:
        witness.beat()
        await start(self)

    LaneSide._start = start_beating  # type: ignore[method-assign]


def _tag_claims(witness: Witness) -> None:
    present, plain_headers = Transmission.present, http_idp._headers

    async def present_with_tag(self: Transmission) -> Presentation:
        ticket = self._ticket
        witness.tag(claim_id=ticket.claim_id, kind=ticket.kind.value, attempt=self.sends + 1)
        return await present(self)

    def headers_with_tag(request: TokenRequest) -> dict[str, str]:
        return plain_headers(request) | headers()

    Transmission.present = present_with_tag  # type: ignore[method-assign]
    http_idp._headers = headers_with_tag


def _note_spooled(witness: Witness) -> None:
    on_answer = Transmission._on_answer

    def on_answer_and_tell(self: Transmission, reply: TokenReply) -> None:
        on_answer(self, reply)
        if isinstance(self.result, Delivered) and self.result.is_durable:
            witness.spooled(self._ticket.claim_id)

    Transmission._on_answer = on_answer_and_tell  # type: ignore[method-assign]


@dataclass(frozen=True, slots=True, kw_only=True)
class Testimony:
    """What all witnesses of a run wrote.

    Attributes:
        beats: By process.
        spool_times: By claim.
    """

    beats: Mapping[int, tuple[float, ...]]
    spool_times: Mapping[str, float]


def testimony_of(directory: Path) -> Testimony:
    """Read what the witnesses of a run wrote."""
    beats: dict[int, tuple[float, ...]] = {}
    for path in directory.glob("*.beats"):
        raw = path.read_bytes()
        whole = raw[: len(raw) - len(raw) % _INSTANT.size]
        beats[int(path.stem)] = tuple(instant for (instant,) in _INSTANT.iter_unpack(whole))
    times: dict[str, float] = {}
    for path in directory.glob("*.spooled"):
        for line in path.read_text().splitlines():
            claim_id, _, at = line.partition(" ")
            if at:
                times[claim_id] = float(at)
    return Testimony(beats=beats, spool_times=times)

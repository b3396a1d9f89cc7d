"""T10: what an answer of the token service, or none, leaves behind.

The table of the protocol as data, walked row by row through a whole engine in virtual time; answers
drawn at random; and a success cut at every byte offset on its way over a real socket. It must not
know how many random answers are enough.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from random import Random
from typing import Final

from sidecar.domain.failure import Operation
from sidecar.domain.record import GrantState
from sidecar.domain.token_wire import ClaimFate, PairRead, fate_of, read_reply
from sidecar.domain.tokens import TokenFailure
from sidecar.domain.wire import Answered, Broken, TokenReply
from tests.support.idp_calls import BODY, provider, send
from tests.support.rotating_idp import CLAIMED, Fault
from tests.support.scripted_idp import id_token, json_answer, pair_answer, refusal
from tests.support.scripted_peer import PeerConnection, ScriptedPeer, answer
from tests.support.sidecar_parts import KEY
from tests.support.virtual_fleet import Fleet
from tests.support.virtual_time import VirtualLoop

TRIES: Final = 4
"""The owner's own and its three repetitions."""

HYDRA_DEAD: Final = (
    "The provided authorization grant (e.g., authorization code, resource owner credentials) or "
    "refresh token is invalid, expired, revoked, does not match the redirection URI used in the "
    "authorization request, or was issued to another client."
)
HYDRA_RACE: Final = (
    "The request could not be completed due to concurrent use. "
    "Failed to refresh token because of multiple concurrent requests using the same token which "
    "is not allowed. Please retry."
)
GRANT_TYPE: Final = "Missing or incorrect grant_type field. Must be refresh_token"
NO_TOKEN: Final = "No refresh token in request."
PAGE: Final = b"<!doctype html><html><title>Sign in</title></html>"


@dataclass(frozen=True, slots=True, kw_only=True)
class After:
    """How a grant stands after one wish for its successor.

    Attributes:
        marks: Presentations of the stored pair that may have spent it, as the record counts them.
        presentations: What arrived at the token service.
    """

    state: GrantState = GrantState.ACTIVE
    generation: int = 0
    marks: int = 0
    presentations: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of the table; `answer` comes to each try."""

    what: str
    answer: Fault | TokenReply
    after: After

    def __str__(self) -> str:
        return self.what


SUCCESS: Final = After(generation=1)
UNSPENT: Final = After()
UNKNOWN: Final = After(marks=1)
REPEATED: Final = After(marks=1, presentations=TRIES)
ENDED: Final = After(state=GrantState.REAUTH_REQUIRED, marks=1)
DOUBTED: Final = After(state=GrantState.IN_DOUBT, marks=1)
LOST: Final = After(state=GrantState.IN_DOUBT, marks=1, presentations=2)


def _status(status: int, body: bytes = b"") -> Answered:
    return Answered(status=status, body=body)


_KEPT: Final = json_answer(200, {"id_token": id_token(), "expires_in": 900})
_FIRST_TOKEN: Final = f"canary-refresh-{KEY.user}-0-0"

ROWS: Final = (
    Row(what="no connection", answer=Fault.UNREACHABLE, after=After(presentations=0)),
    Row(what="reset before the request arrived", answer=Fault.REQUEST_LOST, after=REPEATED),
    Row(what="reset before any byte of the answer", answer=Fault.ANSWER_LOST, after=LOST),
    Row(what="200 with a pair", answer=Fault.NONE, after=SUCCESS),
    Row(what="200 cut after the token", answer=Fault.CUT_AFTER_TOKEN, after=SUCCESS),
    Row(what="200 cut before the token", answer=Fault.CUT_BEFORE_TOKEN, after=LOST),
    Row(what="200 without a refresh token", answer=_KEPT, after=SUCCESS),
    Row(what="200 with the same token", answer=pair_answer(_FIRST_TOKEN), after=SUCCESS),
    Row(what="200 garbled behind the token", answer=_status(200, BODY[:-9]), after=SUCCESS),
    Row(what="200 with neither token", answer=_status(200, b"{}"), after=REPEATED),
    Row(what="200 with nothing", answer=_status(200), after=REPEATED),
    Row(what="200 with a page", answer=_status(200, PAGE), after=UNSPENT),
    *(
        Row(what=f"{status} to elsewhere", answer=_status(status), after=UNKNOWN)
        for status in (301, 302, 303, 307, 308)
    ),
    Row(what="400 claimed", answer=CLAIMED, after=ENDED),
    Row(what="400 no token", answer=refusal(400, "invalid_request", NO_TOKEN), after=DOUBTED),
    Row(
        what="400 expired",
        answer=refusal(400, "invalid_request", "Refresh token expired."),
        after=ENDED,
    ),
    Row(
        what="400 names the grant type",
        answer=refusal(400, "invalid_grant", GRANT_TYPE),
        after=UNSPENT,
    ),
    Row(what="400 unsupported type", answer=refusal(400, "unsupported_grant_type"), after=UNSPENT),
    Row(what="400 invalid_grant", answer=refusal(400, "invalid_grant"), after=ENDED),
    Row(what="400 Hydra's", answer=refusal(400, "invalid_grant", HYDRA_DEAD), after=ENDED),
    Row(what="401 inactive", answer=refusal(401, "token_inactive"), after=ENDED),
    Row(what="400 retry", answer=refusal(400, "invalid_request", HYDRA_RACE), after=REPEATED),
    Row(
        what="400 try again",
        answer=refusal(400, "invalid_request", "Something failed, try again."),
        after=REPEATED,
    ),
    Row(what="400 without a text", answer=refusal(400, "invalid_request"), after=UNKNOWN),
    Row(what="400 with a page", answer=_status(400, PAGE), after=UNKNOWN),
    Row(what="400 with no text at all", answer=_status(400, b"\xff\xfe"), after=UNKNOWN),
    *(
        Row(what=f"{status} {error}", answer=refusal(status, error), after=UNSPENT)
        for status in (400, 401, 403)
        for error in ("invalid_client", "unauthorized_client")
    ),
    *(Row(what=f"{status} alone", answer=_status(status), after=UNKNOWN) for status in (401, 425)),
    *(
        Row(what=f"{status} alone", answer=_status(status), after=UNSPENT)
        for status in (403, 404, 405, 415)
    ),
    Row(what="429", answer=_status(429), after=UNSPENT),
    *(
        Row(what=f"{status} alone", answer=_status(status), after=REPEATED)
        for status in (408, 500, 502, 503, 504)
    ),
    Row(
        what="500 to the loser of a race",
        answer=Answered(status=500, body=CLAIMED.body),
        after=REPEATED,
    ),
    Row(what="500 after the rotation", answer=Fault.ERROR_AFTER, after=LOST),
)


def left_by(answer: Fault | TokenReply) -> After:
    """Return how a fresh grant stands after a wish to which each try is answered so.

    What the token service does on the way of a fault it does once: then it denies.
    """

    async def story() -> After:
        fleet = Fleet()
        peer = await fleet.with_expired_grant()
        is_processed = isinstance(answer, Fault) and answer.is_processed
        fleet.idp.plan.extend([answer] * (1 if is_processed else TRIES))
        await peer.parts.broker.renew(KEY, known=fleet.record(peer).position, wait_s=60)
        await peer.rest()
        record = fleet.record(peer)
        after = After(
            state=record.state,
            generation=record.pair.generation,
            marks=record.marks,
            presentations=len(fleet.idp.refreshes()),
        )
        fleet.idp.plan.clear()
        await fleet.end()
        return after

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(story())


def random_answer(chance: Random) -> TokenReply:
    """Return an answer of any status with JSON, a page, or bytes, whole or broken."""
    status = chance.choice((200, 201, 302, 400, 400, 401, 403, 429, 500, 503, 599))
    error = chance.choice(("invalid_request", "invalid_grant", "invalid_client", "new_error", 7))
    text = chance.choice((NO_TOKEN, GRANT_TYPE, HYDRA_DEAD, HYDRA_RACE, "", "x" * 9, None))
    bodies: tuple[bytes, ...] = (
        BODY,
        CLAIMED.body,
        PAGE,
        chance.randbytes(chance.randrange(60)),
        json.dumps({"error": error, "error_description": text}).encode(),
        json.dumps(chance.choice(([], {}, None, "text", 1, {"refresh_token": 5}))).encode(),
    )
    body = chance.choice(bodies)
    if chance.random() < 0.3:
        body = body[: chance.randrange(len(body) + 1)]
    if chance.random() < 0.2:
        return Broken(status=chance.choice((None, status)), body=body)
    return Answered(status=status, body=body)


def is_as_read(answer: TokenReply, after: After) -> bool:
    """Whether a grant stands as the meaning of the answer has it, whatever the answer was."""
    reading = read_reply(Operation.REFRESH, answer)
    if not isinstance(reading, TokenFailure):
        return (after.state, after.generation) == (GrantState.ACTIVE, 1)
    match fate_of(reading):
        case ClaimFate.UNSPENT:
            return (after.state, after.presentations) == (GrantState.ACTIVE, 1)
        case ClaimFate.AMBIGUOUS:
            return (after.state, after.presentations) == (GrantState.ACTIVE, TRIES)
        case ClaimFate.DENIED:
            return after.state in (GrantState.IN_DOUBT, GrantState.REAUTH_REQUIRED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cuts:
    """What came of a success that was cut at every byte offset.

    Attributes:
        closed: Cuts behind the closing quote of the refresh token.
        salvaged: Of those, how many gave the token.
        invented: Cuts before it that gave one all the same.
    """

    offsets: int
    closed: int
    salvaged: int
    invented: int


async def cut_everywhere(*, is_chunked: bool) -> Cuts:
    """Send a success over a socket once for each of its offsets, and end the connection there."""
    whole = _chunked(BODY) if is_chunked else answer(BODY)
    quoted = json.dumps(json.loads(BODY)["refresh_token"]).encode()
    closes_at = whole.index(quoted) + len(quoted)
    salvaged = invented = 0
    cut = 0

    async def end_there(connection: PeerConnection) -> None:
        await connection.read_request()
        await connection.write(whole[:cut])
        connection.close()

    async with ScriptedPeer(end_there) as peer:
        idp = provider(peer.url)
        for offset in range(len(whole) + 1):
            cut = offset
            reading = read_reply(Operation.REFRESH, await send(idp))
            is_pair = isinstance(reading, PairRead)
            salvaged += is_pair and offset >= closes_at
            invented += is_pair and offset < closes_at
    offsets = len(whole) + 1
    return Cuts(offsets=offsets, closed=offsets - closes_at, salvaged=salvaged, invented=invented)


def _chunked(body: bytes) -> bytes:
    """Return an answer whose chunks meet within no member of its JSON but between two."""
    at = body.index(b'"id_token"')
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:at], body[at:]))
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"

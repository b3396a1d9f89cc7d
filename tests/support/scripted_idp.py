"""A token service that answers what a test tells it to.

It keeps the obligations of `sidecar.ports.IdentityProvider` (the veto, the answer told in the step
in which it is there) and remembers what it was asked. It must not know what an answer means, nor
which tokens are good.
"""

from __future__ import annotations

import base64
import inspect
import json
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, final

from sidecar.domain.failure import Operation
from sidecar.domain.secret import Secret
from sidecar.domain.wire import Answered, NotSent, TokenReply, TokenRequest

Step = TokenReply | Callable[[TokenRequest], TokenReply | Awaitable[TokenReply]]
"""One answer: as it is, or made (perhaps after a while) from the request it answers."""

ISSUED_AT_S: Final = 1_700_000_000
LIFE_S: Final = 900


@final
class ScriptedIdp:
    """Implements `sidecar.ports.IdentityProvider` from a list of steps.

    Attributes:
        steps: What comes next; when none is left, `otherwise` answers.
        otherwise: The step for every request that no other step is left for.
        requests: Every request that `send` was called with.
        sent: Those of them whose bytes left.
        replies: What was answered, in order.
    """

    def __init__(self, *steps: Step, otherwise: Step | None = None) -> None:
        self.steps: deque[Step] = deque(steps)
        self.otherwise: Step = otherwise if otherwise is not None else NotSent()
        self.requests: list[TokenRequest] = []
        self.sent: list[TokenRequest] = []
        self.replies: list[TokenReply] = []

    def then(self, *steps: Step) -> None:
        """Add steps to the script."""
        self.steps.extend(steps)

    def of(self, operation: Operation) -> list[TokenRequest]:
        """Return the requests of an operation whose bytes left."""
        return [request for request in self.sent if request.operation is operation]

    async def send(
        self,
        request: TokenRequest,
        *,
        before_send: Callable[[], Awaitable[bool]],
        on_answer: Callable[[TokenReply], None],
    ) -> TokenReply:
        """Answer with the next step; a step that is `NotSent` stands for no connection."""
        self.requests.append(request)
        step = self.steps.popleft() if self.steps else self.otherwise
        if not isinstance(step, NotSent):
            if not await before_send():
                return self._tell(NotSent(is_vetoed=True), on_answer)
            self.sent.append(request)
        if callable(step):
            made = step(request)
            step = await made if inspect.isawaitable(made) else made
        return self._tell(step, on_answer)

    def _tell(self, reply: TokenReply, on_answer: Callable[[TokenReply], None]) -> TokenReply:
        self.replies.append(reply)
        on_answer(reply)
        return reply


def field_of(request: TokenRequest, name: str) -> str:
    """Return a form field of a request in the clear, or ``""``."""
    for key, value in request.form:
        if key == name:
            return value.reveal() if isinstance(value, Secret) else value
    return ""


def id_token(
    *,
    subject: str = "subject-1",
    issued_at_s: int = ISSUED_AT_S,
    life_s: int = LIFE_S,
    akoya_grant_id: str = "akoya-grant-1",
    claims: Mapping[str, object] | None = None,
) -> str:
    """Return an unsigned JWT of an id_token's shape; `claims` take the place of the usual ones."""
    usual: dict[str, object] = {
        "sub": subject,
        "iat": issued_at_s,
        "exp": issued_at_s + life_s,
        "grant_id": akoya_grant_id,
    }
    told = usual | dict(claims or {})
    return ".".join((_segment({"alg": "RS256"}), _segment(told), "c2lnbmF0dXJl"))


def pair_answer(
    refresh_token: str,
    *,
    bearer: str | None = None,
    expires_in: int = LIFE_S,
) -> Answered:
    """Return a 200 with a pair; `bearer` is the id_token, a fresh one if it is not given."""
    return json_answer(
        200,
        {
            "token_type": "bearer",
            "expires_in": expires_in,
            "refresh_token": refresh_token,
            "id_token": id_token() if bearer is None else bearer,
        },
    )


def refusal(
    status: int, error: str, description: str = "", *, retry_after_s: float | None = None
) -> Answered:
    """Return an answer of an OAuth error."""
    members = {"error": error}
    if description:
        members["error_description"] = description
    return json_answer(status, members, retry_after_s=retry_after_s)


def json_answer(status: int, members: object, *, retry_after_s: float | None = None) -> Answered:
    """Return a whole answer of JSON."""
    return Answered(
        status=status,
        body=json.dumps(members).encode(),
        content_type="application/json",
        retry_after_s=retry_after_s,
    )


def _segment(claims: Mapping[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()

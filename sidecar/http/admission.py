"""Who may pass and where to: the checks of a request before anything is asked for it.

It reads the head of a request and says which grant it needs and what goes on. It does not know
tokens, the upstream, or how a refusal looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

from aiohttp import web

from sidecar.domain.caller import name_user, show_client_key
from sidecar.domain.forwarding import RawHeader, RequestHead, sort_request_headers
from sidecar.domain.record import GrantKey
from sidecar.domain.request_target import Refused, parse_target
from sidecar.domain.tokens import ProblemReason
from sidecar.http.access import AccessKeys
from sidecar.http.accounting import Account

_VERSIONS: Final = frozenset({(1, 0), (1, 1)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """A request that may go on.

    Attributes:
        target: Path and query, byte for byte.
        length: ``Content-Length``, or ``None``.
        has_body: Whether anything follows the head.
        expects_continue: The client waits to be asked for its body.
    """

    key: GrantKey
    product: str
    target: str
    headers: Sequence[RawHeader]
    length: int | None
    has_body: bool
    expects_continue: bool


@final
class Admission:
    """The checks of the proxy listener."""

    def __init__(
        self,
        *,
        user_header: str,
        methods: frozenset[str],
        max_request_bytes: int,
        max_header_bytes: int,
        client_keys: AccessKeys,
    ) -> None:
        self._user_header = user_header.lower().encode("ascii")
        self._methods = methods
        self._max_request_bytes = max_request_bytes
        self._max_header_bytes = max_header_bytes
        self._client_keys = client_keys

    def admit(self, request: web.BaseRequest, account: Account) -> Admitted | Refused:
        """Check a request; what is learnt about it is noted in `account`."""
        head = sort_request_headers(request.raw_headers, user_header=self._user_header)
        refused = self._check_framing(request, head) or self._check_client(head, account)
        if refused is not None:
            return refused
        if request.method not in self._methods:
            return Refused(reason=ProblemReason.METHOD_NOT_ALLOWED)
        target = parse_target(request.raw_path)
        if isinstance(target, Refused):
            return target
        account.product = target.product
        account.provider = target.provider
        user = name_user(head, user_header=self._user_header)
        if isinstance(user, Refused):
            return user
        lengths = head.held(b"content-length")
        length = int(lengths[0]) if lengths else None
        if length is not None and 0 < self._max_request_bytes < length:
            return Refused(reason=ProblemReason.REQUEST_TOO_LARGE)
        return Admitted(
            key=GrantKey(user=user, provider=target.provider),
            product=target.product,
            target=target.raw,
            headers=head.forwarded,
            length=length,
            has_body=bool(length) or bool(head.held(b"transfer-encoding")),
            expects_continue=_expects_continue(head),
        )

    def _check_framing(self, request: web.BaseRequest, head: RequestHead) -> Refused | None:
        """Refuse what the next hop could frame in another way."""
        if head.size_bytes > self._max_header_bytes:
            return Refused(reason=ProblemReason.HEADERS_TOO_LARGE)
        encodings = head.held(b"transfer-encoding")
        is_sound = request.version in _VERSIONS and (
            not encodings
            or (
                len(encodings) == 1
                and encodings[0].lower() == b"chunked"
                and request.version == (1, 1)
                and not head.held(b"content-length")
            )
        )
        return None if is_sound else Refused(reason=ProblemReason.REQUEST_INVALID)

    def _check_client(self, head: RequestHead, account: Account) -> Refused | None:
        if not self._client_keys:
            return None
        shown = show_client_key(head)
        if isinstance(shown, Refused):
            return shown
        name = self._client_keys.name_of(shown)
        if name is None:
            return Refused(reason=ProblemReason.CLIENT_KEY_INVALID)
        account.client = name
        return None


def _expects_continue(head: RequestHead) -> bool:
    return any(value.lower() == b"100-continue" for value in head.held(b"expect"))

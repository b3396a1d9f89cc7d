"""What crosses the wire to the token service and back, as values.

The adapter sends a `TokenRequest` and returns a `TokenReply`; what a reply means is decided in
`sidecar.domain.token_wire`. The type of a reply says whether anything was sent, which alone decides
whether the request may be repeated.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sidecar.domain.failure import Operation
from sidecar.domain.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """One POST to the token service.

    Attributes:
        path: Path below the IdP's URL.
        form: The form fields in order; secret values masked.
        basic_auth: Client id and secret for HTTP Basic, or ``None`` where they lie in the form.
    """

    operation: Operation
    path: str
    form: tuple[tuple[str, str | Secret], ...]
    basic_auth: tuple[str, Secret] | None = field(default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotSent:
    """Nothing left: no connection, or the caller vetoed at the last moment.

    Attributes:
        is_vetoed: The caller's `before_send` refused.
    """

    is_vetoed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A whole HTTP answer. Its `body` may hold tokens and never prints.

    Attributes:
        retry_after_s: ``Retry-After`` in seconds, or ``None``.
        content_type: Media type without parameters, lower case, or ``""``.
        date_s: ``Date`` of the answer, on the token service's clock (epoch), or 0.
    """

    status: int
    body: bytes = field(repr=False)
    content_type: str = ""
    retry_after_s: float | None = None
    date_s: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """Something may have been sent, but no whole answer came; the socket is closed with a reset.

    Attributes:
        status: Status of the answer that began, or ``None``.
        body: What of it arrived.
    """

    status: int | None = None
    body: bytes = field(default=b"", repr=False)


TokenReply = NotSent | Answered | Broken

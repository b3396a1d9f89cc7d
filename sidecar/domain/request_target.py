"""Where a request goes: its path read into product and provider, or refused.

A target that two hops could read differently is refused, never normalised. It does not know
headers or who sends the request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sidecar.domain.tokens import ProblemReason

PRODUCTS: Final = frozenset(
    {
        "accounts-info",
        "balances",
        "accounts",
        "taxlots",
        "transactions",
        "customers",
        "contacts",
        "payments",
        "statements",
        "tax-forms",
    }
)
OTHER_PRODUCT: Final = "other"


def to_known_product(name: str) -> str:
    """Return the product of this name, or `OTHER_PRODUCT`: nobody can make labels up."""
    return name if name in PRODUCTS else OTHER_PRODUCT


_PROVIDER_MAX_LENGTH: Final = 128
_PROVIDER_CHARACTERS: Final = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~"
)
_ESCAPED_SLASH: Final = "%2f"
_HEX_DIGITS: Final = frozenset("0123456789abcdefABCDEF")
_DELETE: Final = 0x7F
_SPACE: Final = 0x20
_UNSAFE_OCTETS: Final = frozenset({ord("\\"), _DELETE}) | frozenset(range(_SPACE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A request that gets an answer of our own, and why.

    Attributes:
        retry_after_s: From when asking again may help; ``None``: as usual for the reason.
    """

    reason: ProblemReason
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a request goes.

    Attributes:
        raw: Path and query, byte for byte as they came.
        product: One of Akoya's products, or ``other``: a label, not the path segment.
        provider: Akoya's provider id, the third segment.
    """

    raw: str
    product: str
    provider: str


def parse_target(raw: str) -> Target | Refused:
    """Read ``/{product}/{version}/{provider}…?query`` and refuse whatever could be read two ways.

    Nothing is ever normalised: a target is passed on as it came or not at all.
    """
    path, _, _ = raw.partition("?")
    segments = path.split("/", 4)
    if (
        len(segments) < _LEAST_SEGMENTS
        or segments[0]
        or not _is_plain(raw)
        or not _is_unambiguous(path)
        or not is_provider(segments[3])
        or _ESCAPED_SLASH in f"{segments[1]} {segments[2]}".lower()
    ):
        return _PATH_INVALID
    product = segments[1]
    return Target(
        raw=raw,
        product=to_known_product(product),
        provider=segments[3],
    )


_LEAST_SEGMENTS: Final = 4
_PATH_INVALID: Final = Refused(reason=ProblemReason.PATH_INVALID)


def _is_plain(raw: str) -> bool:
    return raw.isascii() and raw.isprintable() and " " not in raw and "#" not in raw


def _is_unambiguous(path: str) -> bool:
    """Whether no hop could resolve the path to another product, provider, or parent.

    An id behind the provider may hold a slash, which SDKs escape; a hop that takes it for one of
    the path's own must not find a dot segment or an empty one.
    """
    if "//" in path or "\\" in path:
        return False
    if "%" not in path:
        return "/." not in path or not _has_dot_segment(path)
    if not _has_only_safe_escapes(path):
        return False
    read = path.replace("%2e", ".").replace("%2E", ".")
    read = read.replace(_ESCAPED_SLASH, "/").replace("%2F", "/")
    return "//" not in read and not _has_dot_segment(read)


def _has_dot_segment(path: str) -> bool:
    return any(segment.partition(";")[0] in {".", ".."} for segment in path.split("/"))


def _has_only_safe_escapes(path: str) -> bool:
    for part in path.split("%")[1:]:
        digits = part[:2]
        if len(digits) < len("2f") or not _HEX_DIGITS.issuperset(digits):
            return False
        if int(digits, 16) in _UNSAFE_OCTETS:
            return False
    return True


def is_provider(segment: str) -> bool:
    """Whether a provider id is 1 to 128 letters, digits or ``-._~``, and could be Akoya's."""
    return 0 < len(segment) <= _PROVIDER_MAX_LENGTH and _PROVIDER_CHARACTERS.issuperset(segment)

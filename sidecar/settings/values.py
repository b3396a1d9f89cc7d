"""How the text of a variable becomes a value: addresses, URLs, names, numbers.

Each parser returns the value or raises with a sentence that never repeats the text, since the text
may be a secret. It knows no variable by name and checks nothing across variables.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import SplitResult, urlsplit

from sidecar.domain.addresses import HIGHEST_PORT, ListenAddress, is_loopback_host, parse_address
from sidecar.domain.return_targets import ReturnTarget, parse_return_target
from sidecar.domain.secret import FiledSecret, Secret
from sidecar.domain.store_address import parse_store_address
from sidecar.settings.forms import FROM_FILE, VISIBLE, Form, Parser, Refused, refuse_repeats

FORBIDDEN_USER_HEADERS: Final = frozenset(
    {
        "accept",
        "accept-encoding",
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "date",
        "expect",
        "forwarded",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "set-cookie",
        "sidecar-error",
        "sidecar-key",
        "te",
        "trailer",
        "traceparent",
        "tracestate",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "via",
        "www-authenticate",
    }
)
FORBIDDEN_USER_HEADER_PREFIXES: Final = ("x-forwarded-", "x-akoya-")
FORBIDDEN_METHODS: Final = frozenset({"CONNECT", "TRACE"})

_PREFIX: Final = re.compile(r"[A-Za-z0-9._-]{1,32}")
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")


def _address(value: str) -> ListenAddress:
    address = parse_address(value)
    if address is None:
        raise Refused(f"must be host:port (port 0 to {HIGHEST_PORT}) or unix:/path")
    return address


def _split_url(text: str, schemes: tuple[str, ...]) -> SplitResult:
    try:
        url = urlsplit(text)
        url.port  # noqa: B018 - reading it is the check
    except ValueError:
        raise Refused("must be a URL") from None
    if url.scheme not in schemes:
        raise Refused("must begin with " + " or ".join(f"{scheme}://" for scheme in schemes))
    if not VISIBLE.fullmatch(text) or url.fragment:
        raise Refused("must be a URL without spaces and fragment")
    return url


def _http_url(value: str) -> str:
    text = value.rstrip("/")
    url = _split_url(text, ("https", "http"))
    if not url.hostname or url.query or "@" in url.netloc:
        raise Refused("must be a URL with a host and without user, query and fragment")
    if url.scheme == "http" and not is_loopback_host(url.hostname):
        raise Refused("must begin with https:// (plain http only for loopback)")
    return text


def _https_origin(value: str) -> str:
    text = _http_url(value)
    if urlsplit(text).path:
        raise Refused("must be a URL without a path: cookies of this kind belong to a whole host")
    return text


def _return_targets(value: str) -> tuple[ReturnTarget, ...]:
    targets: list[ReturnTarget] = []
    for part in value.split(","):
        target = parse_return_target(part.strip())
        if target is None:
            raise Refused(
                "must be https URLs without query and fragment, separated by commas "
                "(plain http only for loopback)"
            )
        targets.append(target)
    refuse_repeats(targets, "the same URL stands twice")
    return tuple(targets)


def _egress_url(value: str) -> Secret:
    text = value
    if not _split_url(text, ("http", "https")).hostname:
        raise Refused("must be a URL with a host")
    return Secret(text)


def _redirect_uri(value: str) -> str:
    text = value
    try:
        url = urlsplit(text)
    except ValueError:
        raise Refused("must be an absolute URI without fragment") from None
    if not url.scheme or url.fragment or not VISIBLE.fullmatch(text) or text.endswith(":"):
        raise Refused("must be an absolute URI without fragment")
    return text


def _redis_url(value: str) -> Secret:
    try:
        parse_store_address(value)
    except ValueError as error:
        raise Refused(str(error)) from None
    return Secret(value)


def _path(value: str) -> str:
    text = value
    if not text.startswith("/") or not VISIBLE.fullmatch(text) or set(text) & set("?#\\"):
        raise Refused("must be a path that begins with /")
    return text


def _directory(value: str) -> str:
    text = value
    if not text.startswith("/") or "\0" in text:
        raise Refused("must be an absolute path")
    return text


def _readable_file(value: str) -> str:
    text = value
    try:
        with Path(text).open("rb") as file:
            file.read(1)
    except (OSError, ValueError):
        raise Refused("names a file that cannot be read") from None
    return text


def _user_header(value: str) -> str:
    text = value
    lower = text.lower()
    if not _TOKEN.fullmatch(text):
        raise Refused("must be the name of a header")
    if lower in FORBIDDEN_USER_HEADERS or lower.startswith(FORBIDDEN_USER_HEADER_PREFIXES):
        raise Refused("is a header with a meaning of its own; choose another name")
    return text


def _methods(value: str) -> tuple[str, ...]:
    methods = tuple(part.strip() for part in value.split(","))
    for method in methods:
        if not _TOKEN.fullmatch(method) or method != method.upper():
            raise Refused("must be methods in capitals, separated by commas")
        if method in FORBIDDEN_METHODS:
            raise Refused("CONNECT and TRACE are never passed on")
    refuse_repeats(methods, "the same method stands twice")
    return methods


def _key_prefix(value: str) -> str:
    text = value
    if not _PREFIX.fullmatch(text):
        raise Refused("must be 1 to 32 of A-Z a-z 0-9 . _ -")
    return text


def _socket_mode(value: str) -> int:
    text = value
    if not re.fullmatch(r"0?[0-7]{3}", text):
        raise Refused("must be three octal digits, as 0600")
    mode = int(text, 8)
    if not mode & stat.S_IWUSR:
        raise Refused("must let the owner write, as 0600")
    return mode


def _scopes(value: str) -> str:
    text = value
    if not all(VISIBLE.fullmatch(part) for part in text.split(" ")) or "openid" not in text.split(
        " "
    ):
        raise Refused("must be scopes separated by one space, openid among them")
    return text


def _visible(value: str) -> str:
    text = value
    if not VISIBLE.fullmatch(text):
        raise Refused("must be visible ASCII characters without spaces")
    return text


def _visible_secret(value: str) -> FiledSecret:
    return FiledSecret(Secret(_visible(value)))


def _or_auto(parse: Callable[[str], float], low: float, high: float) -> Callable[[str], object]:
    def parsed(value: str) -> float | None:
        text = value
        if text == "auto":
            return None
        try:
            number = parse(text)
        except ValueError:
            raise Refused(f"must be auto or a number from {low:g} to {high:g}") from None
        if not low <= number <= high:
            raise Refused(f"must be auto or a number from {low:g} to {high:g}")
        return number

    return parsed


Address = Annotated[ListenAddress, Parser(_address), Form("`host:port` or `unix:/path`")]
Visible = Annotated[str, Parser(_visible), Form("text without spaces")]
PlainSecret = Annotated[FiledSecret, Parser(_visible_secret), FROM_FILE, Form("secret text")]
HttpUrl = Annotated[str, Parser(_http_url), Form("https URL; http only for loopback")]
HttpsOrigin = Annotated[
    str, Parser(_https_origin), Form("https URL without a path; http only for loopback")
]
ReturnTargets = Annotated[
    tuple[ReturnTarget, ...], Parser(_return_targets), Form("https URLs, comma-separated")
]
EgressUrl = Annotated[Secret, Parser(_egress_url), FROM_FILE, Form("http or https URL")]
RedirectUri = Annotated[str, Parser(_redirect_uri), Form("absolute URI")]
RedisUrl = Annotated[
    Secret,
    Parser(_redis_url),
    FROM_FILE,
    Form("`redis://`, `rediss://`, `unix://`; the first two also with `+sentinel` or `+cluster`"),
]
UrlPath = Annotated[str, Parser(_path), Form("path")]
Directory = Annotated[str, Parser(_directory), Form("absolute path")]
ReadableFile = Annotated[str, Parser(_readable_file), Form("file")]
UserHeader = Annotated[str, Parser(_user_header), Form("name of a header")]
Methods = Annotated[tuple[str, ...], Parser(_methods), Form("methods, comma-separated")]
KeyPrefix = Annotated[str, Parser(_key_prefix), Form("1 to 32 of `A-Za-z0-9._-`")]
SocketMode = Annotated[int, Parser(_socket_mode), Form("octal, as `0600`")]
Scopes = Annotated[str, Parser(_scopes), Form("scopes, space-separated")]
LeadSeconds = Annotated[
    float | None, Parser(_or_auto(float, 1, 86400)), Form("`auto` or 1 to 86400")
]
BrakeLimit = Annotated[
    int | None, Parser(_or_auto(int, 1, 1_000_000)), Form("`auto` or 1 to 1000000")
]

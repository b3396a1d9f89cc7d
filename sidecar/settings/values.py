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

from pydantic import PlainValidator

from sidecar.domain.addresses import HIGHEST_PORT, ListenAddress, is_loopback_host, parse_address
from sidecar.domain.secret import Secret
from sidecar.settings.forms import FROM_FILE, VISIBLE, Form, refusal, refuse_repeats, text_of

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


def _address(value: object) -> ListenAddress:
    address = parse_address(text_of(value))
    if address is None:
        raise refusal(f"must be host:port (port 0 to {HIGHEST_PORT}) or unix:/path")
    return address


def _split_url(text: str, schemes: tuple[str, ...]) -> SplitResult:
    try:
        url = urlsplit(text)
        url.port  # noqa: B018 - reading it is the check
    except ValueError:
        raise refusal("must be a URL") from None
    if url.scheme not in schemes:
        raise refusal("must begin with " + " or ".join(f"{scheme}://" for scheme in schemes))
    if not VISIBLE.fullmatch(text) or url.fragment:
        raise refusal("must be a URL without spaces and fragment")
    return url


def _http_url(value: object) -> str:
    text = text_of(value).rstrip("/")
    url = _split_url(text, ("https", "http"))
    if not url.hostname or url.query or "@" in url.netloc:
        raise refusal("must be a URL with a host and without user, query and fragment")
    if url.scheme == "http" and not is_loopback_host(url.hostname):
        raise refusal("must begin with https:// (plain http only for loopback)")
    return text


def _egress_url(value: object) -> Secret:
    text = text_of(value)
    if not _split_url(text, ("http", "https")).hostname:
        raise refusal("must be a URL with a host")
    return Secret(text)


def _redirect_uri(value: object) -> str:
    text = text_of(value)
    try:
        url = urlsplit(text)
    except ValueError:
        raise refusal("must be an absolute URI without fragment") from None
    if not url.scheme or url.fragment or not VISIBLE.fullmatch(text) or text.endswith(":"):
        raise refusal("must be an absolute URI without fragment")
    return text


def _redis_url(value: object) -> Secret:
    text = text_of(value)
    if text.startswith(("redis+sentinel://", "redis+cluster://")):
        raise refusal("Sentinel and Cluster are not supported in this release; name one server")
    url = _split_url(text, ("redis", "rediss", "unix"))
    if url.scheme == "unix":
        if not url.path.startswith("/"):
            raise refusal("must name the path of a socket: unix:///path?db=0")
    elif not url.hostname or (url.path.strip("/") and not url.path.strip("/").isdigit()):
        raise refusal("must be redis://host:port/number or rediss://host:port/number")
    return Secret(text)


def _path(value: object) -> str:
    text = text_of(value)
    if not text.startswith("/") or not VISIBLE.fullmatch(text) or set(text) & set("?#\\"):
        raise refusal("must be a path that begins with /")
    return text


def _directory(value: object) -> str:
    text = text_of(value)
    if not text.startswith("/") or "\0" in text:
        raise refusal("must be an absolute path")
    return text


def _readable_file(value: object) -> str:
    text = text_of(value)
    try:
        with Path(text).open("rb") as file:
            file.read(1)
    except (OSError, ValueError):
        raise refusal("names a file that cannot be read") from None
    return text


def _user_header(value: object) -> str:
    text = text_of(value)
    lower = text.lower()
    if not _TOKEN.fullmatch(text):
        raise refusal("must be the name of a header")
    if lower in FORBIDDEN_USER_HEADERS or lower.startswith(FORBIDDEN_USER_HEADER_PREFIXES):
        raise refusal("is a header with a meaning of its own; choose another name")
    return text


def _methods(value: object) -> tuple[str, ...]:
    methods = tuple(part.strip() for part in text_of(value).split(","))
    for method in methods:
        if not _TOKEN.fullmatch(method) or method != method.upper():
            raise refusal("must be methods in capitals, separated by commas")
        if method in FORBIDDEN_METHODS:
            raise refusal("CONNECT and TRACE are never passed on")
    refuse_repeats(methods, "the same method stands twice")
    return methods


def _key_prefix(value: object) -> str:
    text = text_of(value)
    if not _PREFIX.fullmatch(text):
        raise refusal("must be 1 to 32 of A-Z a-z 0-9 . _ -")
    return text


def _socket_mode(value: object) -> int:
    text = text_of(value)
    if not re.fullmatch(r"0?[0-7]{3}", text):
        raise refusal("must be three octal digits, as 0600")
    mode = int(text, 8)
    if not mode & stat.S_IWUSR:
        raise refusal("must let the owner write, as 0600")
    return mode


def _scopes(value: object) -> str:
    text = text_of(value)
    if not all(VISIBLE.fullmatch(part) for part in text.split(" ")) or "openid" not in text.split(
        " "
    ):
        raise refusal("must be scopes separated by one space, openid among them")
    return text


def _visible(value: object) -> str:
    text = text_of(value)
    if not VISIBLE.fullmatch(text):
        raise refusal("must be visible ASCII characters without spaces")
    return text


def _visible_secret(value: object) -> Secret:
    return Secret(_visible(value))


def _or_auto(parse: Callable[[str], float], low: float, high: float) -> Callable[[object], object]:
    def parsed(value: object) -> float | None:
        text = text_of(value)
        if text == "auto":
            return None
        try:
            number = parse(text)
        except ValueError:
            raise refusal(f"must be auto or a number from {low:g} to {high:g}") from None
        if not low <= number <= high:
            raise refusal(f"must be auto or a number from {low:g} to {high:g}")
        return number

    return parsed


Address = Annotated[ListenAddress, PlainValidator(_address), Form("`host:port` or `unix:/path`")]
Visible = Annotated[str, PlainValidator(_visible), Form("text without spaces")]
PlainSecret = Annotated[Secret, PlainValidator(_visible_secret), FROM_FILE, Form("secret text")]
HttpUrl = Annotated[str, PlainValidator(_http_url), Form("https URL; http only for loopback")]
EgressUrl = Annotated[Secret, PlainValidator(_egress_url), FROM_FILE, Form("http or https URL")]
RedirectUri = Annotated[str, PlainValidator(_redirect_uri), Form("absolute URI")]
RedisUrl = Annotated[
    Secret,
    PlainValidator(_redis_url),
    FROM_FILE,
    Form("`redis://`, `rediss://` or `unix://`"),
]
UrlPath = Annotated[str, PlainValidator(_path), Form("path")]
Directory = Annotated[str, PlainValidator(_directory), Form("absolute path")]
ReadableFile = Annotated[str, PlainValidator(_readable_file), Form("file")]
UserHeader = Annotated[str, PlainValidator(_user_header), Form("name of a header")]
Methods = Annotated[tuple[str, ...], PlainValidator(_methods), Form("methods, comma-separated")]
KeyPrefix = Annotated[str, PlainValidator(_key_prefix), Form("1 to 32 of `A-Za-z0-9._-`")]
SocketMode = Annotated[int, PlainValidator(_socket_mode), Form("octal, as `0600`")]
Scopes = Annotated[str, PlainValidator(_scopes), Form("scopes, space-separated")]
LeadSeconds = Annotated[
    float | None, PlainValidator(_or_auto(float, 1, 86400)), Form("`auto` or 1 to 86400")
]
BrakeLimit = Annotated[
    int | None, PlainValidator(_or_auto(int, 1, 1_000_000)), Form("`auto` or 1 to 1000000")
]

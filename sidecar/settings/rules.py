"""What variables must mean together; each rule sees the texts, so that all problems show at once.

A text that does not parse is the business of its own field: a rule then says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from importlib.util import find_spec
from itertools import combinations
from typing import Final

from sidecar.domain.addresses import ListenAddress, TcpAddress, parse_address
from sidecar.domain.secret import Secret
from sidecar.settings.forms import Refused
from sidecar.settings.keys import split_keys
from sidecar.settings.model import PREFIX, Settings
from sidecar.settings.reading import TRUE_TEXTS

DEFAULTS: Final = {each.name: each.default for each in fields(Settings)}
LEAST_KEEPALIVE_S: Final = 60
LISTENERS: Final = ("proxy_listen", "control_listen", "metrics_listen", "connect_listen")
CONNECT: Final = ("connect_listen", "connect_url", "connect_return_to")
CERTIFICATES: Final = (
    ("control_tls_cert", "control_tls_key"),
    ("connect_tls_cert", "connect_tls_key"),
)
TRACE_LIBRARIES: Final = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong with the environment; names a variable and never its value."""

    variable: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.variable}: {self.sentence}"


Texts = Mapping[str, str]
"""The text of each field that is set."""

Rule = Callable[[Texts], Iterator[Problem]]


def broken_rules(texts: Texts) -> Iterator[Problem]:
    """Yield what the fields of `texts` do wrong together."""
    for rule in RULES:
        yield from rule(texts)


def _proxy_is_guarded(texts: Texts) -> Iterator[Problem]:
    address = _address(texts, "proxy_listen")
    if address is None or address.is_loopback or "client_keys" in texts:
        return
    if not _is_true(texts, "allow_unauthenticated"):
        yield _problem(
            "proxy_listen",
            "listens beyond loopback without client keys; set SIDECAR_CLIENT_KEYS, "
            "or SIDECAR_ALLOW_UNAUTHENTICATED=true",
        )


def _pages_and_keys_are_guarded(texts: Texts) -> Iterator[Problem]:
    for name in ("control", "connect"):
        address = _address(texts, f"{name}_listen")
        if address is None or address.is_loopback or f"{name}_tls_cert" in texts:
            continue
        if not _is_true(texts, f"allow_plaintext_{name}"):
            variable = name.upper()
            yield _problem(
                f"{name}_listen",
                f"listens beyond loopback without TLS; set SIDECAR_{variable}_TLS_CERT and "
                f"SIDECAR_{variable}_TLS_KEY, or SIDECAR_ALLOW_PLAINTEXT_{variable}=true",
            )


def _connect_is_whole(texts: Texts) -> Iterator[Problem]:
    given = [name for name in CONNECT if name in texts]
    for name in CONNECT:
        if given and name not in given:
            yield _problem(name, f"is needed beside {PREFIX}{given[0].upper()}")


def _certificate_has_its_key(texts: Texts) -> Iterator[Problem]:
    for pair in CERTIFICATES:
        for name, other in (pair, pair[::-1]):
            if name in texts and other not in texts:
                yield _problem(other, f"is needed beside {PREFIX}{name.upper()}")


def _listeners_are_apart(texts: Texts) -> Iterator[Problem]:
    for first, second in combinations(LISTENERS, 2):
        one, other = _address(texts, first), _address(texts, second)
        if one is None or one != other:
            continue
        if not (isinstance(one, TcpAddress) and one.port == 0):
            yield _problem(second, f"is the address of {PREFIX}{first.upper()} too")


def _clients_hold_no_control_key(texts: Texts) -> Iterator[Problem]:
    if _keys(texts, "client_keys") & _keys(texts, "control_keys"):
        yield _problem("control_keys", f"shares a key with {PREFIX}CLIENT_KEYS")


def _keep_alive_has_a_schedule(texts: Texts) -> Iterator[Problem]:
    try:
        keepalive_s = float(texts.get("keepalive_s", "0"))
    except ValueError:
        return
    if keepalive_s <= 0:
        return
    if keepalive_s < LEAST_KEEPALIVE_S:
        yield _problem("keepalive_s", f"must be 0 or at least {LEAST_KEEPALIVE_S}")
    if texts.get("refresh_ahead") == "off":
        yield _problem(
            "keepalive_s", f"keeps nothing alive beside {PREFIX}REFRESH_AHEAD=off; choose one"
        )


def _traces_have_their_library(texts: Texts) -> Iterator[Problem]:
    if texts.get("traces") != "otlp":
        return
    if not all(_is_installed(name) for name in TRACE_LIBRARIES):
        yield _problem(
            "traces", "needs the extra otel: pip install 'akoya-sidecar[otel]', or set it to off"
        )


RULES: Final[tuple[Rule, ...]] = (
    _proxy_is_guarded,
    _pages_and_keys_are_guarded,
    _connect_is_whole,
    _certificate_has_its_key,
    _listeners_are_apart,
    _clients_hold_no_control_key,
    _keep_alive_has_a_schedule,
    _traces_have_their_library,
)


def _problem(field: str, sentence: str) -> Problem:
    return Problem(variable=PREFIX + field.upper(), sentence=sentence)


def _address(texts: Texts, name: str) -> ListenAddress | None:
    default = DEFAULTS[name]
    return parse_address(texts.get(name) or ("" if default is None else str(default)))


def _is_true(texts: Texts, field: str) -> bool:
    return texts.get(field, "").lower() in TRUE_TEXTS


def _keys(texts: Texts, field: str) -> frozenset[Secret]:
    if field not in texts:
        return frozenset()
    try:
        return frozenset(named.key for named in split_keys(texts[field]))
    except Refused:
        return frozenset()


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # a package around it is missing
        return False

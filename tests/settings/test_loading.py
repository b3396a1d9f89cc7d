from __future__ import annotations

import itertools
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from sidecar.domain.addresses import TcpAddress, UnixAddress
from sidecar.domain.secret import Secret
from sidecar.settings import Problem, Settings, load
from tests.support.environment import CANARY, encoded_key, good_environment


def loaded(**changes: str) -> Settings:
    settings = load(good_environment(**changes))
    assert isinstance(settings, Settings), settings
    return settings


def told(**changes: str) -> list[str]:
    problems = load(good_environment(**changes))
    assert isinstance(problems, tuple), "these settings were accepted"
    return [str(problem) for problem in problems]


def test_the_least_environment_gives_the_documented_defaults() -> None:
    """Whoever sets the required variables alone gets what the reference page promises."""
    settings = loaded()

    assert settings.proxy_listen == TcpAddress(host="127.0.0.1", port=8080)
    assert settings.control_listen == TcpAddress(host="127.0.0.1", port=8081)
    assert settings.metrics_listen == TcpAddress(host="0.0.0.0", port=9464)  # noqa: S104
    assert settings.redis_url == Secret("redis://127.0.0.1:6379/0")
    assert settings.methods == ("GET", "POST")
    assert settings.refresh_lead_s is None
    assert settings.brake_limit is None
    assert settings.socket_mode == 0o600
    assert (settings.idp_connect_timeout_s, settings.idp_timeout_s) == (5, 15)
    assert (settings.upstream_connect_timeout_s, settings.upstream_timeout_s) == (5, 30)
    assert (settings.refresh_wait_s, settings.drain_timeout_s) == (10, 100)
    assert (settings.max_in_flight, settings.replay_body_max_bytes) == (1000, 65536)


def test_the_environment_of_akoya_chooses_both_hosts_and_each_can_be_overridden() -> None:
    """One variable moves a fleet from the sandbox to production; a URL of one's own wins."""
    production = loaded(AKOYA_ENVIRONMENT="production", IDP_URL="http://127.0.0.1:9/idp/")

    assert loaded().effective_idp_url == "https://sandbox-idp.ddp.akoya.com"
    assert loaded().effective_products_url == "https://sandbox-products.ddp.akoya.com"
    assert production.effective_products_url == "https://products.ddp.akoya.com"
    assert production.effective_idp_url == "http://127.0.0.1:9/idp"


def test_keys_addresses_and_numbers_become_values() -> None:
    """A text is parsed once; nothing below the settings splits or converts it again."""
    settings = loaded(
        ENCRYPTION_KEYS=f"new:{encoded_key('n')}, old.1:{encoded_key('o')}",
        CLIENT_KEYS="a:" + "k" * 32,
        PROXY_LISTEN="[::1]:0",
        CONTROL_LISTEN="unix:/run/control.sock",
        REFRESH_LEAD_S="90",
        SOCKET_MODE="0660",
        METHODS="GET, PUT",
    )

    assert [(key.key_id, key.key) for key in settings.encryption_keys] == [
        ("new", b"n" * 32),
        ("old.1", b"o" * 32),
    ]
    assert settings.client_keys[0].name == "a"
    assert settings.client_keys[0].key == Secret("k" * 32)
    assert settings.proxy_listen == TcpAddress(host="::1", port=0)
    assert settings.control_listen == UnixAddress(path="/run/control.sock")
    assert (settings.refresh_lead_s, settings.socket_mode) == (90, 0o660)
    assert settings.methods == ("GET", "PUT")


def test_settings_show_no_secret_and_cannot_be_changed() -> None:
    """Printing the settings, in a log or a debugger, tells no key."""
    settings = loaded(
        REDIS_URL=f"redis://:{CANARY}@127.0.0.1/0",
        EGRESS_PROXY=f"http://u:{CANARY}@127.0.0.1:3128",
        CLIENT_KEYS=f"a:{CANARY}{'k' * 32}",
    )

    shown = f"{settings!r} {settings} {settings.encryption_keys} {settings.control_keys}"
    assert CANARY not in shown
    assert encoded_key("h") not in shown
    assert "hhhh" not in shown
    assert "eeee" not in shown
    with pytest.raises(FrozenInstanceError):
        settings.max_in_flight = 1  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("AKOYA_CLIENT_ID", "", "is required"),
        ("AKOYA_CLIENT_SECRET", f"{CANARY} x", "must be visible ASCII characters without spaces"),
        ("AKOYA_ENVIRONMENT", CANARY, "must be 'sandbox' or 'production'"),
        ("IDP_URL", f"http://{CANARY}.example", "must begin with https:// (plain http only"),
        ("IDP_URL", f"ftp://{CANARY}", "must begin with https:// or http://"),
        ("PRODUCTS_URL", f"https://u:{CANARY}@h", "without user, query and fragment"),
        ("PRODUCTS_URL", f"https://h:{CANARY}", "must be a URL"),
        ("REDIRECT_URI", CANARY, "must be an absolute URI"),
        ("REVOKE_PATH", CANARY, "must be a path that begins with /"),
        ("SCOPES", CANARY, "openid among them"),
        ("REFRESH_AUTH", CANARY, "must be 'body' or 'basic'"),
        ("IDP_CONNECT_TIMEOUT_S", "9", "must be less than or equal to 7"),
        ("IDP_TIMEOUT_S", "nan", "must be a finite number"),
        ("REDIS_URL", f"redis+sentinel://{CANARY}:1", "must be redis+sentinel://host:port,host"),
        ("REDIS_URL", f"redis+cluster://{CANARY}/1", "must be redis+cluster://host:port,host"),
        ("REDIS_URL", f"http://{CANARY}", "must begin with one of redis://, rediss://, unix://"),
        ("REDIS_URL", f"redis://h/{CANARY}", "must be redis://host:port/number"),
        ("REDIS_PREFIX", "{x}", "must be 1 to 32 of"),
        ("ENCRYPTION_KEYS", f"k1:{CANARY}", "must hold 32 bytes in base64"),
        ("ENCRYPTION_KEYS", f"k|1:{encoded_key('e')}", "must be kid:base64key"),
        (
            "ENCRYPTION_KEYS",
            f"k:{encoded_key('e')},k:{encoded_key('f')}",
            "the same key id stands twice",
        ),
        (
            "ENCRYPTION_KEYS",
            f"k:{encoded_key('e')},l:{encoded_key('e')}",
            "the same key stands twice",
        ),
        ("HASH_KEY", CANARY, "must hold 32 bytes in base64"),
        ("SPOOL_DIR", "spool", "must be an absolute path"),
        ("PROXY_LISTEN", "8080", "must be host:port"),
        ("PROXY_LISTEN", "127.0.0.1:65536", "must be host:port"),
        ("METRICS_LISTEN", "unix:relative", "must be host:port"),
        ("SOCKET_MODE", "999", "must be three octal digits"),
        ("CONTROL_KEYS", f"ops:{CANARY}", "keys must have at least 32 characters"),
        ("CONTROL_KEYS", CANARY + "c" * 32, "must be name:key"),
        (
            "CLIENT_KEYS",
            f"a:{'k' * 32},a:{'l' * 32}",
            "the same name stands twice",
        ),
        ("CLIENT_KEYS", f"a:{'k' * 32},b:{'k' * 32}", "the same key stands twice"),
        ("CONTROL_TLS_CERT", "/nowhere/cert.pem", "names a file that cannot be read"),
        ("ALLOW_UNAUTHENTICATED", CANARY, "must be true or false"),
        ("REFRESH_AHEAD", CANARY, "must be 'active', 'all' or 'off'"),
        ("REFRESH_LEAD_S", CANARY, "must be auto or a number from 1 to 86400"),
        ("REFRESH_LEAD_S", "nan", "must be auto or a number from 1 to 86400"),
        ("BRAKE_LIMIT", "1.5", "must be auto or a number"),
        ("PROBE_POLICY", CANARY, "must be 'after_hold', 'owner_only' or 'manual'"),
        ("USER_HEADER", "Cookie", "is a header with a meaning of its own"),
        ("USER_HEADER", "X-Forwarded-User", "is a header with a meaning of its own"),
        ("USER_HEADER", "two words", "must be the name of a header"),
        ("METHODS", "get", "must be methods in capitals"),
        ("METHODS", "GET,CONNECT", "CONNECT and TRACE are never passed on"),
        ("MAX_REQUEST_BYTES", "1.5", "must be a whole number"),
        ("MAX_IN_FLIGHT", "0", "must be greater than or equal to 1"),
        ("UPSTREAM_RETRIES", "4", "must be less than or equal to 3"),
        ("UPSTREAM_TIMEOUT_S", CANARY, "must be a number"),
        ("EGRESS_PROXY", f"socks5://{CANARY}", "must begin with http:// or https://"),
        ("CA_FILE", "/nowhere/ca.pem", "names a file that cannot be read"),
        ("LOG_LEVEL", CANARY, "must be 'debug', 'info', 'warning' or 'error'"),
    ],
)
def test_a_wrong_value_is_told_by_its_variable_and_never_repeated(
    name: str, value: str, sentence: str
) -> None:
    """An operator learns which variable is wrong and what it accepts; a log learns no secret."""
    lines = told(**{name: value})

    assert any(line.startswith(f"SIDECAR_{name}: ") and sentence in line for line in lines), lines
    assert len([line for line in lines if line.startswith(f"SIDECAR_{name}: ")]) == 1
    assert CANARY not in "\n".join(lines)


def test_an_unknown_name_is_told_with_a_suggestion() -> None:
    """A misspelt variable does not silently leave its default in place."""
    assert told(UPSTRAEM_TIMEOUT_S="3") == [
        (
            "SIDECAR_UPSTRAEM_TIMEOUT_S: is no setting of the sidecar; "
            "did you mean SIDECAR_UPSTREAM_TIMEOUT_S?"
        )
    ]
    assert told(AKOYA_CLIENT_SECRET_FIEL="x")[0].endswith("SIDECAR_AKOYA_CLIENT_SECRET_FILE?")


def test_what_kubernetes_injects_for_a_service_named_sidecar_is_no_mistake() -> None:
    """A pod beside a Service of this name starts all the same."""
    settings = loaded(
        SERVICE_HOST="10.0.0.1",
        SERVICE_PORT_HTTP="80",
        PORT="tcp://10.0.0.1:80",
        PORT_80_TCP_ADDR="10.0.0.1",
    )

    assert settings.akoya_client_id == "app-1"


@pytest.mark.parametrize(
    "name",
    [
        "AKOYA_CLIENT_SECRET",
        "REDIS_URL",
        "ENCRYPTION_KEYS",
        "HASH_KEY",
        "CLIENT_KEYS",
        "CONTROL_KEYS",
        "EGRESS_PROXY",
    ],
)
def test_every_secret_can_come_from_a_file_whose_last_line_break_is_dropped(
    name: str, tmp_path: Path
) -> None:
    """A mounted secret works as the variable does, however it was written."""
    values = good_environment(
        REDIS_URL="rediss://u:p@redis:6380/1",
        CLIENT_KEYS="a:" + "k" * 32,
        EGRESS_PROXY="http://127.0.0.1:3128",
    )
    file = tmp_path / "secret"
    file.write_text(values[f"SIDECAR_{name}"] + "\r\n")
    environment = dict(values)
    del environment[f"SIDECAR_{name}"]

    from_file = load(environment | {f"SIDECAR_{name}_FILE": str(file)})

    assert from_file == load(values)


def test_a_secret_given_twice_or_in_an_unreadable_file_is_one_problem(tmp_path: Path) -> None:
    """Nobody has to guess which of two values counted, or why a required one is missing."""
    (tmp_path / "empty").write_text("")
    file = tmp_path / "secret"
    file.write_text(encoded_key("h"))
    without = good_environment()
    del without["SIDECAR_HASH_KEY"]

    twice = told(HASH_KEY_FILE=str(file))
    unreadable = load(without | {"SIDECAR_HASH_KEY_FILE": str(tmp_path / "nothing")})
    empty = load(without | {"SIDECAR_HASH_KEY_FILE": str(tmp_path / "empty")})

    sentence = "names a file that is empty, too large or cannot be read"
    problem = (Problem(variable="SIDECAR_HASH_KEY_FILE", sentence=sentence),)
    assert twice == ["SIDECAR_HASH_KEY: is set and so is SIDECAR_HASH_KEY_FILE"]
    assert unreadable == problem
    assert empty == problem


@pytest.mark.parametrize("content", ["\n", "\r\n", "\n\n"])
@pytest.mark.parametrize("name", ["CLIENT_KEYS", "EGRESS_PROXY", "CONTROL_KEYS", "HASH_KEY"])
def test_a_file_of_line_ends_alone_is_a_problem_and_not_no_secret(
    name: str, content: str, tmp_path: Path
) -> None:
    """A template without its value must not open the proxy to everyone, at a start or a reload."""
    file = tmp_path / "secret"
    file.write_text(content, newline="")
    environment = good_environment()
    environment.pop(f"SIDECAR_{name}", None)

    problems = load(environment | {f"SIDECAR_{name}_FILE": str(file)})

    sentence = "names a file that is empty, too large or cannot be read"
    assert problems == (Problem(variable=f"SIDECAR_{name}_FILE", sentence=sentence),)


def test_what_is_no_secret_has_no_file() -> None:
    """`_FILE` on any other variable is a name that does not exist."""
    assert told(LOG_LEVEL_FILE="/etc/level")[0].startswith("SIDECAR_LOG_LEVEL_FILE: is no setting")


def test_a_proxy_beyond_loopback_wants_client_keys_or_the_dangerous_word() -> None:
    """Nobody opens every user's data to a network by changing one address."""
    keys = "a:" + "k" * 32

    assert "without client keys" in told(PROXY_LISTEN="0.0.0.0:8080")[0]
    assert "without client keys" in told(PROXY_LISTEN="sidecar.internal:8080")[0]
    assert loaded(PROXY_LISTEN="0.0.0.0:8080", CLIENT_KEYS=keys).client_keys
    assert loaded(PROXY_LISTEN="0.0.0.0:8080", ALLOW_UNAUTHENTICATED="true").allow_unauthenticated
    assert loaded(PROXY_LISTEN="unix:/run/p.sock").proxy_listen == UnixAddress(path="/run/p.sock")
    assert loaded(PROXY_LISTEN="127.0.0.9:8080").proxy_listen.is_loopback


def test_a_control_listener_beyond_loopback_wants_tls_or_the_dangerous_word(
    tmp_path: Path,
) -> None:
    """A control key does not cross a network in the clear by accident."""
    pem = tmp_path / "pem"
    pem.write_text("PEM")

    assert "without TLS" in told(CONTROL_LISTEN="0.0.0.0:8081")[0]
    open_address = "0.0.0.0:8081"
    assert loaded(CONTROL_LISTEN=open_address, ALLOW_PLAINTEXT_CONTROL="1").allow_plaintext_control
    with_tls = loaded(
        CONTROL_LISTEN=open_address, CONTROL_TLS_CERT=str(pem), CONTROL_TLS_KEY=str(pem)
    )
    assert with_tls.control_tls_cert == str(pem)
    assert told(CONTROL_TLS_CERT=str(pem)) == [
        "SIDECAR_CONTROL_TLS_KEY: is needed beside SIDECAR_CONTROL_TLS_CERT"
    ]


def test_listeners_do_not_share_an_address_unless_the_kernel_picks_the_port() -> None:
    """Two listeners on one address are told at once and not by a bind error later."""
    assert told(CONTROL_LISTEN="127.0.0.1:8080") == [
        "SIDECAR_CONTROL_LISTEN: is the address of SIDECAR_PROXY_LISTEN too"
    ]
    picked = loaded(PROXY_LISTEN="127.0.0.1:0", CONTROL_LISTEN="127.0.0.1:0")
    assert picked.proxy_listen == picked.control_listen


def test_a_client_key_is_no_control_key() -> None:
    """A microservice that may fetch data may not revoke grants with the same key."""
    key = "k" * 40

    assert told(CLIENT_KEYS=f"a:{key}", CONTROL_KEYS=f"ops:{key}") == [
        "SIDECAR_CONTROL_KEYS: shares a key with SIDECAR_CLIENT_KEYS"
    ]


def test_problems_of_values_and_of_their_sum_come_together_in_the_order_of_the_page() -> None:
    """One run of check-config is enough, whatever the number of mistakes."""
    lines = told(
        LOG_LEVEL=CANARY, PROXY_LISTEN="0.0.0.0:8080", AKOYA_CLIENT_ID="", NO_SUCH="1", METHODS="x"
    )

    names = [line.partition(":")[0] for line in lines]
    assert names == [
        "SIDECAR_AKOYA_CLIENT_ID",
        "SIDECAR_PROXY_LISTEN",
        "SIDECAR_METHODS",
        "SIDECAR_LOG_LEVEL",
        "SIDECAR_NO_SUCH",
    ]


@pytest.mark.parametrize("text", ["true", "TRUE", "1", "yes", "on"])
def test_a_switch_can_be_written_as_people_write_it(text: str) -> None:
    """Whatever turns a switch on turns it on for the rule that asks for it too."""
    settings = loaded(ALLOW_UNAUTHENTICATED=text, PROXY_LISTEN="0.0.0.0:1")

    assert settings.allow_unauthenticated is True
    assert loaded(ALLOW_UNAUTHENTICATED="off").allow_unauthenticated is False


def test_whole_numbers_and_spans_have_their_types() -> None:
    """A count is an int and a span a float, whichever way it was written."""
    settings = loaded(MAX_IN_FLIGHT="7", REFRESH_WAIT_S="3")

    assert (settings.max_in_flight, settings.refresh_wait_s) == (7, 3.0)
    assert isinstance(settings.max_in_flight, int)
    assert isinstance(settings.refresh_wait_s, float)


def test_an_empty_value_counts_as_not_set() -> None:
    """A compose file may pass on a variable that its user left empty."""
    assert loaded(REDIRECT_URI="", REFRESH_WAIT_S="", CLIENT_KEYS="").refresh_wait_s == 10


def test_no_two_spellings_of_loopback_are_missed() -> None:
    """What only this machine can reach needs no client keys, however it is written."""
    hosts = ("localhost", "127.0.0.1", "127.1.2.3", "[::1]")

    for host, port in itertools.product(hosts, (1, 65535)):
        assert loaded(PROXY_LISTEN=f"{host}:{port}").proxy_listen.is_loopback


def test_keep_alive_needs_a_schedule_and_a_sane_span() -> None:
    """A keep-alive that would do nothing, or rotate tokens every second, is told at the start."""
    assert loaded(KEEPALIVE_S="86400", REFRESH_AHEAD="all").keepalive_s == 86400
    assert loaded(REFRESH_AHEAD="off", KEEPALIVE_S="0").keepalive_s == 0
    assert told(KEEPALIVE_S="86400", REFRESH_AHEAD="off") == [
        "SIDECAR_KEEPALIVE_S: keeps nothing alive beside SIDECAR_REFRESH_AHEAD=off; choose one"
    ]
    assert told(KEEPALIVE_S="1") == ["SIDECAR_KEEPALIVE_S: must be 0 or at least 60"]


@pytest.mark.parametrize("missing", ["opentelemetry", "opentelemetry.exporter.otlp.proto.http"])
def test_traces_without_their_library_are_refused(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The extra `otel` is named, before anything starts; with it, the same is accepted."""
    assert loaded(TRACES="otlp").traces == "otlp"

    for name in [name for name in sys.modules if name.startswith("opentelemetry")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)

    assert told(TRACES="otlp") == [
        "SIDECAR_TRACES: needs the extra otel: pip install 'akoya-sidecar[otel]', or set it to off"
    ]
    assert loaded().traces == "off"

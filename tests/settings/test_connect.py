"""What the variables of consent in the browser must be, alone and together."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from sidecar.domain.return_targets import is_return_to
from sidecar.settings import Settings, load
from tests.support.environment import good_environment

WHOLE: Final = {
    "CONNECT_LISTEN": "127.0.0.1:8082",
    "CONNECT_URL": "https://connect.example",
    "CONNECT_RETURN_TO": "https://app.example/banks, http://localhost:3000",
}


def told(**changes: str) -> list[str]:
    problems = load(good_environment(**changes))
    assert not isinstance(problems, Settings)
    return [str(problem) for problem in problems]


def loaded(**changes: str) -> Settings:
    settings = load(good_environment(**changes))
    assert isinstance(settings, Settings), settings
    return settings


def test_consent_in_the_browser_is_off_until_it_is_wanted() -> None:
    """Nobody opens a listener to the world by upgrading."""
    settings = loaded()

    assert (settings.connect_listen, settings.connect_url) == (None, None)
    assert settings.connect_return_to == ()


def test_a_whole_set_of_variables_turns_it_on() -> None:
    """Address, public origin and allow-list; blanks after a comma do not matter."""
    settings = loaded(**WHOLE)

    assert str(settings.connect_listen) == "127.0.0.1:8082"
    assert settings.connect_url == "https://connect.example"
    assert is_return_to("https://app.example/banks/done", settings.connect_return_to)
    assert is_return_to("http://localhost:3000/done", settings.connect_return_to)
    assert not is_return_to("https://app.example/", settings.connect_return_to)


@pytest.mark.parametrize("missing", WHOLE)
def test_one_of_them_alone_is_a_mistake(missing: str) -> None:
    """Half a configuration is told at the start, by the variable that is missing."""
    given = {name: value for name, value in WHOLE.items() if name != missing}
    first = next(iter(given))

    assert told(**given) == [f"SIDECAR_{missing}: is needed beside SIDECAR_{first}"]


@pytest.mark.parametrize(
    "value",
    [
        "http://connect.example",
        "https://connect.example/path",
        "https://connect.example?x=1",
        "https://user@connect.example",
        "connect.example",
    ],
)
def test_the_public_address_is_an_https_origin(value: str) -> None:
    """Browsers keep the cookie for https and for a whole host only."""
    (problem,) = told(**WHOLE | {"CONNECT_URL": value})

    assert problem.startswith("SIDECAR_CONNECT_URL: must ")
    assert value not in problem


def test_on_loopback_the_public_address_may_be_plain() -> None:
    """A developer's browser treats loopback as safe."""
    assert loaded(**WHOLE | {"CONNECT_URL": "http://localhost:8082/"}).connect_url == (
        "http://localhost:8082"
    )


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("https://app.example,", "must be https URLs"),
        ("http://app.example", "must be https URLs"),
        ("https://*.app.example", "must be https URLs"),
        ("https://app.example/?next=", "must be https URLs"),
        ("https://app.example,https://app.example:443/", "the same URL stands twice"),
    ],
)
def test_the_allow_list_is_of_plain_https_urls(value: str, sentence: str) -> None:
    """What could be read in two ways is refused at the start, not at a user's expense."""
    (problem,) = told(**WHOLE | {"CONNECT_RETURN_TO": value})

    assert problem.startswith(f"SIDECAR_CONNECT_RETURN_TO: {sentence}")


def test_beyond_loopback_it_wants_tls_or_the_dangerous_word(tmp_path: Path) -> None:
    """Cookies and codes do not cross a network in the clear by accident."""
    pem = tmp_path / "pem"
    pem.write_text("PEM")
    beyond = WHOLE | {"CONNECT_LISTEN": "0.0.0.0:8082"}

    assert "without TLS" in told(**beyond)[0]
    assert loaded(**beyond, ALLOW_PLAINTEXT_CONNECT="true").allow_plaintext_connect
    assert loaded(
        **beyond, CONNECT_TLS_CERT=str(pem), CONNECT_TLS_KEY=str(pem)
    ).connect_tls_cert == str(pem)
    assert told(**beyond, CONNECT_TLS_CERT=str(pem)) == [
        "SIDECAR_CONNECT_TLS_KEY: is needed beside SIDECAR_CONNECT_TLS_CERT"
    ]


def test_it_has_an_address_of_its_own() -> None:
    """What the world reaches is not the grants API."""
    assert told(**WHOLE | {"CONNECT_LISTEN": "127.0.0.1:8081"}) == [
        "SIDECAR_CONNECT_LISTEN: is the address of SIDECAR_CONTROL_LISTEN too"
    ]

from __future__ import annotations

import pytest

from sidecar.domain.return_targets import is_return_to, parse_return_target, with_outcome

TARGETS = [
    target
    for text in ("https://app.example/banks", "https://other.example", "http://localhost:3000/")
    if (target := parse_return_target(text)) is not None
]


@pytest.mark.parametrize(
    "url",
    [
        "https://app.example/banks",
        "https://app.example/banks/",
        "https://app.example/banks/done/now?session=s-1&next=%2Fhome",
        "https://app.example:443/banks",
        "https://APP.example/banks/a%20b",
        "https://other.example",
        "https://other.example/",
        "https://other.example/anywhere?x",
        "http://localhost:3000",
        "http://localhost:3000/done",
    ],
)
def test_a_target_allows_itself_and_what_lies_below(url: str) -> None:
    """An origin is compared as origins are, and a path by its segments."""
    assert is_return_to(url, TARGETS)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/banks",
        "//app.example/banks",
        "///app.example/banks",
        "https:app.example/banks",
        "https:/app.example/banks",
        "https:\\\\app.example/banks",
        "https://app.example\\@evil.example/banks",
        "https://app.example@evil.example/banks",
        "https://user@app.example/banks",
        "https://user:word@app.example/banks",
        "https://app.example.evil.example/banks",
        "https://evil.example/https://app.example/banks",
        "https://evil.example#https://app.example/banks",
        "https://evil.example?https://app.example/banks",
        "https://evilapp.example/banks",
        "https://app.example./banks",
        "https://app.example:444/banks",
        "https://app.example:0443/banks",
        "https://app.example:/banks",
        "https://app.example:99999/banks",
        "https://app%2eexample/banks",
        "https://äpp.example/banks",
        "https://app.example/bank",
        "https://app.example/banks-of-others",
        "https://app.example/Banks",
        "https://app.example/",
        "https://app.example/banks/../admin",
        "https://app.example/banks/..",
        "https://app.example/banks/./x",
        "https://app.example/banks/%2e%2e/admin",
        "https://app.example/banks/%2E./admin",
        "https://app.example/banks/..%2fadmin",
        "https://app.example/banks/%5c..%5cadmin",
        "https://app.example/banks/%252e%252e/admin",
        "https://app.example/banks//evil.example",
        "https://app.example//banks",
        "https://app.example/banks/\\evil.example",
        "https://app.example/banks/%0d%0aSet-Cookie:x",
        "https://app.example/banks/%00",
        "https://app.example/banks\r\nSet-Cookie: x",
        "https://app.example/banks x",
        " https://app.example/banks",
        "https://app.example/banks\n",
        "https://app.example/banks#fragment",
        "https://app.example/banks/%zz",
        "https://app.example/banks?x=<script>",
        "https://app.example/banks?outcome=connected",
        "https://app.example/banks?a=b&outcome",
        "http://app.example/banks",
        "http://other.example/",
        "http://localhost/done",
        "http://localhost:30000/done",
        "https://localhost:3000/done",
        "javascript://app.example/banks",
        "JavaScript:alert(1)",
        "data:text/html,x",
        "https://app.example/banks/" + "x" * 2048,
    ],
)
def test_nothing_else_is_allowed_however_it_is_spelled(url: str) -> None:
    """No spelling leads to another host, or out of the path, in any browser's reading."""
    assert not is_return_to(url, TARGETS)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "app.example",
        "http://app.example",
        "https://app.example/?x=1",
        "https://app.example/#x",
        "https://user@app.example",
        "https://*.app.example",
        "https://app.example/a/../b",
        "https://app.example:70000",
        "ftp://app.example",
    ],
)
def test_an_entry_of_the_list_is_one_plain_https_url(text: str) -> None:
    """An operator cannot allow more by a slip than one origin and a path."""
    assert parse_return_target(text) is None


def test_entries_that_allow_the_same_are_equal() -> None:
    """A port that goes without saying, and a slash at the end, make no difference."""
    one = parse_return_target("https://App.example:443/banks/")

    assert one is not None
    assert one == parse_return_target("https://app.example/banks")


def test_loopback_may_be_an_address_of_version_6() -> None:
    """A developer's own machine is reached without TLS, whatever it is called."""
    target = parse_return_target("http://[::1]:3000")

    assert target is not None
    assert is_return_to("http://[::1]:3000/done", [target])


def test_the_outcome_is_one_more_parameter() -> None:
    """The app finds its own parameters as it gave them."""
    assert with_outcome("https://a.example/x", "denied") == "https://a.example/x?outcome=denied"
    assert with_outcome("https://a.example?s=1", "denied") == "https://a.example?s=1&outcome=denied"

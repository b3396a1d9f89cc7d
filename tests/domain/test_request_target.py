from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sidecar.domain.request_target import PRODUCTS, Refused, Target, parse_target
from sidecar.domain.tokens import ProblemReason


@pytest.mark.parametrize(
    ("raw", "product", "provider"),
    [
        ("/balances/v2/mikomo", "balances", "mikomo"),
        ("/balances/v2/mikomo?", "balances", "mikomo"),
        ("/tax-forms/v3/mikomo/abc?x=%2e%2e/%2f//..#".removesuffix("#"), "tax-forms", "mikomo"),
        ("/statements/v2/mikomo/a%20b/", "statements", "mikomo"),
        ("/statements/v2/mikomo/.hidden/a..b/c.", "statements", "mikomo"),
        ("/payments/v2/mikomo/a%2Eb", "payments", "mikomo"),
        ("/transactions/v3/mikomo/a%2Fb", "transactions", "mikomo"),
        ("/statements/v2/mikomo/a%2fb%2Fc/d", "statements", "mikomo"),
        ("/unheard-of/v9/bank_1", "other", "bank_1"),
    ],
)
def test_a_data_path_names_product_and_provider(raw: str, product: str, provider: str) -> None:
    """A path is read into a label and a provider, and stays as it came."""
    assert parse_target(raw) == Target(raw=raw, product=product, provider=provider)


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "*",
        "/",
        "/balances",
        "/balances/v2",
        "/balances/v2/",
        "balances/v2/mikomo",
        "http://evil.example/balances/v2/mikomo",
        "evil.example:443",
        "//evil.example/v2/mikomo",
        "/balances/v2//mikomo",
        "/balances/v2/mikomo//a",
        "/balances/v2/..",
        "/balances/v2/../mikomo",
        "/balances/v2/mikomo/..",
        "/balances/v2/mikomo/../a",
        "/balances/v2/mikomo/..;x=1/a",
        "/balances/v2/mikomo/.",
        "/./balances/v2/mikomo",
        "/balances/v2/mikomo/%2e%2E/a",
        "/balances/v2/mikomo/.%2e",
        "/balances/v2/mikomo/%2e",
        "/balances/v2/mikomo%2fa",
        "/balances/v2%2fmikomo/a",
        "/balances%2Fv2/v2/mikomo",
        "/balances/v2/mikomo/%2Fa",
        "/balances/v2/mikomo/a%2F/b",
        "/balances/v2/mikomo/a%2f%2Fb",
        "/balances/v2/mikomo/a%2f..",
        "/balances/v2/mikomo/a%2F%2e%2E%2fb",
        "/balances/v2/mikomo/..%2fb",
        "/balances/v2/mikomo/a%5cb",
        "/balances/v2/mikomo/a\\b",
        "/balances/v2/mikomo/%00",
        "/balances/v2/mikomo/%0d%0a",
        "/balances/v2/mikomo/%7f",
        "/balances/v2/mikomo/%zz",
        "/balances/v2/mikomo/%2",
        "/balances/v2/mikomo/%",
        "/balances/v2/mikomo/a b",
        "/balances/v2/mikomo/a\tb",
        "/balances/v2/mikomo/a\x7f",
        "/balances/v2/mikomo/é",
        "/balances/v2/mikomo#a",
        "/balances/v2/mikomo?a#b",
        "/balances/v2/mikomo?é",
        "/balances/v2/mik%6fmo",
        "/balances/v2/mik:omo",
        f"/balances/v2/{'a' * 129}",
    ],
)
def test_a_path_with_two_readings_is_refused(raw: str) -> None:
    """Whatever a later hop could resolve to another path is refused, never normalised."""
    assert parse_target(raw) == Refused(reason=ProblemReason.PATH_INVALID)


@given(st.text(alphabet="/.%2eEfF5cC;?#\\ a\x00", max_size=24))
def test_no_accepted_path_has_a_dot_segment_even_after_decoding(tail: str) -> None:
    """Decoding an accepted path once gives no other provider, no empty or dot segment."""
    target = parse_target(f"/balances/v2/mikomo/{tail}")

    assume(isinstance(target, Target))  # Hypothesis fails if too few are
    assert isinstance(target, Target)
    path = target.raw.partition("?")[0]
    decoded = path
    for octet in range(128):
        decoded = decoded.replace(f"%{octet:02x}", chr(octet)).replace(f"%{octet:02X}", chr(octet))
    assert decoded.split("/")[:4] == path.split("/")[:4] == ["", "balances", "v2", "mikomo"]
    assert "//" not in decoded
    assert "\\" not in decoded
    assert not {".", ".."} & set(decoded.split("/"))


def test_the_products_are_akoyas_ten() -> None:
    """The label of a product comes from a closed set."""
    assert len(PRODUCTS) == 10
    assert {parse_target(f"/{name}/v2/mikomo").product for name in PRODUCTS} == PRODUCTS  # type: ignore[union-attr]

"""Every data product answers in its documented shape, the listings page to their end."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.sandbox.driver import NOON, V3

if TYPE_CHECKING:
    from tests.sandbox.driver import AppDriver, Pair

_CHECKING = "g833202fb0866d0ad83472c429"
_WRAPPERS = {
    "depositAccount", "investmentAccount", "loanAccount", "locAccount", "insuranceAccount",
    "annuityAccount",
}  # fmt: skip


def _check_pdf(raw: bytes) -> None:
    """Follow a PDF from its end as a reader does: table, trailer, and each object in its place."""
    assert raw.startswith(b"%PDF-1.")
    assert raw.endswith(b"%%EOF\n")
    end = re.search(rb"startxref\n(\d+)\n%%EOF\n\Z", raw)
    assert end is not None
    table = raw[int(end[1]) :]
    head = re.match(rb"xref\n0 (\d+)\n", table)
    assert head is not None
    entries = [table[head.end() + 20 * row :][:20] for row in range(int(head[1]))]
    assert entries[0] == b"0000000000 65535 f \n"
    for number, entry in enumerate(entries[1:], start=1):
        assert re.fullmatch(rb"\d{10} 00000 n \n", entry)
        assert raw[int(entry[:10]) :].startswith(b"%d 0 obj\n" % number)
    stream = re.search(rb"/Length (\d+) >>\nstream\n(.*?)endstream", raw, re.DOTALL)
    assert stream is not None
    assert len(stream[2]) == int(stream[1])


async def _all_pages(app: AppDriver, pair: Pair, path: str, name: str) -> list[Any]:
    items: list[Any] = []
    following: str | None = path
    while following is not None:
        page = await app.get(following, pair)
        assert page.status == 200, page.json
        items += page.json[name]
        following = page.json.get("links", {}).get("next", {}).get("href")
    return items


@pytest.mark.parametrize(("version", "headers"), [("v2", {}), ("v3", V3)])
async def test_every_product_answers_in_both_versions(
    app: AppDriver, version: str, headers: dict[str, str]
) -> None:
    """Each documented path answers 200 with its documented members."""
    pair = await app.connect("mikomo_7")
    at = f"{version}/mikomo"
    savings, brokerage = "33fbd9e5-9cc3-3d7d-15b3-70d97d87ca1d", "5426873"
    detail = await app.get(f"/accounts/{at}?accountIds={brokerage}", pair, **headers)
    holding = detail.json["accounts"][0]["investmentAccount"]["holdings"][0]["holdingId"]
    members = {
        f"/accounts-info/{at}": {"accounts"},
        f"/balances/{at}?mode=standard": {"accounts"},
        f"/accounts/{at}": {"accounts"},
        f"/taxlots/{at}/{brokerage}/{holding}": {"accountId", "holding"},
        f"/transactions/{at}/{savings}": {"links", "transactions"},
        f"/customers/{at}/current": {"customer"},
        f"/contacts/{at}/{savings}": {"holders", "emails", "addresses", "telephones"},
        f"/payments/{at}/{savings}/payment-networks": {"paymentNetworks"},
        f"/statements/{at}/{savings}": {"statements"},
        f"/tax-forms/{at}?taxYear=2020": {"statements"},
        f"/tax-forms/{at}/tax2020": {
            "taxYear", "taxStatementId", "attributes", "taxDataType", "forms",
        },
    }  # fmt: skip

    answers = {path: await app.get(path, pair, **headers) for path in members}

    assert {path: each.status for path, each in answers.items()} == dict.fromkeys(members, 200)
    assert {path: set(each.json) for path, each in answers.items()} == members


async def test_a_user_with_everything_has_every_kind_of_account(app: AppDriver) -> None:
    """mikomo_7 shows all six account wrappers, with Akoya's sample ids among the accounts."""
    pair = await app.connect("mikomo_7")

    listed = (await app.get("/accounts/v2/mikomo", pair)).json["accounts"]

    wrappers = {name for each in listed for name in each}
    ids = {account["accountId"] for each in listed for account in each.values()}
    assert wrappers == _WRAPPERS
    assert {"33fbd9e5-9cc3-3d7d-15b3-70d97d87ca1d", "839502593", "5426873"} <= ids


async def test_accounts_are_the_same_in_every_answer_and_every_users_own(app: AppDriver) -> None:
    """The sample checking account is mikomo_10's; anyone else has accounts of its own."""
    ten, other = await app.connect("mikomo_10"), await app.connect("someone@example.com")

    info = (await app.get("/accounts-info/v2/mikomo", ten)).json["accounts"]
    balance = (await app.get("/balances/v2/mikomo", ten)).json["accounts"]
    foreign = (await app.get("/accounts-info/v2/mikomo", other)).json["accounts"]

    assert [each["depositAccount"]["accountId"] for each in info] == [_CHECKING]
    assert info[0]["depositAccount"]["accountNumberDisplay"] == "xxxxxxxx0071"
    assert balance[0]["depositAccount"]["accountId"] == _CHECKING
    assert balance[0]["depositAccount"]["balanceType"] == "ASSET"
    assert foreign[0]["depositAccount"]["accountId"] != _CHECKING


async def test_transactions_page_to_the_end(app: AppDriver) -> None:
    """Following next links unchanged finds each transaction once, and ends with a full page."""
    pair = await app.connect("mikomo_10")
    base = f"/transactions/v2/mikomo/{_CHECKING}"
    window = "startTime=2026-05-01T00:00:00Z&endTime=2026-05-10T23:59:59Z"

    paged = await _all_pages(app, pair, f"{base}?{window}&limit=7", "transactions")
    whole = (await app.get(f"{base}?{window}&limit=40", pair)).json

    ids = [each["depositTransaction"]["transactionId"] for each in paged]
    assert len(ids) == len(set(ids)) == 40
    assert paged == whole["transactions"]
    assert "links" not in whole


async def test_a_middle_page_links_both_ways(app: AppDriver) -> None:
    """Links keep the query, percent-encoded, and lead to the neighbours."""
    pair = await app.connect("mikomo_10")
    base = f"/transactions/v2/mikomo/{_CHECKING}"
    query = "startTime=2026-05-01T00:00:00Z&endTime=2026-05-10T23:59:59Z&limit=5&offset=5"

    links = (await app.get(f"{base}?{query}", pair)).json["links"]

    kept = "endTime=2026-05-10T23%3A59%3A59Z&limit=5&offset={}&startTime=2026-05-01T00%3A00%3A00Z"
    assert links["next"]["href"] == f"{base}?{kept.format(10)}"
    assert links["prev"]["href"] == f"{base}?{kept.format(0)}"


async def test_transactions_default_to_the_last_fifteen_days(app: AppDriver) -> None:
    """Without a window the last 15 days up to now are listed, newest first."""
    pair = await app.connect("mikomo_10")

    listed = await _all_pages(
        app, pair, f"/transactions/v2/mikomo/{_CHECKING}?limit=20", "transactions"
    )

    times = [
        datetime.fromisoformat(each["depositTransaction"]["postedTimestamp"]) for each in listed
    ]
    now = datetime.fromtimestamp(NOON, UTC)
    assert times == sorted(times, reverse=True)
    assert 14 <= (now - times[-1]).days <= 15
    assert times[0] <= now


async def test_history_ends_after_two_years(app: AppDriver) -> None:
    """A window of ten years finds two years of transactions."""
    pair = await app.connect("mikomo_10")
    path = f"/transactions/v2/mikomo/{_CHECKING}?startTime=2016-06-01&endTime=2026-06-01&limit=500"

    listed = await _all_pages(app, pair, path, "transactions")

    oldest = listed[-1]["depositTransaction"]["postedTimestamp"]
    assert oldest.startswith("2024-06-01")
    assert len(listed) == 3 + 729 * 4


async def test_a_statement_is_a_whole_pdf(app: AppDriver) -> None:
    """The listed statement comes as a PDF whose table points at its objects."""
    pair = await app.connect("mikomo_14")
    base = "/statements/v2/mikomo/513815781465"

    listed = (await app.get(base, pair)).json["statements"]
    file = await app.get(f"{base}/P9CvLPKDaFRMbNDkhu1", pair, Accept="application/pdf")
    as_json = await app.get(f"{base}/P9CvLPKDaFRMbNDkhu1", pair, Accept="application/json")
    unknown = await app.get(f"{base}/none", pair, Accept="application/pdf")

    assert listed[0]["statementId"] == "P9CvLPKDaFRMbNDkhu1"
    assert len(listed) == 24
    assert file.headers["Content-Type"] == "application/pdf"
    _check_pdf(file.body)
    assert (as_json.status, unknown.status) == (406, 404)


async def test_a_tax_form_comes_as_json_and_as_pdf(app: AppDriver) -> None:
    """The taxDataType chooses JSON or a PDF in base 64; an Accept of PDF brings the PDF itself."""
    pair = await app.connect("mikomo_10")
    path = "/tax-forms/v2/mikomo/tax2020"

    as_json = await app.get(f"{path}?taxDataType=JSON", pair)
    in_json = await app.get(f"{path}?taxDataType=BASE64_PDF", pair)
    as_pdf = await app.get(path, pair, Accept="application/pdf")
    wrong = await app.get(f"{path}?taxDataType=FAX", pair)

    assert as_json.json["forms"][0]["tax1099Div"]["taxYear"] == 2020
    assert "forms" not in in_json.json
    assert base64.b64decode(in_json.json["pdf"]["data"]) == as_pdf.body
    _check_pdf(as_pdf.body)
    assert (wrong.status, wrong.json["code"]) == (400, 401)


async def test_statements_and_tax_lots_page_too(app: AppDriver) -> None:
    """Both listings page by links to the same items as in one piece."""
    pair = await app.connect("mikomo_7")
    account = "33fbd9e5-9cc3-3d7d-15b3-70d97d87ca1d"

    paged = await _all_pages(app, pair, f"/statements/v2/mikomo/{account}?limit=5", "statements")
    whole = (await app.get(f"/statements/v2/mikomo/{account}", pair)).json["statements"]
    detail = (await app.get("/accounts/v2/mikomo?accountIds=5426873", pair)).json["accounts"][0]
    holding = detail["investmentAccount"]["holdings"][0]["holdingId"]
    lots = (await app.get(f"/taxlots/v2/mikomo/5426873/{holding}?limit=3", pair)).json
    rest = (await app.get(lots["links"]["next"]["href"], pair)).json

    assert paged == whole
    assert (len(lots["holding"]["taxLots"]), len(rest["holding"]["taxLots"])) == (3, 1)


async def test_a_product_that_an_account_cannot_have_is_704(app: AppDriver) -> None:
    """A brokerage account has no payment networks."""
    pair = await app.connect("mikomo_7")

    refused = await app.get("/payments/v2/mikomo/5426873/payment-networks", pair)

    assert refused.status == 422
    assert refused.json == {"code": 704, "message": "Account type not supported"}

"""What the products that hold papers answer: statements and tax forms.

It must not know bearers, limits, faults or the connection.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from sidecar.sandbox import documents
from sidecar.sandbox.pdf import write_pdf
from sidecar.sandbox.replies import JSON_TYPE, PDF_TYPE, DataError, Reply, json_reply
from sidecar.sandbox.windows import parse_instant, parse_page, parse_window

if TYPE_CHECKING:
    from sidecar.sandbox.ask import Answer, Ask
    from sidecar.sandbox.data_sets import Account

_TAX_YEARS: Final = (2025, 2024, 2023, 2022, 2021, 2020)
_TAX_FORM: Final = "Tax1099Div"


def statements(ask: Ask) -> Answer:
    """List an account's statements, or send one as a PDF."""
    match ask.rest:
        case (account_id,) | (account_id, _):
            account = ask.account(account_id)
        case ():
            return DataError.ACCOUNT_UNKNOWN
        case _:
            return DataError.INVALID_INPUT
    if isinstance(account, DataError):
        return account
    match ask.rest:
        case (_, statement_id):
            return _statement_file(ask, account, statement_id)
        case _:
            return _statement_list(ask, account)


def _statement_list(ask: Ask, account: Account) -> Answer:
    window = parse_window(ask.query, now=ask.now, default_days=documents.HISTORY_DAYS)
    page = parse_page(ask.query)
    if isinstance(window, DataError):
        return window
    if isinstance(page, DataError):
        return page
    listed = [
        statement
        for statement in documents.statements(account, now=ask.now)
        if window.start <= (parse_instant(statement["statementDate"]) or window.start) <= window.end
    ]
    links = page.links(len(listed), path=ask.path, query=ask.query)
    document = {"statements": page.cut(listed)}
    return json_reply({"links": links, **document} if links else document)


def _statement_file(ask: Ask, account: Account, statement_id: str) -> Answer:
    if not ask.accepts(PDF_TYPE):
        return DataError.NOT_ACCEPTABLE
    for statement in documents.statements(account, now=ask.now):
        if statement["statementId"] == statement_id:
            lines = (
                f"{statement['description']} of {statement['statementDate']}",
                f"Account {account.display_number}",
                f"Balance: {account.balance:.2f} USD",
                "Invented by a sandbox. No bank stands behind this.",
            )
            return Reply(status=200, body=write_pdf(lines), content_type=PDF_TYPE)
    return DataError.DATA_NOT_FOUND


def tax_forms(ask: Ask) -> Answer:
    """Search the customer's tax forms, or send one as JSON, as PDF, or as a PDF inside JSON."""
    match ask.rest:
        case ():
            return _tax_search(ask)
        case (tax_form_id,):
            return _tax_form(ask, tax_form_id)
        case _:
            return DataError.INVALID_INPUT


def _tax_search(ask: Ask) -> Answer:
    year, account_id = ask.query.get("taxYear"), ask.query.get("accountId")
    if year is not None and not (year.isascii() and year.isdigit()):
        return DataError.INVALID_INPUT
    account = ask.accounts[0] if account_id is None else ask.account(account_id)
    if isinstance(account, DataError):
        return account
    wanted = ask.query.get("taxForms", _TAX_FORM).split(",")
    years = [each for each in _tax_years(ask) if year in (None, str(each))]
    if _TAX_FORM not in wanted or not years:
        return DataError.DATA_NOT_FOUND
    found = [documents.tax_statement(ask.user, account, each) for each in years]
    return json_reply({"statements": found})


def _tax_form(ask: Ask, tax_form_id: str) -> Answer:
    data_type = ask.query.get("taxDataType", "JSON")
    if data_type not in ("JSON", "BASE64_PDF"):
        return DataError.INVALID_INPUT
    for year in _tax_years(ask):
        form = documents.tax_statement(ask.user, ask.accounts[0], year)
        if form["taxStatementId"] != tax_form_id:
            continue
        pdf = write_pdf((f"Form 1099-DIV for {year}", f"Customer {ask.user}", "Invented."))
        if not ask.accepts(JSON_TYPE):
            known = ask.accepts(PDF_TYPE)
            return (
                Reply(status=200, body=pdf, content_type=PDF_TYPE)
                if known
                else DataError.NOT_ACCEPTABLE
            )
        if data_type == "BASE64_PDF":
            del form["forms"]
            encoded = base64.b64encode(pdf).decode()
            form |= {
                "taxDataType": data_type,
                "pdf": {"contentType": PDF_TYPE, "data": encoded},
            }
        return json_reply(form)
    return DataError.DATA_NOT_FOUND


def _tax_years(ask: Ask) -> tuple[int, ...]:
    this_year = datetime.fromtimestamp(ask.now, UTC).year
    return tuple(year for year in _TAX_YEARS if year < this_year)

"""What each data product answers to a customer who may ask it.

It checks parameters and accounts. It must not know bearers, limits, faults or the connection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from sidecar.sandbox import documents
from sidecar.sandbox.ask import Answer, Ask
from sidecar.sandbox.record_answers import statements, tax_forms
from sidecar.sandbox.replies import DataError, Reply, json_reply
from sidecar.sandbox.windows import parse_page, parse_window, to_text

if TYPE_CHECKING:
    from sidecar.sandbox.data_sets import Account
    from sidecar.sandbox.replies import Document

_TRANSACTION_DAYS: Final = 15
_PARTIAL: Final = 206


def answer(product: str, ask: Ask) -> Reply:
    """Answer a request for a product.

    Raises:
        KeyError: there is no such product.
    """
    if ask.query.get("mode", "raw") not in ("raw", "standard"):
        return DataError.INVALID_INPUT.reply
    found = _PRODUCTS[product](ask)
    return found.reply if isinstance(found, DataError) else found


def _accounts_info(ask: Ask) -> Answer:
    return _listing(ask, documents.account_info)


def _balances(ask: Ask) -> Answer:
    return _listing(ask, lambda account: documents.account_balance(account, now=ask.now))


def _accounts(ask: Ask) -> Answer:
    return _listing(ask, lambda account: documents.account_detail(account, now=ask.now))


def _listing(ask: Ask, describe: Callable[[Account], Document]) -> Answer:
    if ask.rest:
        return DataError.INVALID_INPUT
    listed = ask.accounts
    if "accountIds" in ask.query:
        wanted = [part.strip() for part in ask.query["accountIds"].split(",")]
        listed = tuple(account for account in listed if account.id in wanted)
        if len(listed) != len(set(wanted)):
            return DataError.ACCOUNT_UNKNOWN
    status = _PARTIAL if any(account.is_failing for account in listed) else 200
    return json_reply({"accounts": [describe(account) for account in listed]}, status=status)


def _transactions(ask: Ask) -> Answer:
    match ask.rest:
        case (account_id,):
            account = ask.account(account_id)
        case ():
            return DataError.ACCOUNT_UNKNOWN
        case _:
            return DataError.INVALID_INPUT
    if isinstance(account, DataError):
        return account
    window = parse_window(ask.query, now=ask.now, default_days=_TRANSACTION_DAYS)
    page = parse_page(ask.query)
    if isinstance(window, DataError):
        return window
    if isinstance(page, DataError):
        return page
    if not documents.has_transactions(account):
        return DataError.TYPE_UNSUPPORTED
    times = documents.transaction_times(window, now=ask.now)
    # The link pins the window, or the listing would move under a reader who pages slowly.
    pinned = {
        "startTime": to_text(window.start),
        "endTime": to_text(window.end),
        **ask.query,
    }
    listed = [documents.transaction(account, at) for at in page.cut(times)]
    links = page.links(len(times), path=ask.path, query=pinned)
    return json_reply(
        {"links": links, "transactions": listed} if links else {"transactions": listed}
    )


def _customers(ask: Ask) -> Answer:
    if ask.rest != ("current",):
        return DataError.INVALID_INPUT
    return json_reply(documents.customer(ask.user, ask.provider))


def _contacts(ask: Ask) -> Answer:
    match ask.rest:
        case (account_id,):
            account = ask.account(account_id)
        case ():
            return DataError.ACCOUNT_UNKNOWN
        case _:
            return DataError.INVALID_INPUT
    if isinstance(account, DataError):
        return account
    return json_reply(documents.contacts(ask.user))


def _payments(ask: Ask) -> Answer:
    match ask.rest:
        case (account_id, "payment-networks"):
            account = ask.account(account_id)
        case () | ("payment-networks",):
            return DataError.ACCOUNT_UNKNOWN
        case _:
            return DataError.INVALID_INPUT
    if isinstance(account, DataError):
        return account
    if account.wrapper != "depositAccount":
        return DataError.TYPE_UNSUPPORTED
    return json_reply(documents.payment_networks(account))


def _tax_lots(ask: Ask) -> Answer:
    match ask.rest:
        case (account_id, holding_id):
            account = ask.account(account_id)
        case () | (_,):
            return DataError.ACCOUNT_UNKNOWN
        case _:
            return DataError.INVALID_INPUT
    page = parse_page(ask.query)
    if isinstance(account, DataError):
        return account
    if isinstance(page, DataError):
        return page
    for holding in account.holdings:
        if holding.id == holding_id:
            lots = documents.tax_lots(account, holding)
            document: dict[str, object] = {
                "accountId": account.id,
                "holding": {
                    "holdingId": holding.id,
                    "securityId": holding.symbol,
                    "securityIdType": "TICKER",
                    "taxLots": page.cut(lots),
                },
            }
            links = page.links(len(lots), path=ask.path, query=ask.query)
            return json_reply({"links": links, **document} if links else document)
    return DataError.ACCOUNT_UNKNOWN


_PRODUCTS: Final[Mapping[str, Callable[[Ask], Answer]]] = {
    "accounts-info": _accounts_info,
    "balances": _balances,
    "accounts": _accounts,
    "taxlots": _tax_lots,
    "transactions": _transactions,
    "customers": _customers,
    "contacts": _contacts,
    "payments": _payments,
    "statements": statements,
    "tax-forms": tax_forms,
}
PRODUCTS: Final = tuple(_PRODUCTS)

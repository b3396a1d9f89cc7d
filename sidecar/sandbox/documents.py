"""The JSON shapes of the data APIs, filled with invented data.

It must not know who may see them or how they are paged.
"""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Final

from sidecar.sandbox.data_sets import number_of
from sidecar.sandbox.ids import stable_id
from sidecar.sandbox.replies import DataError
from sidecar.sandbox.windows import to_text

if TYPE_CHECKING:
    from sidecar.sandbox.data_sets import Account, Holding, Wrapper
    from sidecar.sandbox.replies import Document
    from sidecar.sandbox.windows import Window

HISTORY_DAYS: Final = 730
STATEMENT_MONTHS: Final = 24

_HOURS: Final = (9, 12, 15, 18)
_SHOPS: Final = (
    "CORNER GROCERY",
    "CITY TRANSIT",
    "HARDWARE & SON",
    "COFFEE CART",
    "PAYROLL",
    "UTILITIES",
    "BOOKSHOP",
    "PHARMACY",
)
_SAMPLE_STATEMENTS: Final = {"513815781465": "P9CvLPKDaFRMbNDkhu1"}
_TRANSACTION_WRAPPERS: Final[dict[Wrapper, str]] = {
    "depositAccount": "depositTransaction",
    "investmentAccount": "investmentTransaction",
    "loanAccount": "loanTransaction",
    "locAccount": "locTransaction",
    "insuranceAccount": "insuranceTransaction",
}


def account_info(account: Account) -> Document:
    """Describe an account without amounts, or the error that is in its place."""
    if account.is_failing:
        return {account.wrapper: _failing(account)}
    return {account.wrapper: _basics(account)}


def account_balance(account: Account, *, now: float) -> Document:
    """State the balance of an account."""
    if account.is_failing:
        return {account.wrapper: _failing(account)}
    return {
        account.wrapper: {
            "accountId": account.id,
            "accountNumberDisplay": account.display_number,
            "currency": {"currencyCode": "USD"},
            **_amounts(account, now=now),
        }
    }


def account_detail(account: Account, *, now: float) -> Document:
    """Describe an account with its balance and holdings."""
    if account.is_failing:
        return {account.wrapper: _failing(account)}
    detail = {**_basics(account), **_amounts(account, now=now)}
    if account.holdings:
        detail["holdings"] = [_holding(holding) for holding in account.holdings]
    return {account.wrapper: detail}


def tax_lots(account: Account, holding: Holding) -> list[Document]:
    """List the lots a holding was bought in."""
    return [
        {
            "originalPurchaseDate": f"{2019 + lot}-03-0{1 + lot}",
            "quantity": holding.units / 4,
            "purchasedPrice": round(holding.unit_price * (0.6 + lot / 10), 2),
            "costBasis": round(holding.unit_price * (0.6 + lot / 10) * holding.units / 4, 2),
            "currentValue": round(holding.unit_price * holding.units / 4, 2),
            "positionType": "LONG",
            "lotId": stable_id(account.id, holding.id, str(lot), length=10),
        }
        for lot in range(4)
    ]


def has_transactions(account: Account) -> bool:
    """Tell whether the bank keeps transactions for this type of account."""
    return account.wrapper in _TRANSACTION_WRAPPERS


def transaction_times(window: Window, *, now: float) -> list[datetime]:
    """List when something was posted in a window, newest first, two years back."""
    end = min(window.end, datetime.fromtimestamp(now, UTC))
    oldest = datetime.fromtimestamp(now, UTC) - timedelta(days=HISTORY_DAYS)
    start = max(window.start, oldest)
    days = (end.date() - start.date()).days
    times = [
        datetime.combine(end.date() - timedelta(days=back), time(hour, tzinfo=UTC))
        for back in range(days + 1)
        for hour in reversed(_HOURS)
    ]
    return [at for at in times if start <= at <= end]


def transaction(account: Account, at: datetime) -> Document:
    """Describe what was posted to an account at an instant; always the same."""
    instant = to_text(at)
    shop = _SHOPS[number_of(account.id, instant, "shop", below=len(_SHOPS))]
    is_credit = shop == "PAYROLL"
    detail = {
        "accountId": account.id,
        "transactionId": stable_id(account.id, instant, length=24),
        "postedTimestamp": instant,
        "transactionTimestamp": instant,
        "description": shop,
        "debitCreditMemo": "CREDIT" if is_credit else "DEBIT",
        "amount": round(3 + number_of(account.id, instant, "amount", below=20_000) / 100, 2),
        "status": "POSTED",
        "transactionType": "DEPOSIT" if is_credit else "POS",
    }
    return {_TRANSACTION_WRAPPERS[account.wrapper]: detail}


def customer(user: str, provider: str) -> Document:
    """Describe the user as the bank's customer."""
    return {
        "customer": {
            "customerId": stable_id(provider, user, "customer", length=20),
            "name": _name(user),
            "addresses": [_address(user)],
            "telephones": None,
            "email": [_email(user)],
            "accounts": None,
        }
    }


def contacts(user: str) -> Document:
    """Describe the holder of an account."""
    return {
        "holders": [{"name": _name(user), "relationship": "PRIMARY_JOINT"}],
        "emails": [_email(user)],
        "addresses": [_address(user)],
        "telephones": [{"type": "HOME", "country": "1", "number": "5550100"}],
    }


def payment_networks(account: Account) -> Document:
    """Say how an account can be paid."""
    return {
        "paymentNetworks": [
            {
                "bankId": "125000024",
                "identifier": f"{number_of(account.id, 'number', below=10**12):012}",
                "identifierType": "ACCOUNT_NUMBER",
                "type": network,
                "transferIn": True,
                "transferOut": True,
            }
            for network in ("US_ACH", "US_RTP")
        ]
    }


def statements(account: Account, *, now: float) -> list[dict[str, str]]:
    """List an account's monthly statements, newest first."""
    today = datetime.fromtimestamp(now, UTC)
    listed: list[dict[str, str]] = []
    year, month = today.year, today.month
    for back in range(STATEMENT_MONTHS):
        day = f"{year:04}-{month:02}-01"
        sample = _SAMPLE_STATEMENTS.get(account.id) if back == 0 else None
        statement_id = sample or stable_id(account.id, "statement", day, length=19)
        listed.append(
            {
                "accountId": account.id,
                "statementId": statement_id,
                "statementDate": day,
                "description": f"{account.nickname} statement",
                "status": "AVAILABLE",
            }
        )
        year, month = (year, month - 1) if month > 1 else (year - 1, 12)
    return listed


def tax_statement(user: str, account: Account, year: int) -> dict[str, object]:
    """State a year's dividends of a user as a 1099-DIV."""
    return {
        "taxYear": year,
        "taxStatementId": f"tax{year}",
        "attributes": [{"name": "accountId", "value": account.id}],
        "taxDataType": "JSON",
        "forms": [
            {
                "tax1099Div": {
                    "taxYear": year,
                    "taxFormId": f"tax{year}",
                    "taxFormType": "Tax1099Div",
                    "accountId": account.id,
                    "ordinaryDividends": round(number_of(user, str(year), below=90_000) / 100, 2),
                    "qualifiedDividends": round(number_of(user, str(year), below=9_000) / 100, 2),
                }
            }
        ],
    }


def _basics(account: Account) -> dict[str, object]:
    return {
        "accountId": account.id,
        "accountType": account.kind,
        "accountNumberDisplay": account.display_number,
        "nickname": account.nickname,
        "productName": account.nickname,
        "currency": {"currencyCode": "USD"},
        "status": "OPEN",
    }


def _amounts(account: Account, *, now: float) -> dict[str, object]:
    return {
        "balanceType": "LIABILITY" if account.is_liability else "ASSET",
        "balanceAsOf": to_text(datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0)),
        "currentBalance": account.balance,
        "availableBalance": account.balance,
    }


def _failing(account: Account) -> Document:
    _, code, message = DataError.SUBSYSTEM.value
    return {"accountId": account.id, "error": {"code": code, "message": message}}


def _holding(holding: Holding) -> Document:
    return {
        "holdingId": holding.id,
        "holdingName": holding.name,
        "holdingType": "MUTUALFUND",
        "securityId": holding.symbol,
        "securityIdType": "TICKER",
        "symbol": holding.symbol,
        "units": holding.units,
        "currentUnitPrice": holding.unit_price,
        "marketValue": round(holding.units * holding.unit_price, 2),
    }


def _name(user: str) -> Document:
    return {"first": "Sandbox", "middle": None, "last": user, "suffix": None}


def _address(user: str) -> Document:
    return {
        "type": "HOME",
        "line1": f"{1 + number_of(user, 'street', below=900)} Example Street",
        "city": "Springfield",
        "state": "IL",
        "postalCode": "62701",
        "country": "US",
    }


def _email(user: str) -> str:
    return f"{user.lower()}@example.com"

"""Who has which accounts: static, plausible and invented.

Akoya's documented sample ids belong to Mikomo users; every other id is derived from user and
provider, so it is the same in every run and never another user's. It must not know requests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, final

from sidecar.sandbox.ids import stable_id

Kind: TypeAlias = Literal[
    "CHECKING", "SAVINGS", "CD", "529", "BROKERAGE", "CREDITCARD", "MORTGAGE", "LIFE", "ANNUITY"
]
Wrapper: TypeAlias = Literal[
    "depositAccount",
    "investmentAccount",
    "loanAccount",
    "locAccount",
    "insuranceAccount",
    "annuityAccount",
]

_WRAPPERS: Final[dict[Kind, Wrapper]] = {
    "CHECKING": "depositAccount",
    "SAVINGS": "depositAccount",
    "CD": "depositAccount",
    "529": "investmentAccount",
    "BROKERAGE": "investmentAccount",
    "CREDITCARD": "locAccount",
    "MORTGAGE": "loanAccount",
    "LIFE": "insuranceAccount",
    "ANNUITY": "annuityAccount",
}
_NICKNAMES: Final[dict[Kind, str]] = {
    "CHECKING": "Everyday checking",
    "SAVINGS": "Rainy day savings",
    "CD": "Twelve month CD",
    "529": "College plan",
    "BROKERAGE": "Brokerage",
    "CREDITCARD": "Rewards card",
    "MORTGAGE": "Home loan",
    "LIFE": "Term life",
    "ANNUITY": "Deferred annuity",
}
_ORDINARY: Final[tuple[Kind, ...]] = ("CHECKING", "SAVINGS", "BROKERAGE")
_KINDS: Final[dict[str, tuple[Kind, ...]]] = {
    "mikomo_7": tuple(_NICKNAMES),
    "mikomo_10": ("CHECKING",),
    "mikomo_206": ("CHECKING", "SAVINGS"),
}
_SAMPLE_IDS: Final[dict[tuple[str, Kind], str]] = {
    ("mikomo_10", "CHECKING"): "g833202fb0866d0ad83472c429",
    ("mikomo_14", "CHECKING"): "513815781465",
    ("mikomo_7", "SAVINGS"): "33fbd9e5-9cc3-3d7d-15b3-70d97d87ca1d",
    ("mikomo_7", "CD"): "11719ae5-2399-1278-e43c-43f24abb3058",
    ("mikomo_7", "529"): "839502593",
    ("mikomo_7", "BROKERAGE"): "5426873",
}
_SAMPLE_NUMBERS: Final = {"g833202fb0866d0ad83472c429": "0071"}
_SYMBOLS: Final = (("VTI", "Total market fund", 268.4), ("BND", "Total bond fund", 72.9))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """A position of an investment account. Prices in US dollars."""

    id: str
    symbol: str
    name: str
    units: int
    unit_price: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One account of a user at a bank. The balance is in US dollars."""

    id: str
    kind: Kind
    last_digits: str
    balance: float
    is_failing: bool = False

    @property
    def wrapper(self) -> Wrapper:
        """The key that wraps this account in every answer."""
        return _WRAPPERS[self.kind]

    @property
    def nickname(self) -> str:
        """What the user calls it."""
        return _NICKNAMES[self.kind]

    @property
    def display_number(self) -> str:
        """The number as it may be shown."""
        return f"xxxxxxxx{self.last_digits}"

    @property
    def is_liability(self) -> bool:
        """Tell whether the user owes its balance."""
        return self.wrapper in ("loanAccount", "locAccount")

    @property
    def holdings(self) -> tuple[Holding, ...]:
        """Its positions; none but investment accounts have any."""
        if self.wrapper != "investmentAccount":
            return ()
        return tuple(
            Holding(
                id=stable_id(self.id, symbol, length=12),
                symbol=symbol,
                name=name,
                units=10 + number_of(self.id, symbol, below=90),
                unit_price=price,
            )
            for symbol, name, price in _SYMBOLS
        )


def accounts_of(user: str, provider: str) -> tuple[Account, ...]:
    """List the accounts a user has at a provider; everyone has at least a checking account."""
    return tuple(_account(user, provider, kind) for kind in _KINDS.get(user, _ORDINARY))


def number_of(*parts: str, below: int) -> int:
    """Draw a number that is the same in every run for the same parts."""
    return int(stable_id(*parts), 16) % below


def _account(user: str, provider: str, kind: Kind) -> Account:
    sample = _SAMPLE_IDS.get((user, kind)) if provider == "mikomo" else None
    account_id = sample or stable_id(provider, user, kind, length=26)
    digits = (
        _SAMPLE_NUMBERS.get(account_id) or f"{number_of(account_id, 'digits', below=10_000):04}"
    )
    return Account(
        id=account_id,
        kind=kind,
        last_digits=digits,
        balance=round(250 + number_of(account_id, "balance", below=2_000_000) / 100, 2),
        is_failing=user == "mikomo_206" and kind == "SAVINGS",
    )

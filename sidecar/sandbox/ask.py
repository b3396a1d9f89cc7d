"""A data request of a customer who may make it, as the products see it.

It must not know what any product answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, final

from sidecar.sandbox.data_sets import accounts_of
from sidecar.sandbox.replies import DataError, Reply

if TYPE_CHECKING:
    from sidecar.sandbox.data_sets import Account

Answer: TypeAlias = Reply | DataError


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A data request of a known customer. `rest` is the path behind the provider."""

    user: str
    provider: str
    path: str
    rest: tuple[str, ...]
    query: Mapping[str, str]
    accept: str
    consented: tuple[str, ...]
    now: float

    @property
    def accounts(self) -> tuple[Account, ...]:
        """The customer's accounts that the consent covers."""
        held = accounts_of(self.user, self.provider)
        return tuple(account for account in held if account.id in self.consented)

    def account(self, account_id: str) -> Account | DataError:
        """Find one of those accounts."""
        for account in self.accounts:
            if account.id == account_id:
                return account
        return DataError.ACCOUNT_UNKNOWN

    def accepts(self, content_type: str) -> bool:
        """Tell whether the client can take this type."""
        wanted = [part.partition(";")[0].strip() for part in self.accept.split(",")]
        major = content_type.partition("/")[0]
        return not self.accept or not {content_type, f"{major}/*", "*/*"}.isdisjoint(wanted)

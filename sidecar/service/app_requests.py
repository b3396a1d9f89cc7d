"""Builds the requests to the token service with the app's credentials of the moment.

The credentials are asked for at each request, so that a changed secret file is used without a
restart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from sidecar.domain.secret import Secret
from sidecar.domain.token_requests import (
    ClientCredentials,
    RefreshAuth,
    obtain_request,
    refresh_request,
    revoke_request,
)
from sidecar.domain.wire import TokenRequest


@final
class TokenRequests:
    """Obtain, refresh and revoke requests of this app."""

    def __init__(
        self,
        *,
        credentials: Callable[[], ClientCredentials],
        refresh_auth: RefreshAuth,
        revoke_path: str,
    ) -> None:
        self._credentials = credentials
        self._refresh_auth = refresh_auth
        self._revoke_path = revoke_path

    def obtain(self, code: Secret, *, redirect_uri: str) -> TokenRequest:
        """Return the exchange of an authorization code."""
        return obtain_request(self._credentials(), code, redirect_uri)

    def refresh(self, refresh_token: Secret) -> TokenRequest:
        """Return the claim of a refresh token."""
        return refresh_request(self._credentials(), refresh_token, self._refresh_auth)

    def revoke(self, refresh_token: Secret) -> TokenRequest:
        """Return the revocation of a grant by its newest refresh token."""
        return revoke_request(self._credentials(), refresh_token, self._revoke_path)

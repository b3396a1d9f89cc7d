from __future__ import annotations

import pytest

from sidecar.domain.secret import Secret
from sidecar.domain.token_requests import ClientCredentials, RefreshAuth
from sidecar.service.app_requests import TokenRequests

CLIENT = ClientCredentials(client_id="app-1", client_secret=Secret("s3cret"))


@pytest.mark.parametrize("chosen", RefreshAuth)
def test_the_place_of_the_credentials_is_chosen_and_never_guessed(chosen: RefreshAuth) -> None:
    """Scenario 22: a repeat is the same request; in another style it would be a second use."""
    requests = TokenRequests(credentials=lambda: CLIENT, refresh_auth=chosen, revoke_path="/revoke")

    first, second, third = (requests.refresh(Secret("r-1")) for _ in range(3))

    fields = {name for name, _ in first.form}
    assert first == second == third
    assert (first.basic_auth is not None) is (chosen is RefreshAuth.BASIC)
    assert ("client_secret" in fields) is (chosen is RefreshAuth.BODY)
    assert {"grant_type", "refresh_token"} <= fields


def test_a_changed_secret_is_used_by_the_next_request() -> None:
    """The credentials are those of the moment, so that a new secret needs no restart."""
    held = [CLIENT]
    requests = TokenRequests(
        credentials=lambda: held[-1], refresh_auth=RefreshAuth.BODY, revoke_path="/revoke"
    )
    before = requests.refresh(Secret("r-1"))

    held.append(ClientCredentials(client_id="app-1", client_secret=Secret("changed")))
    after = requests.refresh(Secret("r-1"))

    assert ("client_secret", Secret("s3cret")) in before.form
    assert ("client_secret", Secret("changed")) in after.form

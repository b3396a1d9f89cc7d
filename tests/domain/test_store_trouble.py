from __future__ import annotations

import pytest

from sidecar.domain.store_trouble import (
    LASTING,
    TOLD_AT_ONCE,
    TROUBLE_HINTS,
    StoreTrouble,
    strain_of,
)


def test_every_trouble_has_a_hint() -> None:
    """A person who reads a cause in a log, a status or an alert is told what to do."""
    assert set(TROUBLE_HINTS) == set(StoreTrouble)


def test_a_store_that_fails_nothing_is_not_under_strain() -> None:
    """Nothing met, nothing told."""
    assert strain_of({}) is None


@pytest.mark.parametrize("cause", sorted(TOLD_AT_ONCE))
def test_what_stays_until_a_person_acts_is_told_at_once(cause: StoreTrouble) -> None:
    """One refusal by name is enough: the next one has the same reason."""
    assert strain_of({cause: 1}) is cause


@pytest.mark.parametrize("cause", sorted(set(StoreTrouble) - TOLD_AT_ONCE))
def test_what_comes_with_every_failover_is_told_only_if_it_lasts(cause: StoreTrouble) -> None:
    """A burst in one second or two is a restart; more is a trouble of its own."""
    assert strain_of({cause: LASTING - 1}) is None
    assert strain_of({cause: LASTING}) is cause


def test_what_the_server_names_is_told_before_what_became_of_connections() -> None:
    """The cause explains the symptoms, however often they are met."""
    assert strain_of({StoreTrouble.RESET: 9, StoreTrouble.MAXCLIENTS: 1}) is StoreTrouble.MAXCLIENTS

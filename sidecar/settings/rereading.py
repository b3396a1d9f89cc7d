"""What another reading of the same environment may change in a sidecar that runs.

It compares two settings of which only files can differ. It applies nothing and shows no value.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

from sidecar.domain.store_address import is_same_store
from sidecar.settings.loading import variable_of
from sidecar.settings.model import Settings
from sidecar.settings.rules import Problem

RENEWABLE: Final = frozenset(
    {"akoya_client_secret", "redis_url", "client_keys", "control_keys", "egress_proxy"}
)
AT_A_START: Final = frozenset({"encryption_keys"})
"""Compared with the fleet's at a start, and so taken up at a start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What differs.

    Attributes:
        renewed: Fields whose new value counts from now on.
        restart_needed: Fields whose new value counts after a restart.
    """

    renewed: tuple[str, ...]
    restart_needed: tuple[str, ...]


def changes_between(old: Settings, new: Settings) -> Changes | tuple[Problem, ...]:
    """Return what `new` changes, or why it cannot be taken up."""
    changed = [
        field.name
        for field in fields(Settings)
        if getattr(old, field.name) != getattr(new, field.name)
    ]
    problems: list[Problem] = []
    for name in changed:
        if name == "redis_url" and not is_same_store(
            old.redis_url.reveal(), new.redis_url.reveal()
        ):
            sentence = "names another store; a reload changes user and password only: restart"
        elif name == "hash_key":
            sentence = "is not the key in use; it never changes: put the former one back"
        elif name not in RENEWABLE | AT_A_START:
            sentence = "cannot change in a sidecar that runs: restart"
        else:
            continue
        problems.append(Problem(variable=variable_of(name), sentence=sentence))
    if problems:
        return tuple(problems)
    return Changes(
        renewed=tuple(name for name in changed if name in RENEWABLE),
        restart_needed=tuple(name for name in changed if name in AT_A_START),
    )

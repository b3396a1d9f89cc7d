"""A faithful local Akoya: identity provider, data APIs, faults on demand and a ledger of claims.

It must not know the sidecar it is used to test: an error in one cannot hide in the other.
Everything is imported on first use: asking for help must not load a web framework.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sidecar.sandbox.command import main
    from sidecar.sandbox.faults import Fault
    from sidecar.sandbox.server import Sandbox
    from sidecar.sandbox.settings import SandboxSettings

__all__ = ["Fault", "Sandbox", "SandboxSettings", "main"]

_HOMES: Final = {
    "Fault": "sidecar.sandbox.faults",
    "Sandbox": "sidecar.sandbox.server",
    "SandboxSettings": "sidecar.sandbox.settings",
    "main": "sidecar.sandbox.command",
}


def __getattr__(name: str) -> object:
    """Import a public name from its module when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)

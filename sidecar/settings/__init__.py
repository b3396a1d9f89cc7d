"""The environment, checked and turned into one frozen `Settings`; all problems at once.

Only this package knows the names of the variables and their defaults. It reads no process
environment itself: the command line hands it a mapping. It is plain dataclasses on purpose: a
validation library costs nine megabytes in a process that should need seventy.
"""

from __future__ import annotations

from sidecar.settings.keys import NamedKey, SealingKey
from sidecar.settings.loading import load
from sidecar.settings.model import Settings
from sidecar.settings.rules import Problem

__all__ = ["NamedKey", "Problem", "SealingKey", "Settings", "load"]

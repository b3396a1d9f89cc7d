"""The reference pages, made from the code that they describe.

A page is Markdown (the example file of variables, the OpenAPI document and the dashboard are not)
and always the same for the same code; a test compares the files below `docs/reference` and `config`
with what is made here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Final

from sidecar.http.openapi import openapi_document
from sidecar.reference.configuration import configuration_page, env_example
from sidecar.reference.dashboard import dashboard
from sidecar.reference.errors import errors_page
from sidecar.reference.log_events import log_events_page
from sidecar.reference.metrics import metrics_page


def openapi_json() -> str:
    """Return `docs/reference/openapi.json`."""
    return json.dumps(openapi_document(), indent=2) + "\n"


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "configuration": configuration_page,
    "metrics": metrics_page,
    "log-events": log_events_page,
    "errors": errors_page,
    "env-example": env_example,
    "openapi": openapi_json,
    "dashboard": dashboard,
}

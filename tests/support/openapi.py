"""Holds every answer of the control listener that any test sees against the OpenAPI document.

It must not know what a test asserts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from sidecar.http.control_routes import Routed, find_route
from sidecar.http.openapi import openapi_document

META_SCHEMA: Final = Path(__file__).parents[1] / "schemas" / "openapi-3.1.json"
JSON_SCHEMA: Final[Any] = import_module("jsonschema")  # which has no types


@cache
def document() -> dict[str, Any]:
    """Return the document as a client reads it."""
    read: dict[str, Any] = json.loads(json.dumps(openapi_document()))
    return read


def complaints(schema: Mapping[str, Any], value: object) -> list[str]:
    """Return what is wrong with a value; references lead into the document."""
    whole = {**schema, "components": document()["components"]}
    found = JSON_SCHEMA.Draft202012Validator(whole).iter_errors(value)
    return [f"{list(each.absolute_path)}: {each.message}" for each in found]


def demand_described(
    method: str, path: str, status: int, headers: Mapping[str, str], text: str
) -> None:
    """Raise AssertionError if the document does not describe this answer of a call."""
    routed = find_route(method, path)
    if not isinstance(routed, Routed):
        return
    route = routed.route
    operation = document()["paths"]["/".join(route.segments)][route.method.lower()]
    assert str(status) in operation["responses"], f"{route}: {status} is not described"
    content = operation["responses"][str(status)].get("content", {})
    if method == "HEAD" or not text:
        return
    kind = headers["Content-Type"].partition(";")[0]
    assert kind in content, f"{route}: {status} as {kind} is not described"
    if kind.endswith("json"):
        wrong = complaints(content[kind]["schema"], json.loads(text))
        assert not wrong, f"{route}: {status}: {wrong}"

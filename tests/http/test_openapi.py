"""The OpenAPI document: valid, complete, served, and true of what the calls take.

That it is true of what they answer, `ControlRig.ask` demands of every answer that a test sees.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sidecar.domain.failure import FailureReason
from sidecar.http.control_inputs import INPUTS, Input, Place
from sidecar.http.control_problems import ControlReason
from sidecar.http.control_routes import Route
from sidecar.http.openapi import MEANINGS, reasons_of
from tests.support.connect_rig import connect_terms
from tests.support.control_rig import GRANT, Got, running_control
from tests.support.openapi import JSON_SCHEMA, META_SCHEMA, demand_described, document

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reference/http.md").read_text("utf-8")


def test_the_document_is_valid_openapi() -> None:
    """The schema of OpenAPI 3.1 has nothing against it."""
    validator = JSON_SCHEMA.Draft202012Validator(json.loads(META_SCHEMA.read_text("utf-8")))

    assert [error.message for error in validator.iter_errors(document())] == []
    assert [each.message for each in validator.iter_errors(document() | {"paths": []})] != []


def test_every_schema_in_it_is_one() -> None:
    """What a generator reads is JSON Schema, with no reference that leads nowhere."""
    schemas = document()["components"]["schemas"]
    names = re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document()))

    for schema in schemas.values():
        JSON_SCHEMA.Draft202012Validator.check_schema(schema)
    assert set(names) <= set(schemas)
    assert set(schemas) - {"Status", "AuthorizeUrl"} <= set(names) | {"GrantPage", "EventPage"}


def test_every_call_is_in_it() -> None:
    """No route is a secret of the code, and nothing is described that is not there."""
    described = {
        f"{method.upper()} {path}"
        for path, methods in document()["paths"].items()
        for method in methods
    }

    assert described == {route.value for route in Route}
    assert set(INPUTS) == set(MEANINGS) == set(Route)


def test_every_reason_is_in_it_and_on_the_page() -> None:
    """What a client may meet can be looked up, in both references."""
    text = json.dumps(document()["paths"]) + json.dumps(document()["components"])

    for reason in (*ControlReason, *FailureReason):
        assert f'"{reason.value}"' in text, reason
        assert f"`{reason.value}`" in PAGE or reason.value in PAGE, reason
    refused_with = {
        reason for route in Route for told in reasons_of(route).values() for reason in told
    }
    assert {reason.value for reason in ControlReason} <= refused_with


def test_every_call_and_every_input_is_on_the_page() -> None:
    """The page for people and the document for programs speak of the same calls."""
    for route in Route:
        path = "/".join(route.segments)
        shown = path.replace("{provider}", "mikomo").replace("{user}", "u-1")
        assert any(form in PAGE for form in (f"8081{shown}", f"`GET {path}`")), route
        for taken in INPUTS[route]:
            assert re.search(rf"\b{taken.name}\b", PAGE), f"{route}: {taken.name}"


async def test_it_is_served_to_whoever_has_a_key() -> None:
    """`GET /openapi.json` is the file of the repository, and as closed as every other call."""
    async with running_control() as control:
        got = await control.ask("GET", "/openapi.json")
        closed = await control.ask("GET", "/openapi.json", key=None)

    assert (got.status, got.document) == (200, document())
    assert json.loads((ROOT / "docs/reference/openapi.json").read_text()) == document()
    assert closed.status == 401


WRONG: dict[str, Any] = {"string": "with a space\n", "integer": "x", "number": "x", "boolean": "x"}


def broken(taken: Input) -> Any:
    """Return a value that breaks the rule of an input."""
    if taken.name == "cursor":
        return "x" * 513
    return WRONG[str(taken.schema["type"])]


@pytest.mark.parametrize("route", Route, ids=lambda route: route.name.lower())
async def test_a_call_takes_what_is_described_and_nothing_else(route: Route) -> None:
    """Each input that is described is known by its name and its rule; any other is unknown."""
    inputs = [each for each in INPUTS[route] if each.place is not Place.PATH]
    query = {each.name: broken(each) for each in inputs if each.place is Place.QUERY}
    body = {each.name: broken(each) for each in inputs if each.place is Place.BODY}
    path = "/".join(route.segments).replace("{provider}", "mikomo").replace("{user}", "u-1")
    asked = "&".join(f"{name}={value}" for name, value in {**query, "kode": "1"}.items())
    async with running_control(connect_terms=connect_terms()) as control:
        got = await control.ask(
            route.method, f"{path}?{asked.replace(' ', '%20').replace(chr(10), '%0A')}", body=body
        )

    told = {each["name"]: each["detail"] for each in got.document["errors"]}
    rules = {each.name: each.rule for each in inputs}
    assert got.status == 400
    assert told.pop("kode") == "unknown"
    assert {name: detail.removeprefix("required: ") for name, detail in told.items()} == rules


@pytest.mark.parametrize("route", Route, ids=lambda route: route.name.lower())
async def test_what_is_described_as_required_is(route: Route) -> None:
    """A call without any input is refused for just what it must have."""
    if all(each.place is Place.PATH for each in INPUTS[route]):
        return
    path = "/".join(route.segments).replace("{provider}", "mikomo").replace("{user}", "u-1")
    async with running_control(connect_terms=connect_terms()) as control:
        got = await control.ask(route.method, path, body={} if route.method != "GET" else None)

    wanted = {
        each.name for each in INPUTS[route] if each.is_required and each.place is not Place.PATH
    }
    assert {each["name"] for each in got.document.get("errors", [])} == wanted


def answer_of(text: str, status: int = 200) -> Got:
    return Got(status=status, headers={"Content-Type": "application/json"}, text=text)


@pytest.mark.parametrize(
    ("got", "complaint"),
    [
        (answer_of("{}"), "'user' is a required property"),
        (answer_of('{"token": "x"}'), "Additional properties"),
        (answer_of("{}", status=418), "418 is not described"),
    ],
)
def test_an_answer_that_is_not_described_is_noticed(got: Got, complaint: str) -> None:
    """The check that every test of the listener goes through can fail."""
    with pytest.raises(AssertionError, match=complaint):
        demand_described("GET", GRANT, got.status, got.headers, got.text)

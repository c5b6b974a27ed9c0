"""The description says what the table says, and refers to nothing that it lacks."""

import re
from typing import Any

import pytest

from shared.api import problems
from shared.api.bodies import NoBody
from shared.api.description import describe
from shared.api.routes import Route
from shared.api.table import ROUTES

DESCRIPTION = describe(ROUTES)
NAMES = [f"{route.method} {route.path}" for route in ROUTES]


def operation(route: Route[Any]) -> dict[str, Any]:
    described: dict[str, Any] = DESCRIPTION["paths"][route.path][route.method.lower()]
    return described


def test_every_route_is_described_once() -> None:
    operations = [one for methods in DESCRIPTION["paths"].values() for one in methods.values()]
    assert len(operations) == len(ROUTES) == len(set(NAMES))
    assert len({one["operationId"] for one in operations}) == len(ROUTES)


@pytest.mark.parametrize("route", ROUTES, ids=NAMES)
def test_a_route_is_described_as_it_is(route: Route[Any]) -> None:
    described = operation(route)
    assert {str(status.value) for status in route.answers} <= set(described["responses"])
    schemes = {scheme for one in described["security"] for scheme in one}
    needed = {"key": route.scope is not None, "session": route.in_session}
    assert schemes == {scheme for scheme, wanted in needed.items() if wanted}
    named = {(one["in"], one["name"]) for one in described.get("parameters", [])}
    header = {("header", "Idempotency-Key")} if route.changes else set()
    place = "query" if route.in_query else "path" if route.in_path else "body"
    fields = {(place, name) for name in route.request.model_fields}
    assert named == header | (fields if place != "body" else set())
    has_body = place == "body" and route.request is not NoBody
    assert ("requestBody" in described) == route.has_body == has_body
    in_braces = {("path", name) for name in re.findall(r"{(\w+)}", route.path)}
    assert in_braces == {one for one in named if one[0] == "path"}


@pytest.mark.parametrize("route", ROUTES, ids=NAMES)
def test_that_a_query_is_refused_is_described(route: Route[Any]) -> None:
    """Or a body, where a query is taken."""
    assert "`no-body-expected`" in operation(route)["responses"]["400"]["description"]


@pytest.mark.parametrize("route", ROUTES, ids=NAMES)
def test_what_goes_wrong_is_a_problem(route: Route[Any]) -> None:
    for status, response in operation(route)["responses"].items():
        if int(status) >= 400:
            assert list(response["content"]) == ["application/problem+json"]


@pytest.mark.parametrize("route", ROUTES, ids=NAMES)
def test_when_to_come_back_is_described(route: Route[Any]) -> None:
    """Of a repeated request that is being done, a busy client, a store that is away."""
    told = {
        status: response["headers"]["Retry-After"]["required"]
        for status, response in operation(route)["responses"].items()
        if "headers" in response
    }
    always = {"503": problems.CLOSED not in route.problems}
    if route.scope:
        always["429"] = True
    if route.changes:
        always["409"] = False  # not for a key that was used for another request
    assert told == always


def test_schemas_are_named_after_what_they_describe() -> None:
    """Two of one name would be told apart by their modules' paths."""
    assert [name for name in DESCRIPTION["components"]["schemas"] if "__" in name] == []


def test_every_reference_is_there() -> None:
    wanted = set(re.findall(r"#/components/schemas/(\w+)", str(DESCRIPTION)))
    assert wanted == set(DESCRIPTION["components"]["schemas"])


def test_requests_take_no_other_field() -> None:
    for route in ROUTES:
        if route.has_body:
            schema = DESCRIPTION["components"]["schemas"][route.request.__name__]
            assert schema["additionalProperties"] is False

"""The OpenAPI 3.1 description, made of the route table."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPMethod, HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from shared.api import problems
from shared.api.bodies import JSON
from shared.api.problems import PROBLEM_JSON, Problem, ProblemBody
from shared.api.routes import IDEMPOTENCY_KEY, Route

REF = "#/components/schemas/{model}"
EVERY_ROUTE = (
    problems.MALFORMED,
    problems.NO_BODY_EXPECTED,
    problems.TOO_SLOW,
    problems.FAULT,
    problems.DOWN,
)
WITH_KEY = (problems.KEY_REFUSED, problems.SCOPE_LACKING, problems.TOO_MANY)
WITH_BODY = (problems.NOT_JSON, problems.TOO_LARGE, problems.WRONG_TYPE, problems.INVALID)
CHANGING = (problems.IDEMPOTENCY_KEY_MISSING, problems.KEY_REUSED, problems.UNDER_WAY)
IDEMPOTENCY_HEADER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "description": "new for every request, the same when it is repeated; kept for 24 hours",
    "schema": {"type": "string", "pattern": f"^{IDEMPOTENCY_KEY.pattern}$"},
}

Schemas = Mapping[type[Any], dict[str, Any]]


def describe(routes: Sequence[Route[Any]]) -> dict[str, Any]:
    """Describe the routes; the bodies are JSON Schema 2020-12."""
    shown = [
        *((route.request, "validation") for route in routes if route.has_body),
        *(
            (model, "serialization")
            for route in routes
            for model in route.answers.values()
            if model
        ),
        (ProblemBody, "serialization"),
    ]
    references, definitions = models_json_schema(shown, ref_template=REF)  # type: ignore[arg-type]
    schemas = {model: reference for (model, _), reference in references.items()}
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for route in routes:
        paths[route.path][route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Credential store of the svi", "version": "1"},
        "paths": dict(paths),
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "bearerFormat": "<id>.<secret>"},
                "session": {"type": "apiKey", "in": "header", "name": "X-Session"},
            },
        },
    }


def _operation(route: Route[Any], schemas: Schemas) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _name(route.method, route.path),
        "summary": route.summary,
        "security": [_security(route)] if route.scope else [],
        "responses": {
            **{
                str(status.value): _answer(status, m, schemas)
                for status, m in route.answers.items()
            },
            **_problems(route, schemas),
        },
    }
    if route.scope:
        operation["description"] = f"Scope `{route.scope}`."
    if parameters := _parameters(route):
        operation["parameters"] = parameters
    if route.has_body:
        content = {JSON: {"schema": schemas[route.request]}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _parameters(route: Route[Any]) -> list[dict[str, Any]]:
    """Describe what stands in the header, the path and the query: flat values only."""
    header = [IDEMPOTENCY_HEADER] if route.changes else []
    if not (route.in_query or route.in_path):
        return header
    place, schema = "path" if route.in_path else "query", route.request.model_json_schema()
    return header + [
        {"name": name, "in": place, "required": name in schema["required"], "schema": value}
        for name, value in schema["properties"].items()
    ]


def _name(method: HTTPMethod, path: str) -> str:
    """Name an operation: `get_session_payments_last`."""
    return re.sub(r"\W+", "_", method.lower() + path.removeprefix("/v1")).strip("_")


def _security(route: Route[Any]) -> dict[str, list[str]]:
    return {"key": [], "session": []} if route.in_session else {"key": []}


def _answer(status: HTTPStatus, model: type[BaseModel] | None, schemas: Schemas) -> dict[str, Any]:
    if model is None:
        return {"description": status.phrase}
    return {"description": status.phrase, "content": {JSON: {"schema": schemas[model]}}}


def _problems(route: Route[Any], schemas: Schemas) -> dict[str, Any]:
    by_status: dict[HTTPStatus, list[Problem]] = defaultdict(list)
    for problem in dict.fromkeys(_met_by(route)):
        by_status[problem.status].append(problem)
    return {
        str(status.value): {
            "description": "; ".join(_described(one) for one in found),
            **_retry_after(found),
            "content": {PROBLEM_JSON: {"schema": schemas[ProblemBody]}},
        }
        for status, found in sorted(by_status.items())
    }


def _met_by(route: Route[Any]) -> Iterable[Problem]:
    yield from EVERY_ROUTE
    yield from WITH_KEY if route.scope else ()
    yield from WITH_BODY if route.has_body else ()
    yield from (problems.INVALID,) if route.in_query else ()
    yield from CHANGING if route.changes else ()
    yield from (problems.SESSION_OVER,) if route.in_session else ()
    yield from route.problems


def _retry_after(found: Sequence[Problem]) -> dict[str, Any]:
    """Describe the header, if any of these problems, or all of them, come with it."""
    waits = [one.retry_after is not None for one in found]
    if not any(waits):
        return {}
    header = {
        "description": "seconds to wait before the request is sent again",
        "required": all(waits),
        "schema": {"type": "integer", "minimum": 1},
    }
    return {"headers": {"Retry-After": header}}


def _described(problem: Problem) -> str:
    return f"`{problem.name}`: {problem.title}" if problem.name else problem.status.phrase

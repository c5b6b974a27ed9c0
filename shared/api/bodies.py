"""Bodies of requests: strict JSON, and nothing that its description does not name."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from shared.api.problems import INVALID, NOT_FOUND, NOT_JSON, Fault, ProblemError

JSON = "application/json"
MOST_LEVELS = 8  # of objects and lists within one another


class Strict(BaseModel):
    """Base of the bodies: no other field, no value of another type, no value in an error."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


class NoBody(Strict):
    """What is asked for needs no body."""


B = TypeVar("B", bound=Strict)


def parse(model: type[B], body: bytes) -> B:
    """Read a body; ProblemError NOT_JSON or INVALID, which name fields of the model only."""
    return _validated(model, strict_json(body))


def parse_query(model: type[B], pairs: Sequence[tuple[str, str]]) -> B:
    """Read the query of an address, each name once; ProblemError INVALID, as for a body."""
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ProblemError(INVALID)
    return _validated(model, values)


def parse_path(model: type[B], values: Mapping[str, str]) -> B:
    """Read what a path names; ProblemError NOT_FOUND: what has another shape is no more there."""
    try:
        return model.model_validate(dict(values))
    except ValidationError:
        raise ProblemError(NOT_FOUND) from None


def _validated(model: type[B], value: object) -> B:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise ProblemError(INVALID, _faults(model, error)) from None


def strict_json(body: bytes) -> Any:
    """Read JSON (RFC 8259) in UTF-8 whose objects name nothing twice; ProblemError NOT_JSON."""
    try:
        value = json.loads(body.decode(), object_pairs_hook=_object, parse_constant=_refuse)
        if _levels(value) > MOST_LEVELS:
            raise ProblemError(NOT_JSON)
    except (ValueError, RecursionError):
        raise ProblemError(NOT_JSON) from None
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a name stands twice")
    return values


def _refuse(_constant: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


def _levels(value: object) -> int:
    match value:
        case dict():
            return 1 + max(map(_levels, value.values()), default=0)
        case list():
            return 1 + max(map(_levels, value), default=0)
    return 0


def _faults(model: type[Strict], error: ValidationError) -> list[Fault]:
    """Say what is wrong where; a name that is not the model's is the request's own: left out."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [
        Fault(
            field=".".join(str(part) for part in fault["loc"] if part in model.model_fields)
            or None,
            reason=fault["type"],
        )
        for fault in found
    ]

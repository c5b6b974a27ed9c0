"""One request, done on the store: plain blocking code, run in the pool."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from shared import idempotency
from shared.api import problems
from shared.api.bodies import Strict
from shared.api.problems import Fault, Problem, ProblemError, body_of
from shared.api.routes import Call, Route
from shared.bascule import StepMissingError
from shared.errors import ClosedError, NotAllowedError, SessionEndedError
from shared.idempotency import Answer, KeyReusedError, Request, UnderWayError

REFUSALS: Final[Mapping[type[Exception], Problem]] = {
    SessionEndedError: problems.SESSION_OVER,
    NotAllowedError: problems.NOT_ALLOWED,
    ClosedError: problems.CLOSED,
    StepMissingError: problems.STEP_MISSING,
}
"""What the store may refuse whoever asks."""


@dataclass(frozen=True)
class Incoming:
    """What a client sent, read and checked as far as it can be without the store."""

    call: Call
    body: Strict
    idempotency_key: str  # empty where nothing is changed
    content: str = field(repr=False)  # all that makes the request what it is


def perform(route: Route[Any], incoming: Incoming) -> Answer:
    """Do what is asked; once for each key, where it changes something. ProblemError."""
    call, asked = incoming.call, incoming.body
    if not route.changes:
        return _act(route, call, asked)
    request = Request(call.client, incoming.idempotency_key, incoming.content)
    named = replace(call, deed=idempotency.deed(call.store, request))
    try:
        return idempotency.once(call.store, request, lambda: _act(route, named, asked))
    except KeyReusedError:
        raise ProblemError(problems.KEY_REUSED) from None
    except UnderWayError:
        raise ProblemError(problems.UNDER_WAY) from None


def _act(route: Route[Any], call: Call, asked: Strict) -> Answer:
    """Call the handler. A refusal is an answer too, which a repeated request gets again."""
    try:
        answer = route.handle(call, asked)
    except ProblemError as error:
        return _refusal(error.problem, error.faults)
    except tuple(REFUSALS) as error:
        return _refusal(REFUSALS[type(error)])
    body = answer.content.model_dump_json() if answer.content is not None else ""
    return Answer(answer.status.value, body.encode())


def _refusal(problem: Problem, faults: Sequence[Fault] = ()) -> Answer:
    return Answer(problem.status.value, body_of(problem, faults))

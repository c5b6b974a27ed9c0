"""One request, done on the store: plain blocking code, run in the pool."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from shared import client_messages, idempotency
from shared.api import problems, routes
from shared.api.bodies import Strict
from shared.api.problems import Fault, Problem, ProblemError, body_of
from shared.api.routes import Call, Draft, Route
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

    @property
    def request(self) -> Request:
        """Give what is to be done once."""
        return Request(self.call.client, self.idempotency_key, self.content)

    @property
    def named(self) -> Call:
        """Give the call with the name of what it makes: done twice, it makes the same."""
        return replace(self.call, deed=idempotency.deed(self.call.store, self.request))


def perform(route: Route[Any], incoming: Incoming) -> Answer:
    """Do what is asked; once for each key, where it changes something. ProblemError."""
    if not route.changes:
        return _act(route, incoming.call, incoming.body)
    named = incoming.named
    try:
        return idempotency.once(
            named.store, incoming.request, lambda: _act(route, named, incoming.body)
        )
    except KeyReusedError:
        raise ProblemError(problems.KEY_REUSED) from None
    except UnderWayError:
        raise ProblemError(problems.UNDER_WAY) from None


def perform_all(draft: Draft[Any], incomings: Sequence[Incoming]) -> list[Answer | None]:
    """Do what is asked for the first time, whole with its answer or not at all.

    None for the rest, which was asked for before: `perform` knows its answer.
    """
    store = incomings[0].call.store
    drafts = [_drafted(draft, incoming) for incoming in incomings]
    asked = [(one.request, answer) for one, (answer, _) in zip(incomings, drafts, strict=True)]
    with store.database.begin() as transaction:
        first = idempotency.keep_first(store, transaction, asked)
        messages = [
            message for new, (_, message) in zip(first, drafts, strict=True) if new and message
        ]
        client_messages.put(store, transaction, messages)
    return [answer if new else None for new, (answer, _) in zip(first, drafts, strict=True)]


def _drafted(draft: Draft[Any], incoming: Incoming) -> tuple[Answer, Mapping[str, object] | None]:
    try:
        answer, message = draft(incoming.named, incoming.body)
    except ProblemError as error:
        return _refusal(error.problem, error.faults), None
    return _answer(answer), message


def _act(route: Route[Any], call: Call, asked: Strict) -> Answer:
    """Call the handler. A refusal is an answer too, which a repeated request gets again."""
    try:
        answer = route.handle(call, asked)
    except ProblemError as error:
        return _refusal(error.problem, error.faults)
    except tuple(REFUSALS) as error:
        return _refusal(REFUSALS[type(error)])
    return _answer(answer)


def _answer(answer: routes.Answer) -> Answer:
    body = answer.content.model_dump_json() if answer.content is not None else ""
    return Answer(answer.status.value, body.encode())


def _refusal(problem: Problem, faults: Sequence[Fault] = ()) -> Answer:
    return Answer(problem.status.value, body_of(problem, faults))

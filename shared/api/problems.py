"""What can be wrong with a request, as RFC 9457 problems. None repeats anything of the request."""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

from pydantic import BaseModel, Field

TAG = "tag:caf.fr,2021:svi:"  # RFC 4151: names a problem; nothing is to be fetched there
PROBLEM_JSON = "application/problem+json"


@dataclass(frozen=True)
class Problem:
    """One kind of problem; without a name of its own it says no more than its status."""

    status: HTTPStatus
    name: str = ""
    title: str = ""
    retry_after: int | None = None  # seconds


MALFORMED = Problem(HTTPStatus.BAD_REQUEST)
NOT_JSON = Problem(HTTPStatus.BAD_REQUEST, "not-json", "The body is not strict JSON in UTF-8")
NO_BODY_EXPECTED = Problem(
    HTTPStatus.BAD_REQUEST,
    "no-body-expected",
    "There is a body, or a query, where this operation takes none",
)
IDEMPOTENCY_KEY_MISSING = Problem(
    HTTPStatus.BAD_REQUEST,
    "idempotency-key-missing",
    "One Idempotency-Key of 16 to 64 letters, digits, - or _ is needed",
)
KEY_REFUSED = Problem(HTTPStatus.UNAUTHORIZED, "key-refused", "No API key that is good now")
SESSION_OVER = Problem(HTTPStatus.UNAUTHORIZED, "session-over", "No session that is open")
LOGIN_REFUSED = Problem(HTTPStatus.UNAUTHORIZED, "login-refused", "The login is refused")
PASSWORD_EXPIRED = Problem(
    HTTPStatus.UNAUTHORIZED, "password-expired", "The password is right, and expired"
)
CURRENT_REFUSED = Problem(
    HTTPStatus.UNAUTHORIZED, "current-password-refused", "The password to be changed is refused"
)
CODE_REFUSED = Problem(HTTPStatus.UNAUTHORIZED, "code-refused", "The code is refused")
SCOPE_LACKING = Problem(HTTPStatus.FORBIDDEN, "scope-lacking", "The API key may not do this")
CHANGE_FIRST = Problem(
    HTTPStatus.FORBIDDEN, "password-change-required", "The password must be changed first"
)
NOT_ALLOWED = Problem(HTTPStatus.FORBIDDEN, "not-allowed", "This person may not do this")
NOT_FOUND = Problem(HTTPStatus.NOT_FOUND)
METHOD_NOT_ALLOWED = Problem(HTTPStatus.METHOD_NOT_ALLOWED)
TOO_SLOW = Problem(HTTPStatus.REQUEST_TIMEOUT)
KEY_REUSED = Problem(
    HTTPStatus.CONFLICT,
    "idempotency-key-reused",
    "This Idempotency-Key was used for another request",
)
UNDER_WAY = Problem(
    HTTPStatus.CONFLICT,
    "idempotency-in-progress",
    "The request with this Idempotency-Key is being done",
    retry_after=1,
)
STEP_MISSING = Problem(HTTPStatus.CONFLICT, "step-missing", "A step before this one is not done")
NO_CONTACT = Problem(
    HTTPStatus.CONFLICT, "no-contact", "No such contact of the person is on file and trusted"
)
NAME_TAKEN = Problem(HTTPStatus.CONFLICT, "name-taken", "The client has a campaign of that name")
CAMPAIGN_STATE = Problem(
    HTTPStatus.CONFLICT, "campaign-state", "The campaign is in no state for this"
)
TASK_REUSED = Problem(
    HTTPStatus.CONFLICT, "task-reused", "Another request came with this task's id"
)
TOO_LARGE = Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
WRONG_TYPE = Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
EXPECTATION_FAILED = Problem(HTTPStatus.EXPECTATION_FAILED)
INVALID = Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", "The body is not as described")
PASSWORD_REFUSED = Problem(
    HTTPStatus.UNPROCESSABLE_ENTITY,
    "password-refused",
    "The password may not be chosen: the errors say why",
)
TOO_MANY = Problem(
    HTTPStatus.TOO_MANY_REQUESTS,
    "too-many-requests",
    "The client has too many requests under way",
    retry_after=1,
)
FAULT = Problem(HTTPStatus.INTERNAL_SERVER_ERROR)
CLOSED = Problem(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "closed",
    "An incident closes the service, this channel or this caisse",
)
DOWN = Problem(HTTPStatus.SERVICE_UNAVAILABLE, retry_after=5)


class Fault(BaseModel):
    """One thing that does not fit the description."""

    field: str | None = Field(None, description="a name of the description; none: one it lacks")
    reason: str = Field(description="a word for it, such as `missing` or `too-short`")


class ProblemBody(BaseModel):
    """The body of every answer from 400 on (RFC 9457)."""

    type: str = Field(description="the kind of problem, to be compared with")
    title: str = Field(description="the kind in words, for developers")
    status: int
    errors: list[Fault] | None = None


class ProblemError(Exception):
    """Ends a request with a problem."""

    def __init__(self, problem: Problem, faults: Sequence[Fault] = ()) -> None:
        super().__init__(problem.name or problem.status.phrase)
        self.problem = problem
        self.faults = faults


def body_of(problem: Problem, faults: Sequence[Fault] = ()) -> bytes:
    """Give the JSON of a problem."""
    body = ProblemBody(
        type=TAG + problem.name if problem.name else "about:blank",
        title=problem.title or problem.status.phrase,
        status=problem.status,
        errors=list(faults) or None,
    )
    return body.model_dump_json(exclude_none=True).encode()

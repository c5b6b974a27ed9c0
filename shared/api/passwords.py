"""The dossier's password: forgotten (R10, R11), and changed by its owner (R05, R07, R09)."""

from http import HTTPMethod, HTTPStatus
from typing import Literal

from pydantic import BaseModel

from shared import password_change
from shared.api import problems
from shared.api.bodies import Strict
from shared.api.fields import EightDigits, NewPassword
from shared.api.logins import Asking
from shared.api.problems import Fault, ProblemError
from shared.api.routes import Answer, Call, Route
from shared.apikeys import Scope
from shared.resets import request_password


class PasswordRequest(Asking):
    """The dossier of a person who forgot the password."""


class PasswordChange(Strict):
    """What the owner chose for the dossier (R02)."""

    password: EightDigits


class PasswordChoice(Strict):
    """What a person chose for the web (R14)."""

    password: NewPassword


class Accepted(BaseModel):
    """The same whatever was asked for, whether it exists or not (D04)."""

    status: Literal["accepted"] = "accepted"


def password_refused(*reasons: str) -> ProblemError:
    """Give the problem that says everything that is wrong with a password."""
    faults = [Fault(field="password", reason=reason) for reason in sorted(reasons)]
    return ProblemError(problems.PASSWORD_REFUSED, faults)


def _request_password(call: Call, body: PasswordRequest) -> Answer:
    request_password(call.store, body.caisse, body.number, body.origin(call.client))
    return Answer(HTTPStatus.ACCEPTED, Accepted())


def _change_password(call: Call, body: PasswordChange) -> Answer:
    fault = password_change.change(call.store, call.session(), body.password)
    if fault is not None:
        raise password_refused(fault)
    return Answer(HTTPStatus.NO_CONTENT)


ROUTES = (
    Route(
        method=HTTPMethod.POST,
        path="/v1/password-requests",
        summary="Have a new password sent, where the dossier allows it",
        handle=_request_password,
        request=PasswordRequest,
        answers={HTTPStatus.ACCEPTED: Accepted},
        scope=Scope.PASSWORDS,
        changes=True,
    ),
    Route(
        method=HTTPMethod.POST,
        path="/v1/session/password",
        summary="Change the password of the session's dossier",
        handle=_change_password,
        request=PasswordChange,
        answers={HTTPStatus.NO_CONTENT: None},
        problems=(problems.PASSWORD_REFUSED, problems.NOT_ALLOWED),
        scope=Scope.PASSWORDS,
        in_session=True,
        changes=True,
    ),
)

"""Passwords: the dossier's forgotten (R10, R11) or changed (R05, R07, R09), a person's changed."""

from http import HTTPMethod, HTTPStatus
from typing import Literal

from pydantic import BaseModel

from shared import password_change
from shared.api import problems
from shared.api.bodies import Strict
from shared.api.fields import Address, EightDigits, NewPassword, Password
from shared.api.logins import Asking
from shared.api.problems import Fault, ProblemError
from shared.api.routes import Answer, Call, Route
from shared.apikeys import Scope
from shared.credentials import Refusal
from shared.origin import Origin
from shared.password_change import OwnChange
from shared.resets import request_password


class PasswordRequest(Asking):
    """The dossier of a person who forgot the password."""


class PasswordChange(Strict):
    """What the owner chose for the dossier (R02)."""

    password: EightDigits


class PasswordChoice(Strict):
    """What a person chose for the web (R14)."""

    password: NewPassword


class OwnPasswordChange(PasswordChoice):
    """The one in force too, and what wrong ones are counted by."""

    current: Password
    client: Address


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


def _change_own_password(call: Call, body: OwnPasswordChange) -> Answer:
    session = call.session()
    origin = Origin.for_client(session.origin.channel, call.client, body.client)
    change = OwnChange(body.current, body.password)
    outcome = password_change.change_own(call.store, session, change, origin)
    if isinstance(outcome, Refusal):
        raise ProblemError(problems.CURRENT_REFUSED)
    if outcome:
        raise password_refused(*outcome)
    return Answer(HTTPStatus.NO_CONTENT)


ROUTES = (
    Route(
        method=HTTPMethod.POST,
        path="/v1/password-requests",
        summary="Have a new password sent, where the dossier allows it",
        handle=_request_password,
        request=PasswordRequest,
        answers={HTTPStatus.ACCEPTED: Accepted},
        problems=(problems.CLOSED,),
        scope=Scope.PASSWORDS,
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
    ),
    Route(
        method=HTTPMethod.POST,
        path="/v1/session/web-password",
        summary="Change the web password of the session's person (R07, R14)",
        handle=_change_own_password,
        request=OwnPasswordChange,
        answers={HTTPStatus.NO_CONTENT: None},
        problems=(
            problems.CURRENT_REFUSED,
            problems.PASSWORD_REFUSED,
            problems.NOT_ALLOWED,
            problems.CLOSED,
        ),
        scope=Scope.PASSWORDS,
        in_session=True,
    ),
)

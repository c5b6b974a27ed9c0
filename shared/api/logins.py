"""Logins with the dossier's number and password, and what a session then opens."""

from datetime import date
from http import HTTPMethod, HTTPStatus

from pydantic import BaseModel, Field

from shared import credentials, dossier, sessions
from shared.api import problems
from shared.api.bodies import NoBody
from shared.api.fields import CaisseCode, FromClient, Number, Password, WebChannel
from shared.api.problems import ProblemError
from shared.api.routes import Answer, Call, Route, SessionToken, encode_token
from shared.apikeys import Scope
from shared.credentials import Expired, Login, Refusal


def login_refused(why: Refusal | Expired) -> ProblemError:
    """Give the problem of a login that opened nothing."""
    match why:
        case Expired():
            return ProblemError(problems.PASSWORD_EXPIRED)
        case Refusal.CLOSED:
            return ProblemError(problems.CLOSED)
        case Refusal.REFUSED:
            return ProblemError(problems.LOGIN_REFUSED)


class Asking(FromClient):
    """A dossier, and who asks for it."""

    caisse: CaisseCode
    number: Number


class LoginRequest(Asking):
    """What a person gave to get in."""

    password: Password


class OpenedSession(BaseModel):
    """A session; its token is told once."""

    session: SessionToken
    must_change_password: bool = Field(description="until then nothing else is open (R09)")


class SessionView(BaseModel):
    """An open session."""

    channel: WebChannel
    must_change_password: bool


class PaymentView(BaseModel):
    """A payment."""

    paid_on: date
    cents: int = Field(description="of a euro")


class LastPayment(BaseModel):
    """The newest payment, or null while there is none (R32)."""

    payment: PaymentView | None


def _log_in(call: Call, body: LoginRequest) -> Answer:
    login = Login(body.caisse, body.number, body.password)
    opened = credentials.verify(call.store, login, body.origin(call.client))
    if isinstance(opened, Refusal | Expired):
        raise login_refused(opened)
    view = OpenedSession(
        session=encode_token(opened.token), must_change_password=opened.change_only
    )
    return Answer(HTTPStatus.CREATED, view)


def _show_session(call: Call, _: NoBody) -> Answer:
    session = call.session()
    view = {"channel": session.origin.channel, "must_change_password": session.change_only}
    return Answer(HTTPStatus.OK, SessionView.model_validate(view))


def _end_session(call: Call, _: NoBody) -> Answer:
    sessions.end(call.store, call.session())
    return Answer(HTTPStatus.NO_CONTENT)


def _last_payment(call: Call, _: NoBody) -> Answer:
    session = call.session()
    if session.change_only:
        raise ProblemError(problems.CHANGE_FIRST)
    payment = dossier.last_payment(call.store, session)
    if payment is None:
        return Answer(HTTPStatus.OK, LastPayment(payment=None))
    view = PaymentView(paid_on=payment.paid_on, cents=payment.cents)
    return Answer(HTTPStatus.OK, LastPayment(payment=view))


ROUTES = (
    Route(
        method=HTTPMethod.POST,
        path="/v1/logins",
        summary="Check a password and open a session",
        handle=_log_in,
        request=LoginRequest,
        answers={HTTPStatus.CREATED: OpenedSession},
        problems=(problems.LOGIN_REFUSED, problems.PASSWORD_EXPIRED, problems.CLOSED),
        scope=Scope.LOGINS,
    ),
    Route(
        method=HTTPMethod.GET,
        path="/v1/session",
        summary="Say whether the session is open, and for what",
        handle=_show_session,
        request=NoBody,
        answers={HTTPStatus.OK: SessionView},
        scope=Scope.SESSIONS,
        in_session=True,
    ),
    Route(
        method=HTTPMethod.GET,
        path="/v1/session/payments/last",
        summary="Read the newest payment of the session's dossier",
        handle=_last_payment,
        request=NoBody,
        answers={HTTPStatus.OK: LastPayment},
        problems=(problems.CHANGE_FIRST, problems.NOT_ALLOWED),
        scope=Scope.SESSIONS,
        in_session=True,
    ),
    Route(
        method=HTTPMethod.DELETE,
        path="/v1/session",
        summary="End the session",
        handle=_end_session,
        request=NoBody,
        answers={HTTPStatus.NO_CONTENT: None},
        scope=Scope.SESSIONS,
        in_session=True,
    ),
)

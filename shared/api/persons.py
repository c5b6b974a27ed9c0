"""Logins of persons: with NIR or provisional identifier and a password of their own (R18, R20)."""

from collections.abc import Sequence
from http import HTTPMethod, HTTPStatus
from uuid import UUID

from pydantic import BaseModel, Field

from shared import dossier, web_accounts
from shared.api import problems
from shared.api.fields import CaisseCode, OfPerson, Password
from shared.api.logins import login_refused
from shared.api.routes import Answer, Call, Route, SessionToken, encode_token
from shared.apikeys import Scope
from shared.credentials import Refusal
from shared.web_accounts import WebLogin


class PersonLogin(OfPerson):
    """What a person gave to get in."""

    password: Password


class DossierSession(BaseModel):
    """A session of one of the person's dossiers."""

    session: SessionToken
    dossier: UUID = Field(description="the same at every login; it is not the number")
    caisse: CaisseCode


class OpenedSessions(BaseModel):
    """One session for each open dossier, the one affiliated last first (D11)."""

    sessions: Sequence[DossierSession] = Field(min_length=1)


def _log_in(call: Call, body: PersonLogin) -> Answer:
    login = WebLogin(body.holder(), body.password)
    opened = web_accounts.verify(call.store, login, body.origin(call.client))
    if isinstance(opened, Refusal):
        raise login_refused(opened)
    views = [
        DossierSession(
            session=encode_token(session.token),
            dossier=session.account_id,
            caisse=dossier.caisse(call.store, session),
        )
        for session in opened
    ]
    return Answer(HTTPStatus.CREATED, OpenedSessions(sessions=views))


ROUTES = (
    Route(
        method=HTTPMethod.POST,
        path="/v1/person-logins",
        summary="Check a person's password and open a session for each dossier",
        handle=_log_in,
        request=PersonLogin,
        answers={HTTPStatus.CREATED: OpenedSessions},
        problems=(problems.LOGIN_REFUSED, problems.CLOSED),
        scope=Scope.LOGINS,
    ),
)

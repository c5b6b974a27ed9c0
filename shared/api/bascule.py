"""The bascule, step by step (R18): the first answer's session is for the steps after it only."""

from http import HTTPMethod, HTTPStatus
from uuid import UUID

from pydantic import BaseModel

from shared import bascule
from shared.api import problems
from shared.api.bodies import NoBody, Strict
from shared.api.fields import Address, Code, CodeRoute, FromClient, Nir, Password, Uuid
from shared.api.logins import login_refused
from shared.api.passwords import PasswordChoice, password_refused
from shared.api.problems import ProblemError
from shared.api.routes import Answer, Call, Route, SessionToken, encode_token
from shared.apikeys import Scope
from shared.credentials import Expired, Refusal
from shared.models import Route as MessageRoute
from shared.origin import Origin


class BasculeRequest(FromClient):
    """A person's NIR and the dossier's password, which the telephone has too."""

    nir: Nir
    password: Password


class OpenedSteps(BaseModel):
    """A session that opens the steps to come, and no dossier."""

    session: SessionToken


class CodeRequest(Strict):
    """Which contact of the person a code should go to."""

    route: CodeRoute


class SentCode(BaseModel):
    """What a code is entered with."""

    code_id: UUID


class ContactConfirmation(Strict):
    """The code that came, and what wrong ones are counted by."""

    code_id: Uuid
    code: Code
    client: Address


def _begin(call: Call, body: BasculeRequest) -> Answer:
    steps = bascule.begin(call.store, body.nir, body.password, body.origin(call.client))
    if isinstance(steps, Refusal | Expired):
        raise login_refused(steps)
    return Answer(HTTPStatus.CREATED, OpenedSteps(session=encode_token(steps.token)))


def _accept_terms(call: Call, _: NoBody) -> Answer:
    bascule.accept_terms(call.store, call.session())
    return Answer(HTTPStatus.NO_CONTENT)


def _choose_password(call: Call, body: PasswordChoice) -> Answer:
    faults = bascule.choose_password(call.store, call.session(), body.password)
    if faults:
        raise password_refused(*faults)
    return Answer(HTTPStatus.NO_CONTENT)


def _send_code(call: Call, body: CodeRequest) -> Answer:
    code_id = bascule.send_code(call.store, call.session(), MessageRoute(body.route))
    if code_id is None:
        raise ProblemError(problems.NO_CONTACT)
    return Answer(HTTPStatus.ACCEPTED, SentCode(code_id=code_id))


def _confirm_contact(call: Call, body: ContactConfirmation) -> Answer:
    session = call.session()
    origin = Origin.for_client(session.origin.channel, call.client, body.client)
    if not bascule.confirm_contact(call.store, session, body.code_id, body.code, origin):
        raise ProblemError(problems.CODE_REFUSED)
    return Answer(HTTPStatus.NO_CONTENT)


def _finish(call: Call, _: NoBody) -> Answer:
    bascule.finish(call.store, call.session())
    return Answer(HTTPStatus.NO_CONTENT)


ROUTES = (
    Route(
        method=HTTPMethod.POST,
        path="/v1/bascule",
        summary="Begin the bascule of a person: check the dossier's password",
        handle=_begin,
        request=BasculeRequest,
        answers={HTTPStatus.CREATED: OpenedSteps},
        problems=(problems.LOGIN_REFUSED, problems.PASSWORD_EXPIRED, problems.CLOSED),
        scope=Scope.BASCULE,
    ),
    Route(
        method=HTTPMethod.POST,
        path="/v1/bascule/terms",
        summary="Accept the terms of use",
        handle=_accept_terms,
        request=NoBody,
        answers={HTTPStatus.NO_CONTENT: None},
        scope=Scope.BASCULE,
        in_session=True,
    ),
    Route(
        method=HTTPMethod.POST,
        path="/v1/bascule/password",
        summary="Choose the password of the account to be made (R14)",
        handle=_choose_password,
        request=PasswordChoice,
        answers={HTTPStatus.NO_CONTENT: None},
        problems=(problems.PASSWORD_REFUSED, problems.STEP_MISSING),
        scope=Scope.BASCULE,
        in_session=True,
    ),
    Route(
        method=HTTPMethod.POST,
        path="/v1/bascule/codes",
        summary="Send a code to a contact of the person",
        handle=_send_code,
        request=CodeRequest,
        answers={HTTPStatus.ACCEPTED: SentCode},
        problems=(problems.NO_CONTACT, problems.STEP_MISSING),
        scope=Scope.BASCULE,
        in_session=True,
    ),
    Route(
        method=HTTPMethod.POST,
        path="/v1/bascule/confirmations",
        summary="Confirm the contact with the code that came",
        handle=_confirm_contact,
        request=ContactConfirmation,
        answers={HTTPStatus.NO_CONTENT: None},
        problems=(problems.CODE_REFUSED,),
        scope=Scope.BASCULE,
        in_session=True,
    ),
    Route(
        method=HTTPMethod.POST,
        path="/v1/bascule/account",
        summary="Make the account: from now on the person logs in with it (R23)",
        handle=_finish,
        request=NoBody,
        answers={HTTPStatus.NO_CONTENT: None},
        problems=(problems.STEP_MISSING,),
        scope=Scope.BASCULE,
        in_session=True,
    ),
)

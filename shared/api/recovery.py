"""What a person forgot: the password on the web (R12, R13), the provisional identifier (R22).

And a first provisional identifier, for who has no NIR to log in with (R20).

Whoever asks for whomever, the first answer is the same (D04).
"""

from http import HTTPMethod, HTTPStatus
from uuid import UUID

from pydantic import BaseModel, Field

from shared import provisional, recovery
from shared.api import problems
from shared.api.fields import (
    CaisseCode,
    Code,
    CodeRoute,
    ContactText,
    Day,
    FromClient,
    Name,
    Number,
    OfPerson,
    Uuid,
)
from shared.api.passwords import Accepted, PasswordChoice, password_refused
from shared.api.problems import ProblemError
from shared.api.routes import Answer, Call, Route, SessionToken, encode_token
from shared.apikeys import Scope
from shared.life_cycle import Key
from shared.models import Route as MessageRoute
from shared.people import PersonData
from shared.recovery import Claim


class RecoveryRequest(OfPerson):
    """Whose password was forgotten, and where a code should go."""

    birth_name: Name
    route: CodeRoute
    contact: ContactText = None


class AskedCode(BaseModel):
    """What a code is entered with, whether one was sent or not."""

    code_id: UUID


class RecoveryCode(FromClient):
    """The code that came."""

    code_id: Uuid
    code: Code


class OpenedRecovery(BaseModel):
    """A session that opens the choice of a password, and no dossier."""

    session: SessionToken


class IdentifierRequest(FromClient):
    """The civil status of a person who has a provisional identifier, or needs one."""

    surname: Name
    given_names: Name
    birth_date: Day = Field(repr=False)

    def person(self) -> PersonData:
        """Give what is looked for."""
        return PersonData(
            surname=self.surname, given_names=self.given_names, birth_date=self.birth_date
        )


class FirstIdentifier(IdentifierRequest):
    """The dossier too, which has the civil status on file."""

    caisse: CaisseCode
    number: Number


def _request(call: Call, body: RecoveryRequest) -> Answer:
    claim = Claim(body.holder(), body.birth_name, MessageRoute(body.route), body.contact)
    code_id = recovery.request(call.store, claim, body.origin(call.client))
    return Answer(HTTPStatus.ACCEPTED, AskedCode(code_id=code_id))


def _verify(call: Call, body: RecoveryCode) -> Answer:
    steps = recovery.verify(call.store, body.code_id, body.code, body.origin(call.client))
    if steps is None:
        raise ProblemError(problems.CODE_REFUSED)
    return Answer(HTTPStatus.CREATED, OpenedRecovery(session=encode_token(steps.token)))


def _choose_password(call: Call, body: PasswordChoice) -> Answer:
    faults = recovery.choose_password(call.store, call.session(), body.password)
    if faults:
        raise password_refused(*faults)
    return Answer(HTTPStatus.NO_CONTENT)


def _request_first(call: Call, body: FirstIdentifier) -> Answer:
    key = Key(body.caisse, body.number)
    provisional.request(call.store, key, body.person(), body.origin(call.client))
    return Answer(HTTPStatus.ACCEPTED, Accepted())


def _remind(call: Call, body: IdentifierRequest) -> Answer:
    provisional.remind(call.store, body.person(), body.origin(call.client))
    return Answer(HTTPStatus.ACCEPTED, Accepted())


ROUTES = (
    Route(
        method=HTTPMethod.POST,
        path="/v1/recovery",
        summary="Send a code to a contact on file, where everything given is right",
        handle=_request,
        request=RecoveryRequest,
        answers={HTTPStatus.ACCEPTED: AskedCode},
        problems=(problems.CLOSED,),
        scope=Scope.RECOVERY,
    ),
    Route(
        method=HTTPMethod.POST,
        path="/v1/recovery/verifications",
        summary="Check the code that came",
        handle=_verify,
        request=RecoveryCode,
        answers={HTTPStatus.CREATED: OpenedRecovery},
        problems=(problems.CODE_REFUSED, problems.CLOSED),
        scope=Scope.RECOVERY,
    ),
    Route(
        method=HTTPMethod.POST,
        path="/v1/recovery/password",
        summary="Choose the person's new password (R14)",
        handle=_choose_password,
        request=PasswordChoice,
        answers={HTTPStatus.NO_CONTENT: None},
        problems=(problems.PASSWORD_REFUSED,),
        scope=Scope.RECOVERY,
        in_session=True,
    ),
    Route(
        method=HTTPMethod.POST,
        path="/v1/identifiers",
        summary="Have a first provisional identifier sent, where the person has no NIR",
        handle=_request_first,
        request=FirstIdentifier,
        answers={HTTPStatus.ACCEPTED: Accepted},
        problems=(problems.CLOSED,),
        scope=Scope.RECOVERY,
    ),
    Route(
        method=HTTPMethod.POST,
        path="/v1/identifier-requests",
        summary="Have the provisional identifier sent again, where there is one",
        handle=_remind,
        request=IdentifierRequest,
        answers={HTTPStatus.ACCEPTED: Accepted},
        problems=(problems.CLOSED,),
        scope=Scope.RECOVERY,
    ),
)

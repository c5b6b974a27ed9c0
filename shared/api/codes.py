"""Contacts that a client has confirmed by a code, for purposes of its own (R15)."""

from http import HTTPMethod, HTTPStatus
from typing import Any, Self

from pydantic import ConfigDict, model_validator
from pydantic_core import PydanticCustomError

from shared import client_codes
from shared.api import problems
from shared.api.fields import Code, FromClient, MailOrNone, MobileOrNone, OwnPurpose, Uuid
from shared.api.problems import ProblemError
from shared.api.recovery import AskedCode
from shared.api.routes import Answer, Call, Route
from shared.apikeys import Scope
from shared.contacts import Contact
from shared.models import Route as MessageRoute

ONE_OF_TWO: dict[str, Any] = {
    "oneOf": [
        {"required": [given], "properties": {given: {"type": "string"}, other: {"type": "null"}}}
        for given, other in (("to", "mail"), ("mail", "to"))
    ]
}


class ContactCodeRequest(FromClient):
    """Which contact is to be confirmed, a mobile or a mail address, and what for."""

    model_config = ConfigDict(json_schema_extra=ONE_OF_TWO)

    purpose: OwnPurpose
    to: MobileOrNone = None
    mail: MailOrNone = None

    def contacts(self) -> list[Contact]:
        """Give what is to be confirmed."""
        by_route = ((MessageRoute.SMS, self.to), (MessageRoute.MAIL, self.mail))
        return [Contact(route, value) for route, value in by_route if value is not None]

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if len(self.contacts()) != 1:
            raise PydanticCustomError("not_one_contact", "either `to` or `mail`")
        return self


class ContactCodeEntry(FromClient):
    """The code that came."""

    code_id: Uuid
    code: Code
    purpose: OwnPurpose


def _request(call: Call, body: ContactCodeRequest) -> Answer:
    [contact] = body.contacts()
    code_id = client_codes.request(call.store, body.purpose, contact, body.origin(call.client))
    return Answer(HTTPStatus.ACCEPTED, AskedCode(code_id=code_id))


def _verify(call: Call, body: ContactCodeEntry) -> Answer:
    origin = body.origin(call.client)
    if not client_codes.verify(call.store, body.purpose, body.code_id, body.code, origin):
        raise ProblemError(problems.CODE_REFUSED)
    return Answer(HTTPStatus.NO_CONTENT)


ROUTES = (
    Route(
        method=HTTPMethod.POST,
        path="/v1/codes",
        summary="Send a code to a contact that the client wants confirmed",
        handle=_request,
        request=ContactCodeRequest,
        answers={HTTPStatus.ACCEPTED: AskedCode},
        problems=(problems.INVALID, problems.CLOSED),  # a number that takes no SMS
        scope=Scope.CODES,
    ),
    Route(
        method=HTTPMethod.POST,
        path="/v1/codes/verifications",
        summary="Check the code that came; it is good once",
        handle=_verify,
        request=ContactCodeEntry,
        answers={HTTPStatus.NO_CONTENT: None},
        problems=(problems.CODE_REFUSED, problems.CLOSED),
        scope=Scope.CODES,
    ),
)

"""Messages from templates of the installation's own: sent, followed, cancelled."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from http import HTTPMethod, HTTPStatus
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, Field

from shared import client_messages
from shared.api import problems
from shared.api.bodies import Strict
from shared.api.fields import Mobile, Uuid, VariableText
from shared.api.problems import Fault, ProblemError
from shared.api.routes import Answer, Call, Route
from shared.apikeys import Scope
from shared.client_messages import Order
from shared.models import Message, MessageState

LONGEST_TEMPLATE = 64


class MessageRequest(Strict):
    """One message: the template and what fills it, to whom, how long it may wait."""

    template: Annotated[str, Field(max_length=LONGEST_TEMPLATE, examples=["notice.rendez-vous"])]
    to: Mobile
    variables: Annotated[
        dict[str, VariableText],
        Field(
            repr=False,
            description="one for each of the template's",
            examples=[{"jour": "mardi 3 mai", "heure": "9 h 30"}],
        ),
    ]
    expires_in_minutes: Annotated[
        int,
        Field(ge=1, examples=[120], description="at most `message_hours` of the store's rules"),
    ]

    def order(self, longest: timedelta) -> Order:
        """Give what the store does; ProblemError if it may not wait for so long."""
        if self.expires_in_minutes > longest // timedelta(minutes=1):
            fault = Fault(field="expires_in_minutes", reason="too_long")
            raise ProblemError(problems.INVALID, [fault])
        life = timedelta(minutes=self.expires_in_minutes)
        return Order(self.template, self.to, self.variables, life)


class MessageTaken(BaseModel):
    """The message waits to be sent; follow it by its id."""

    id: UUID


class OneMessage(Strict):
    """Which message."""

    id: Uuid


class MessageView(BaseModel):
    """Where a message is; never what it says, nor to whom it goes."""

    id: UUID
    template: str
    state: MessageState
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None = Field(description="null until it has ended")


def _send(call: Call, body: MessageRequest) -> Answer:
    answer, message = _draft(call, body)
    with call.store.database.begin() as transaction:
        client_messages.put(call.store, transaction, [message])
    return answer


def _draft(call: Call, body: MessageRequest) -> tuple[Answer, Mapping[str, object]]:
    order = body.order(timedelta(hours=call.store.rules.reset.message_hours))
    misfits = call.texts.judge(order.template, order.variables)
    if misfits:
        faults = [Fault(field=misfit.where, reason=misfit.reason) for misfit in misfits]
        raise ProblemError(problems.INVALID, faults)
    message = client_messages.draft(call.store, call.client, order, call.deed)
    return Answer(HTTPStatus.ACCEPTED, MessageTaken(id=call.deed)), message


def _show(call: Call, asked: OneMessage) -> Answer:
    return _view(client_messages.find(call.store, call.client, asked.id))


def _cancel(call: Call, asked: OneMessage) -> Answer:
    return _view(client_messages.cancel(call.store, call.client, asked.id))


def _view(message: Message | None) -> Answer:
    if message is None:
        raise ProblemError(problems.NOT_FOUND)
    return Answer(HTTPStatus.OK, MessageView.model_validate(message, from_attributes=True))


ROUTES = (
    Route(
        method=HTTPMethod.POST,
        path="/v1/messages",
        summary="Send a message from a template of the installation's own",
        handle=_send,
        draft=_draft,
        request=MessageRequest,
        answers={HTTPStatus.ACCEPTED: MessageTaken},
        problems=(problems.INVALID,),  # a template, its variables
        scope=Scope.MESSAGES,
    ),
    Route(
        method=HTTPMethod.GET,
        path="/v1/messages/{id}",
        summary="Say where a message is",
        handle=_show,
        request=OneMessage,
        answers={HTTPStatus.OK: MessageView},
        problems=(problems.NOT_FOUND,),  # no message, or another client's
        scope=Scope.MESSAGES,
    ),
    Route(
        method=HTTPMethod.POST,
        path="/v1/messages/{id}/cancel",
        summary="Take a message back, as far as it can be",
        handle=_cancel,
        request=OneMessage,
        answers={HTTPStatus.OK: MessageView},
        problems=(problems.NOT_FOUND,),
        scope=Scope.MESSAGES,
    ),
)

"""Who wants no campaign: the web stack's page where people say so, and take it back (R24)."""

from http import HTTPMethod, HTTPStatus

from shared import opt_outs
from shared.api import problems
from shared.api.bodies import Strict
from shared.api.fields import MobileOrMail
from shared.api.routes import Answer, Call, Route
from shared.apikeys import Scope
from shared.contacts import Contact
from shared.models import Route as SentBy
from shared.opt_outs import Source


class OptOutRequest(Strict):
    """Which contact; whether it is in a dossier, or was told before, changes no answer."""

    contact: MobileOrMail

    def whom(self) -> Contact:
        """Give the contact as the store knows it."""
        return Contact(SentBy.MAIL if "@" in self.contact else SentBy.SMS, self.contact)


def _add(call: Call, asked: OptOutRequest) -> Answer:
    with call.store.database.write() as transaction:
        opt_outs.add(call.store, transaction, asked.whom(), Source.API)
    return Answer(HTTPStatus.NO_CONTENT)


def _remove(call: Call, asked: OptOutRequest) -> Answer:
    with call.store.database.write() as transaction:
        opt_outs.remove(call.store, transaction, asked.whom())
    return Answer(HTTPStatus.NO_CONTENT)


ROUTES = (
    Route(
        method=HTTPMethod.POST,
        path="/v1/opt-outs",
        summary="Send no campaign to a contact any more",
        handle=_add,
        request=OptOutRequest,
        answers={HTTPStatus.NO_CONTENT: None},
        problems=(problems.INVALID,),  # a number that takes no SMS
        scope=Scope.OPT_OUTS,
    ),
    Route(
        method=HTTPMethod.POST,
        path="/v1/opt-outs/remove",
        summary="Let campaigns come to a contact again",
        handle=_remove,
        request=OptOutRequest,
        answers={HTTPStatus.NO_CONTENT: None},
        problems=(problems.INVALID,),
        scope=Scope.OPT_OUTS,
    ),
)

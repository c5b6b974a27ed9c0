"""The one table of routes: the server serves it, the description describes it."""

from http import HTTPMethod, HTTPStatus
from typing import Any, Literal

from pydantic import BaseModel, RootModel
from sqlalchemy import select

from shared.api import (
    bascule,
    campaigns,
    changes,
    codes,
    incidents,
    logins,
    messages,
    opt_outs,
    passwords,
    persons,
    recovery,
    tasks,
)
from shared.api.bodies import NoBody
from shared.api.description import describe
from shared.api.routes import Answer, Call, Route


class Health(BaseModel):
    """The service answers, and so does its database."""

    status: Literal["up"] = "up"


class OpenApi(RootModel[dict[str, Any]]):
    """An OpenAPI 3.1 document."""


def _health(call: Call, _: NoBody) -> Answer:
    with call.store.database.read() as transaction:
        transaction.execute(select(1))
    return Answer(HTTPStatus.OK, Health())


def _describe(_call: Call, _: NoBody) -> Answer:
    return Answer(HTTPStatus.OK, OpenApi(describe(ROUTES)))


ROUTES: tuple[Route[Any], ...] = (
    *logins.ROUTES,
    *persons.ROUTES,
    *bascule.ROUTES,
    *recovery.ROUTES,
    *passwords.ROUTES,
    *changes.ROUTES,
    *tasks.ROUTES,
    *messages.ROUTES,
    *opt_outs.ROUTES,
    *codes.ROUTES,
    *campaigns.ROUTES,
    *incidents.ROUTES,
    Route(
        method=HTTPMethod.GET,
        path="/v1/health",
        summary="Say whether the store answers",
        handle=_health,
        request=NoBody,
        answers={HTTPStatus.OK: Health},
        scope=None,
    ),
    Route(
        method=HTTPMethod.GET,
        path="/v1/openapi.json",
        summary="Give this description",
        handle=_describe,
        request=NoBody,
        answers={HTTPStatus.OK: OpenApi},
        scope=None,
    ),
)

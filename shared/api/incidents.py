"""Incidents: what is closed, closing and opening, taking back what was done meanwhile (D15)."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from http import HTTPMethod, HTTPStatus
from typing import Literal

from pydantic import BaseModel, Field

from shared import incident, voiding
from shared.api import problems
from shared.api.bodies import NoBody, Strict
from shared.api.fields import AnyChannel, CaisseCode, IncidentScope, Instant
from shared.api.problems import Fault, ProblemError
from shared.api.routes import Answer, Call, Route
from shared.apikeys import Scope
from shared.origin import Origin
from shared.rules import Channel
from shared.voiding import ByHand, Concerned, Report, VoidResult, Window


class Scoped(Strict):
    """What is to be closed or opened."""

    scope: IncidentScope


class IncidentView(BaseModel):
    """An incident that is not lifted."""

    scope: IncidentScope
    since: datetime


class Standing(BaseModel):
    """What is closed, the oldest first."""

    incidents: Sequence[IncidentView]


class Closed(BaseModel):
    """What came of closing."""

    result: Literal["closed", "already-closed"]


class Opened(BaseModel):
    """What came of opening: people log in anew."""

    result: Literal["opened", "not-closed"]


class VoidRequest(Strict):
    """A window from `start` (included) to `end` (excluded), in one channel or caisse or all."""

    # Examples of their own: from an instant to the same one is no window.
    start: Instant = Field(examples=["2021-09-30T19:00:00Z"])
    end: Instant = Field(examples=["2021-10-01T06:00:00Z"])
    channel: AnyChannel | None = None
    caisse: CaisseCode | None = None
    except_password_changed_before: Instant | None = Field(
        None, description="leaves out who had chosen a web password by then (R39)"
    )

    def window(self, now: datetime) -> Window:
        """Give what the store voids; ProblemError if it ends before it begins, or is not over.

        One that goes on would take back what is issued in the place of what it revoked.
        """
        if self.end <= self.start:
            raise ProblemError(problems.INVALID, [Fault(field="end", reason="not_after_start")])
        if self.end > now:
            raise ProblemError(problems.INVALID, [Fault(field="end", reason="in_the_future")])
        channel = Channel(self.channel) if self.channel else None
        return Window(self.start, self.end, channel, self.caisse)


class PersonView(BaseModel):
    """A person of a dossier that was read or changed, who is to be told (R39)."""

    caisse: str
    number: str = Field(repr=False)
    role: str
    read: bool
    changed: bool
    first: datetime
    last: datetime

    @classmethod
    def of(cls, one: Concerned) -> "PersonView":
        """Describe a person."""
        return cls.model_validate(one, from_attributes=True)


class LeftView(BaseModel):
    """A change that a person has to look at; caisse and number are empty if it is no dossier's."""

    caisse: str
    number: str = Field(repr=False)
    event: str
    at: datetime

    @classmethod
    def of(cls, one: ByHand) -> "LeftView":
        """Describe a change."""
        return cls.model_validate(one, from_attributes=True)


class VoidReport(BaseModel):
    """How many changes came to what, whom to tell, and what is left for a person."""

    counts: Mapping[VoidResult, int]
    people: Sequence[PersonView]
    left: Sequence[LeftView]

    @classmethod
    def of(cls, report: Report) -> "VoidReport":
        """Describe a report."""
        return cls(
            counts={result: report.counts.get(result, 0) for result in VoidResult},
            people=[PersonView.of(one) for one in report.concerned],
            left=[LeftView.of(one) for one in report.by_hand],
        )


def _show(call: Call, _: NoBody) -> Answer:
    standing = incident.standing(call.store)
    views = [IncidentView(scope=one.scope, since=one.since) for one in standing]
    return Answer(HTTPStatus.OK, Standing(incidents=views))


def _raise(call: Call, body: Scoped) -> Answer:
    raised = incident.raise_incident(call.store, body.scope, _origin(call))
    return Answer(HTTPStatus.OK, Closed(result="closed" if raised else "already-closed"))


def _lift(call: Call, body: Scoped) -> Answer:
    lifted = incident.lift(call.store, body.scope, _origin(call))
    return Answer(HTTPStatus.OK, Opened(result="opened" if lifted else "not-closed"))


def _void(call: Call, body: VoidRequest) -> Answer:
    changed_before = body.except_password_changed_before
    window = body.window(call.store.clock())
    report = voiding.void_and_report(call.store, window, changed_before, origin=_origin(call))
    return Answer(HTTPStatus.OK, VoidReport.of(report))


def _origin(call: Call) -> Origin:
    """Say in the audit whose key it was."""
    return Origin(Channel.ADMIN, client=call.client)


ROUTES = (
    Route(
        method=HTTPMethod.GET,
        path="/v1/incidents",
        summary="Say what is closed, and since when",
        handle=_show,
        request=NoBody,
        answers={HTTPStatus.OK: Standing},
        scope=Scope.INCIDENTS,
    ),
    Route(
        method=HTTPMethod.POST,
        path="/v1/incidents",
        summary="Close the service, a channel or a caisse: its sessions end at once",
        handle=_raise,
        request=Scoped,
        answers={HTTPStatus.OK: Closed},
        scope=Scope.INCIDENTS,
    ),
    Route(
        method=HTTPMethod.POST,
        path="/v1/incidents/lift",
        summary="Open again what was closed",
        handle=_lift,
        request=Scoped,
        answers={HTTPStatus.OK: Opened},
        scope=Scope.INCIDENTS,
    ),
    Route(
        method=HTTPMethod.POST,
        path="/v1/incidents/void",
        summary="Take back what was changed in a window",
        handle=_void,
        request=VoidRequest,
        answers={HTTPStatus.OK: VoidReport},
        problems=(problems.INVALID,),  # a window that ends before it starts, or is not over
        scope=Scope.INCIDENTS,
    ),
)

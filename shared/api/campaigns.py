"""Campaigns: made, given recipients, started, followed, paused, cancelled (R24)."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from http import HTTPMethod, HTTPStatus
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from shared import campaigns, recipients
from shared.api import problems
from shared.api.bodies import Strict
from shared.api.fields import Uuid, VariableText
from shared.api.messages import LONGEST_TEMPLATE
from shared.api.problems import Fault, ProblemError
from shared.api.routes import Answer, Call, Route
from shared.apikeys import Scope
from shared.campaigns import FREE, NAME, Move, NameTakenError, NotNowError, Plan, Recipient
from shared.models import Campaign, CampaignState, MessageState
from shared.models import Route as Way
from shared.recipients import Given

MOST_RECIPIENTS = 1000  # in one request
LARGEST_BODY = 1024 * 1024  # bytes: so many, each with its variables
LONGEST_TEXT = 12_000


class CampaignRequest(Strict):
    """What a campaign says: a template's text, or one of its own (scope `campaign-texts`)."""

    name: Annotated[str, Field(pattern=f"^{NAME.pattern}$", examples=["rentree-2024"])]
    route: Literal["sms", "mail"]
    template: Annotated[
        Annotated[str, Field(max_length=LONGEST_TEMPLATE)] | None,
        Field(examples=["notice.message-a-lire"]),
    ] = None
    text: Annotated[str, Field(max_length=LONGEST_TEXT)] | None = None
    sender: Annotated[
        Annotated[str, Field(max_length=11)] | None,
        Field(description="of a template of the installation; else the template's own"),
    ] = None
    subject: Annotated[str, Field(max_length=60)] | None = None

    def plan(self) -> Plan:
        """Give what the store does."""
        template = self.template or FREE
        return Plan(self.name, Way(self.route), template, self.text, self.sender, self.subject)


class CampaignMade(BaseModel):
    """The campaign has no recipients yet; everything else goes by its id."""

    id: UUID


class RecipientGiven(Strict):
    """Who gets it, and what fills the template."""

    to: Annotated[str, Field(min_length=1, max_length=254, repr=False, examples=["+33612345678"])]
    variables: Annotated[dict[str, VariableText], Field(default_factory=dict, repr=False)]
    department: Annotated[
        Annotated[str, Field(max_length=3)] | None,
        Field(description="of a mail's recipient: 971 to 976 have other hours", examples=["974"]),
    ] = None


class RecipientsRequest(Strict):
    """Recipients of a campaign that was not started."""

    campaign: Uuid
    recipients: Annotated[
        list[RecipientGiven], Field(min_length=1, max_length=MOST_RECIPIENTS, repr=False)
    ]


class RecipientsAdded(BaseModel):
    """Who the campaign had before gets no second message."""

    added: int
    known: int


class OneCampaign(Strict):
    """Which campaign."""

    id: Uuid


class CampaignView(BaseModel):
    """Where a campaign is; never to whom it goes."""

    id: UUID
    name: str
    route: Way
    template: str
    state: CampaignState
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    messages: Mapping[MessageState, int] = Field(
        description="how many are in each state; `cancelled` are the opted-out too"
    )


def _create(call: Call, body: CampaignRequest) -> Answer:
    if body.text is not None and Scope.CAMPAIGN_TEXTS not in call.scopes:
        raise ProblemError(problems.SCOPE_LACKING)
    if body.text is not None and body.template is not None:
        raise ProblemError(problems.INVALID, [Fault(field="text", reason="extra_forbidden")])
    plan = body.plan()
    if misfits := call.texts.judge_plan(plan):
        raise ProblemError(
            problems.INVALID, [Fault(field=one.where, reason=one.reason) for one in misfits]
        )
    try:
        written = call.texts.written(plan)
        made = campaigns.create(call.store, call.client, written, campaign_id=call.deed)
    except NameTakenError:
        raise ProblemError(problems.NAME_TAKEN) from None
    return Answer(HTTPStatus.CREATED, CampaignMade(id=made.id))


def _add(call: Call, body: RecipientsRequest) -> Answer:
    campaign = _found(campaigns.find(call.store, call.client, body.campaign))
    everybody = list(_read(call, campaign, body.recipients))
    try:
        added = campaigns.add(call.store, campaign, everybody)
    except NotNowError:
        raise ProblemError(problems.CAMPAIGN_STATE) from None
    return Answer(HTTPStatus.OK, RecipientsAdded(added=added, known=len(everybody) - added))


def _read(call: Call, campaign: Campaign, given: Sequence[RecipientGiven]) -> list[Recipient]:
    """Read all recipients; ProblemError that says of each what is wrong with it."""
    plan = Plan(campaign.name, Way(campaign.route), campaign.template, campaign.text)
    found: list[Recipient] = []
    faults: list[Fault] = []
    for number, one in enumerate(given):
        read = recipients.read_one(call.texts, plan, Given(one.to, one.department, one.variables))
        if isinstance(read, Recipient):
            found.append(read)
        else:
            where = f"recipients.{number}"
            faults += [Fault(field=f"{where}.{bad.where}", reason=bad.reason) for bad in read]
    if faults:
        raise ProblemError(problems.INVALID, faults)
    return found


def _show(call: Call, asked: OneCampaign) -> Answer:
    return _view(call, campaigns.find(call.store, call.client, asked.id))


def _move(how: Move, call: Call, asked: OneCampaign) -> Answer:
    try:
        return _view(call, campaigns.move(call.store, call.client, asked.id, how))
    except NotNowError:
        raise ProblemError(problems.CAMPAIGN_STATE) from None


def _view(call: Call, campaign: Campaign | None) -> Answer:
    found = _found(campaign)
    where = campaigns.progress(call.store, found.id)
    columns = {
        name: getattr(found, name) for name in CampaignView.model_fields if name != "messages"
    }
    return Answer(HTTPStatus.OK, CampaignView(**columns, messages=where.by_state))


def _found(campaign: Campaign | None) -> Campaign:
    if campaign is None:
        raise ProblemError(problems.NOT_FOUND)
    return campaign


SUMMARIES: Mapping[Move, str] = {
    Move.START: "Send a campaign, by day where each recipient is",
    Move.PAUSE: "Hold what has not left, at once",
    Move.RESUME: "Go on with a campaign that is paused",
    Move.CANCEL: "End a campaign; its recipients are forgotten",
}

ROUTES: tuple[Route[Any], ...] = (
    Route(
        method=HTTPMethod.POST,
        path="/v1/campaigns",
        summary="Make a campaign, for now without recipients",
        handle=_create,
        request=CampaignRequest,
        answers={HTTPStatus.CREATED: CampaignMade},
        problems=(problems.INVALID, problems.NAME_TAKEN, problems.SCOPE_LACKING),
        scope=Scope.CAMPAIGNS,
    ),
    Route(
        method=HTTPMethod.POST,
        path="/v1/campaign-recipients",
        summary="Add recipients to a campaign that was not started: all of them, or none",
        handle=_add,
        request=RecipientsRequest,
        answers={HTTPStatus.OK: RecipientsAdded},
        problems=(problems.INVALID, problems.NOT_FOUND, problems.CAMPAIGN_STATE),
        scope=Scope.CAMPAIGNS,
        largest_body=LARGEST_BODY,
    ),
    Route(
        method=HTTPMethod.GET,
        path="/v1/campaigns/{id}",
        summary="Say where a campaign is",
        handle=_show,
        request=OneCampaign,
        answers={HTTPStatus.OK: CampaignView},
        problems=(problems.NOT_FOUND,),
        scope=Scope.CAMPAIGNS,
    ),
    *(
        Route(
            method=HTTPMethod.POST,
            path=f"/v1/campaigns/{{id}}/{how}",
            summary=summary,
            handle=partial(_move, how),
            request=OneCampaign,
            answers={HTTPStatus.OK: CampaignView},
            problems=(problems.NOT_FOUND, problems.CAMPAIGN_STATE),
            scope=Scope.CAMPAIGNS,
        )
        for how, summary in SUMMARIES.items()
    ),
)

"""Campaigns: the same message to many people, announcing a change or offering help (R24).

A recipient is a message from the start, sealed as any other and held. What feeds campaigns queues a
few at a time, within the recipient's hours, so that the outbox stays short and a pause acts at
once: every message is in one state, and no kill leaves one queued twice or forgotten.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import product
from typing import Any, Final, Protocol
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Select, bindparam, case, func, insert, select, update
from sqlalchemy.orm import Session as Transaction

from shared import audit, campaign_hours, opt_outs, outbox
from shared.client_messages import Misfit
from shared.clock import DAY
from shared.contacts import Contact
from shared.errors import StoreError
from shared.models import (
    UNDER_WAY,
    Campaign,
    CampaignState,
    Message,
    MessageState,
    Priority,
    Route,
)
from shared.origin import Origin
from shared.rules import Channel
from shared.store import Store

NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
ADMIN = ""  # the client of those that no API client made
FREE = "campaign"  # the template of messages that are of none
IN_OUTBOX = 500  # messages of campaigns that wait for a dispatcher at most, by each route
CLEARED = 1000  # messages ended in one transaction: codes are not to wait for it


class NameTakenError(StoreError):
    """There is a campaign of that name."""


class NotNowError(StoreError):
    """The campaign is in a state in which this can't be done."""


@dataclass(frozen=True)
class Plan:
    """What a campaign says: a template's text, or one of its own."""

    name: str
    route: Route
    template: str = FREE
    text: str | None = None
    sender: str | None = None  # in the place of the template's
    subject: str | None = None


@dataclass(frozen=True)
class Recipient:
    """Who gets it, and what fills it; repr hides both."""

    contact: Contact
    zone: str
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)


class Texts(Protocol):
    """What only the gateway's texts can say of messages that others want sent."""

    def judge(
        self, template: str, variables: Mapping[str, str], route: Route = Route.SMS
    ) -> Sequence[Misfit]:
        """Say why nobody can have such a message sent; nothing if one can."""

    def judge_plan(self, plan: Plan) -> Sequence[Misfit]:
        """Say why there can be no such campaign, whoever gets it."""

    def variables(self, plan: Plan) -> Collection[str]:
        """Give what each recipient's message is filled with."""

    def written(self, plan: Plan) -> Plan:
        """Give a plan with its own text as the route can carry it."""


class Move(StrEnum):
    """What is done to a campaign as a whole."""

    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"


@dataclass(frozen=True)
class _Step:
    begins: Collection[CampaignState]
    ends: CampaignState
    event: audit.Event


STEPS: Final[Mapping[Move, _Step]] = {
    Move.START: _Step({CampaignState.DRAFT}, CampaignState.RUNNING, "campaign-started"),
    Move.PAUSE: _Step({CampaignState.RUNNING}, CampaignState.PAUSED, "campaign-paused"),
    Move.RESUME: _Step({CampaignState.PAUSED}, CampaignState.RUNNING, "campaign-resumed"),
    Move.CANCEL: _Step(
        {
            CampaignState.LOADING,
            CampaignState.DRAFT,
            CampaignState.RUNNING,
            CampaignState.PAUSED,
        },
        CampaignState.CANCELLED,
        "campaign-cancelled",
    ),
}


@dataclass(frozen=True)
class Progress:
    """Where a campaign is: messages by state, those not sent by zone, and how many went lately."""

    by_state: Mapping[MessageState, int]
    waiting: Mapping[str, int]
    per_second: float

    @property
    def total(self) -> int:
        """How many recipients it has."""
        return sum(self.by_state.values())

    @property
    def left(self) -> int:
        """How many of them no message has gone to, nor is to stay without."""
        return sum(self.by_state.get(state, 0) for state in UNDER_WAY)


def create(
    store: Store,
    client: str,
    plan: Plan,
    *,
    loading: bool = False,
    campaign_id: UUID | None = None,
) -> Campaign:
    """Make a campaign, for now without recipients; NameTakenError.

    One that is there under the id given is given back: a request may be repeated.
    """
    campaign = Campaign(
        id=campaign_id or uuid4(),
        client=client,
        name=plan.name,
        route=plan.route,
        template=plan.template,
        text=plan.text,
        sender=plan.sender,
        subject=plan.subject,
        state=CampaignState.LOADING if loading else CampaignState.DRAFT,
        created_at=store.clock(),
    )
    with store.database.write() as transaction:
        store.database.lock(transaction, store.keys.index("lock", "campaigns"))
        known = transaction.scalar(_named(client, plan.name))
        if known is not None and known.id == campaign_id:
            return known
        if known is not None:
            raise NameTakenError
        transaction.add(campaign)
    return campaign


def add(store: Store, campaign: Campaign, recipients: Sequence[Recipient]) -> int:
    """Add recipients to a campaign that was not started; give how many are new to it.

    NotNowError if it was.
    """
    by_index = {one.contact.index(store.keys): one for one in recipients}
    rows = {index: _message(store, campaign, index, one) for index, one in by_index.items()}
    of_campaign = Message.campaign_id == campaign.id
    with store.database.write() as transaction:
        locked = transaction.get_one(Campaign, campaign.id, with_for_update=True)
        if locked.state not in (CampaignState.LOADING, CampaignState.DRAFT):
            raise NotNowError
        known = select(Message.destination_index).where(
            of_campaign, Message.destination_index.in_(rows)
        )
        new = rows.keys() - set(transaction.scalars(known))
        if new:
            transaction.execute(insert(Message), [rows[index] for index in new])
    return len(new)


def loaded(store: Store, campaign_id: UUID) -> None:
    """Say that the import is whole."""
    with store.database.write() as transaction:
        transaction.execute(
            update(Campaign)
            .where(Campaign.id == campaign_id, Campaign.state == CampaignState.LOADING)
            .values(state=CampaignState.DRAFT)
        )


def find(store: Store, client: str, which: UUID | str) -> Campaign | None:
    """Give a campaign of this client's by its id or its name; None if there is none."""
    with store.database.read() as transaction:
        return transaction.scalar(_of_client(client, which))


def every(store: Store) -> Sequence[Campaign]:
    """Give all campaigns, the newest last."""
    with store.database.read() as transaction:
        return transaction.scalars(select(Campaign).order_by(Campaign.created_at)).all()


def move(store: Store, client: str, campaign_id: UUID, how: Move) -> Campaign | None:
    """Start, pause, resume or cancel a campaign, and give it; None if the client has no such one.

    NotNowError if it is in no state for that. Done again, it changes nothing. What a cancelled one
    holds, `feed` ends.
    """
    step, now = STEPS[how], store.clock()
    with store.database.write() as transaction:
        campaign = transaction.scalar(_of_client(client, campaign_id).with_for_update())
        if campaign is None or campaign.state == step.ends:
            return campaign
        if campaign.state not in step.begins:
            raise NotNowError
        if how is Move.START:
            campaign.started_at = now
        _take(transaction, campaign, step, now)
    return campaign


def cancel_old(days: int, transaction: Transaction, now: datetime) -> bool:
    """Cancel a campaign made so long ago: recipients are not kept for good (D16).

    One at a time, each with what it has in the outbox; False if there is none.
    """
    step = STEPS[Move.CANCEL]
    old = select(Campaign).where(
        Campaign.created_at < now - days * DAY, Campaign.state.in_(step.begins)
    )
    campaign = transaction.scalar(old.limit(1).with_for_update())
    if campaign is None:
        return False
    _take(transaction, campaign, step, now)
    return True


def _take(transaction: Transaction, campaign: Campaign, step: _Step, now: datetime) -> None:
    """Bring a campaign to another state; the audit names it, after the client whose it is."""
    campaign.state = step.ends
    _take_back(transaction, campaign)
    origin = Origin(Channel.ADMIN, client=campaign.client or None)
    named = audit.named(campaign.name, origin)
    audit.note(transaction, step.event, now, origin, None, actor=named)


def progress(store: Store, campaign_id: UUID) -> Progress:
    """Say where a campaign is."""
    lately = store.clock() - _LATELY
    of_campaign = Message.campaign_id == campaign_id
    by_state = select(Message.state, func.count()).where(of_campaign).group_by(Message.state)
    by_zone = (
        select(Message.zone, func.count())
        .where(of_campaign, Message.state.in_([MessageState.HELD, MessageState.QUEUED]))
        .group_by(Message.zone)
    )
    gone = select(func.count()).where(
        of_campaign,
        Message.state.in_([MessageState.ACCEPTED, MessageState.DELIVERED]),
        Message.ended_at > lately,
    )
    with store.database.read() as transaction:
        return Progress(
            {MessageState(state): count for state, count in transaction.execute(by_state)},
            {zone: count for zone, count in transaction.execute(by_zone) if zone is not None},
            (transaction.scalar(gone) or 0) / _LATELY.total_seconds(),
        )


def feed(store: Store) -> int:
    """Queue messages of running campaigns whose recipients' hours these are; give how many.

    Several may do so at once. What was cancelled is forgotten; what is over is said to be.
    """
    with store.database.read() as transaction:
        active = transaction.execute(_ACTIVE).all()
    for campaign in active:
        if campaign.state == CampaignState.CANCELLED:
            _clear(store, campaign.id)
    fed = _queue(store) if active else 0
    if active and not fed:
        _end(store, [campaign.id for campaign in active])
    return fed


def _queue(store: Store) -> int:
    """Fill the outbox up: of all campaigns first those whose hours end first."""
    now = store.clock()
    hours = campaign_hours.open_zones(store.rules.campaign, now)
    fed = 0
    with store.database.write() as transaction:
        opt_outs.hold(store, transaction)
        # Shared: whoever pauses one waits for us, and finds what we queued.
        running = transaction.execute(_RUNNING.with_for_update(read=True)).all()
        for route in {campaign.route for campaign in running}:
            room = IN_OUTBOX - (transaction.scalar(_IN_OUTBOX, {"route": route, "now": now}) or 0)
            of_route = [campaign.id for campaign in running if campaign.route == route]
            for (zone, closes), campaign in product(hours.items(), of_route):
                if room > 0:
                    wanted = {"campaign": campaign, "zone": zone, "limit": room, "now": now}
                    rows = transaction.execute(_NEXT, wanted).all()
                    queued = _queue_rows(transaction, rows, now, closes)
                    fed, room = fed + queued, room - queued
        if fed:
            outbox.announce(store, transaction.connection())
    return fed


def _queue_rows(
    transaction: Transaction, rows: Sequence[Any], now: datetime, closes: datetime
) -> int:
    """Queue messages until their day's hours end, but for those whose recipient opted out."""
    if not rows:
        return 0
    out = opt_outs.opted_out(transaction, [row.destination_index for row in rows])
    unwanted = [row.id for row in rows if row.destination_index in out]
    if unwanted:
        outbox.end(transaction, now, MessageState.CANCELLED, Message.id.in_(unwanted))
    wanted = [row.id for row in rows if row.destination_index not in out]
    values = {"ids": wanted, "now": now, "closes": closes}
    transaction.connection().execute(_QUEUE, values)
    return len(wanted)


def _take_back(transaction: Transaction, campaign: Campaign) -> None:
    """Hold what no dispatcher has, unless the campaign runs."""
    if campaign.state != CampaignState.RUNNING:
        transaction.execute(
            update(Message)
            .where(Message.campaign_id == campaign.id, Message.state == MessageState.QUEUED)
            .values(state=MessageState.HELD)
        )


def _clear(store: Store, campaign_id: UUID) -> None:
    """End some of what a cancelled campaign holds."""
    held = (
        select(Message.id)
        .where(Message.campaign_id == campaign_id, Message.state == MessageState.HELD)
        .limit(CLEARED)
        .with_for_update(skip_locked=True)
    )
    with store.database.write() as transaction:
        ids = transaction.scalars(held).all()
        outbox.end(transaction, store.clock(), MessageState.CANCELLED, Message.id.in_(ids))


def _end(store: Store, ids: Collection[UUID]) -> None:
    """End the campaigns of which nothing is under way any more."""
    under_way = select(Message.id).where(
        Message.campaign_id == Campaign.id, Message.state.in_(UNDER_WAY)
    )
    ended = case(
        (Campaign.state == CampaignState.RUNNING, CampaignState.ENDED), else_=Campaign.state
    )
    with store.database.write() as transaction:
        transaction.execute(
            update(Campaign)
            .where(Campaign.id.in_(ids), _MOVING, ~under_way.exists())
            .values(state=ended, ended_at=store.clock()),
            execution_options={"synchronize_session": False},
        )


def _message(store: Store, campaign: Campaign, index: bytes, one: Recipient) -> dict[str, Any]:
    """Write a message; to seal it takes longer than to store it, and is done before."""
    message_id, now = uuid4(), store.clock()
    if campaign.text is None:
        column, said, subject = "content", json.dumps(dict(one.variables)), campaign.subject
    else:  # there is no template to ask for what it lacks
        column, said, subject = "text", campaign.text, campaign.subject or ""
    return {
        "id": message_id,
        "campaign_id": campaign.id,
        "route": campaign.route,
        "template": campaign.template,
        "sender": campaign.sender,
        "subject": subject,
        "priority": Priority.CAMPAIGN,
        "known_caller": False,
        "destination_index": index,
        "destination_sealed": outbox.seal(store, message_id, "destination", one.contact.value),
        f"{column}_sealed": outbox.seal(store, message_id, column, said),
        "zone": one.zone,
        "state": MessageState.HELD,
        "created_at": now,
        "next_at": now,
        "expires_at": now + timedelta(days=store.rules.retention.campaign_days),
    }


def _named(client: str, name: str) -> Select[Campaign]:
    return select(Campaign).where(Campaign.client == client, Campaign.name == name)


def _of_client(client: str, which: UUID | str) -> Select[Campaign]:
    if isinstance(which, str):
        return _named(client, which)
    return select(Campaign).where(Campaign.id == which, Campaign.client == client)


_LATELY = timedelta(minutes=1)
_MOVING: ColumnElement[bool] = Campaign.state.in_(
    [CampaignState.RUNNING, CampaignState.CANCELLED]
) & Campaign.ended_at.is_(None)

# The statements of what feeds campaigns, built once.

_ACTIVE = select(Campaign.id, Campaign.route, Campaign.state).where(_MOVING)
_RUNNING = (
    select(Campaign.id, Campaign.route)
    .where(Campaign.state == CampaignState.RUNNING)
    .order_by(Campaign.started_at)
)
# What a provider refused for now takes its place too: while it takes nothing, nothing is added.
_of_route = select(func.count()).where(
    Message.priority == Priority.CAMPAIGN, Message.route == bindparam("route")
)
_IN_OUTBOX = select(
    _of_route.where(Message.state == MessageState.QUEUED).scalar_subquery()
    + _of_route.where(
        Message.state == MessageState.HELD,
        Message.failures > 0,
        Message.next_at > bindparam("now"),
    ).scalar_subquery()
)
_NEXT = (
    select(Message.id, Message.destination_index)
    .where(
        Message.campaign_id == bindparam("campaign"),
        Message.state == MessageState.HELD,
        Message.zone == bindparam("zone"),
        Message.next_at <= bindparam("now"),
    )
    .limit(bindparam("limit"))
    .with_for_update(skip_locked=True)
)
_QUEUE = (  # its wait for a dispatcher begins now
    update(Message)
    .where(Message.id.in_(bindparam("ids", expanding=True)))
    .values(
        state=MessageState.QUEUED,
        created_at=bindparam("now"),
        next_at=bindparam("now"),
        expires_at=bindparam("closes"),
    )
)

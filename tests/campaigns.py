"""What tests of campaigns are written with."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select

from shared import campaigns
from shared.campaign_hours import zone_of_number
from shared.campaigns import Move, Plan, Recipient
from shared.contacts import Contact
from shared.models import Campaign, CampaignState, Message, MessageState, Route
from shared.store import Store

NOBODY = ""  # the client of campaigns that admins make
WHEN = {"jour": "mardi 3 août", "heure": "9 h 30"}
PLAN = Plan("rentree", Route.SMS, "notice.rendez-vous")
REUNION = "+262692123456"


def mobiles(count: int) -> list[str]:
    return [f"+336{number:08}" for number in range(12_000_000, 12_000_000 + count)]


def recipient(mobile: str, **variables: str) -> Recipient:
    return Recipient(Contact(Route.SMS, mobile), zone_of_number(mobile), variables or WHEN)


def draft(store: Store, numbers: Sequence[str], plan: Plan = PLAN) -> UUID:
    """Make a campaign with these recipients."""
    made = campaigns.create(store, NOBODY, plan)
    campaigns.add(store, made, [recipient(number) for number in numbers])
    return made.id


def started(store: Store, numbers: Sequence[str], plan: Plan = PLAN) -> UUID:
    campaign_id = draft(store, numbers, plan)
    move(store, campaign_id, Move.START)
    return campaign_id


def move(store: Store, campaign_id: UUID, how: Move) -> CampaignState:
    moved = campaigns.move(store, NOBODY, campaign_id, how)
    assert moved is not None
    return CampaignState(moved.state)


def campaign(store: Store, campaign_id: UUID) -> Campaign:
    with store.database.read() as transaction:
        return transaction.get_one(Campaign, campaign_id)


def messages(store: Store, campaign_id: UUID) -> Sequence[Message]:
    of_campaign = select(Message).where(Message.campaign_id == campaign_id)
    with store.database.read() as transaction:
        return transaction.scalars(of_campaign).all()


def states(store: Store, campaign_id: UUID) -> dict[MessageState, int]:
    """Count the messages of a campaign by state."""
    by_state = campaigns.progress(store, campaign_id).by_state
    return {MessageState(state): count for state, count in by_state.items()}

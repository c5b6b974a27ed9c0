"""Campaigns (R24): fed a little at a time, within people's hours, paused and cancelled at once."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import count
from uuid import UUID

import pytest
from sqlalchemy import select

from shared import campaigns, opt_outs, outbox, retention
from shared.campaigns import FREE, IN_OUTBOX, Move, NameTakenError, NotNowError, Plan, Recipient
from shared.contacts import Contact
from shared.errors import StoreDownError, StoreError
from shared.models import (
    AuditEntry,
    Campaign,
    CampaignState,
    Message,
    MessageState,
    Priority,
    Route,
)
from shared.outbox import Report, Result
from shared.store import Store
from sms.templates import Templates
from tests.campaigns import (
    NOBODY,
    PLAN,
    REUNION,
    WHEN,
    campaign,
    draft,
    messages,
    mobiles,
    move,
    recipient,
    started,
    states,
)
from tests.gateway import queue
from tests.store import FakeClock, cut_after, execute

HELD, QUEUED, SENDING = MessageState.HELD, MessageState.QUEUED, MessageState.SENDING
CANCELLED, ACCEPTED = MessageState.CANCELLED, MessageState.ACCEPTED
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
RETRY = Report(Result.RETRY, "429")
RENDER = Templates.load().render


def claims(store: Store, limit: int = 1000) -> list[outbox.Claim]:
    return outbox.claim(store, "moody", RENDER, limit)


def send(store: Store, limit: int = 1000) -> list[outbox.Claim]:
    """Send as a dispatcher does, with success."""
    claimed = claims(store, limit)
    for one in claimed:
        outbox.finish(store, one, Report(Result.ACCEPTED, provider_id="SM1"), 0)
    return claimed


# What is fed, and how much


def test_nothing_leaves_before_the_start(store: Store) -> None:
    drafted = draft(store, mobiles(3))
    assert campaigns.feed(store) == 0
    assert states(store, drafted) == {HELD: 3}
    assert claims(store) == []


def test_started_it_is_fed_and_everybody_gets_one_message(store: Store) -> None:
    numbers = mobiles(3)
    running = started(store, numbers)
    assert campaigns.feed(store) == 3
    sent = send(store)
    assert sorted(claim.destination for claim in sent) == sorted(numbers)
    assert sent[0].text.reveal().startswith("Caf : vous avez rendez-vous mardi 3 aout à 9 h 30.")
    assert campaigns.feed(store) == 0
    assert claims(store) == []
    assert campaign(store, running).state == CampaignState.ENDED
    assert campaign(store, running).ended_at == store.clock()


def test_the_outbox_holds_few_of_them(store: Store) -> None:
    running = started(store, mobiles(IN_OUTBOX + 7))
    assert campaigns.feed(store) == IN_OUTBOX
    assert campaigns.feed(store) == 0
    send(store, 5)
    assert campaigns.feed(store) == 5
    assert states(store, running) == {HELD: 2, QUEUED: IN_OUTBOX, ACCEPTED: 5}


def test_a_provider_that_takes_nothing_is_given_no_more(store: Store, clock: FakeClock) -> None:
    """Else the whole campaign would be tried in vain, again and again."""
    running = started(store, mobiles(IN_OUTBOX + 7))
    campaigns.feed(store)
    for claim in claims(store):
        outbox.finish(store, claim, RETRY, 60)
    assert campaigns.feed(store) == 0
    clock.advance(timedelta(seconds=60))
    assert campaigns.feed(store) == IN_OUTBOX
    assert states(store, running) == {HELD: 7, QUEUED: IN_OUTBOX}


def test_one_that_was_refused_for_now_comes_again_after_its_wait(
    store: Store, clock: FakeClock
) -> None:
    running = started(store, mobiles(2))
    campaigns.feed(store)
    for claim in claims(store):
        outbox.finish(store, claim, RETRY, 60)
    assert campaigns.feed(store) == 0
    assert states(store, running) == {HELD: 2}
    clock.advance(timedelta(seconds=60))
    assert campaigns.feed(store) == 2


def test_mails_that_wait_for_their_server_do_not_hold_up_sms(store: Store) -> None:
    plan = Plan("courriels", Route.MAIL, text="Bonjour", sender="Caf", subject="Du nouveau")
    mails = campaigns.create(store, NOBODY, plan)
    addresses = [Contact(Route.MAIL, f"a{n}@exemple.fr") for n in range(IN_OUTBOX + 1)]
    everybody = [Recipient(address, "Europe/Paris") for address in addresses]
    campaigns.add(store, mails, everybody)
    move(store, mails.id, Move.START)
    assert campaigns.feed(store) == IN_OUTBOX
    started(store, mobiles(2))
    assert campaigns.feed(store) == 2


def test_codes_and_notices_overtake_a_campaign_that_drains(store: Store, clock: FakeClock) -> None:
    """Whatever was there first: by order, so that no clock is needed to see it."""
    started(store, mobiles(50))
    campaigns.feed(store)
    for _ in range(5):
        clock.advance(timedelta(seconds=1))
        ours = {queue(store, priority=priority): priority for priority in list(Priority)[:3]}
        found = [claim.message_id for claim in claims(store, 4)]
        assert [ours.get(one) for one in found] == [*ours.values(), None]


def test_a_contact_gets_one_message_of_a_campaign(store: Store) -> None:
    """Twice in one file, or in two: and one of each campaign all the same."""
    first, second, third = mobiles(3)
    drafted = draft(store, [first, second, first])
    again = campaigns.add(store, campaign(store, drafted), [recipient(second), recipient(third)])
    assert again == 1
    assert states(store, drafted) == {HELD: 3}
    other = draft(store, [first], Plan("autre", Route.SMS, "notice.rendez-vous"))
    assert states(store, other) == {HELD: 1}


def test_the_database_itself_refuses_a_second_message_to_a_contact(store: Store) -> None:
    [one] = messages(store, draft(store, mobiles(1)))
    twin = {column.key: getattr(one, column.key) for column in Message.__table__.columns}
    with pytest.raises(StoreError, match="contrainte"):
        execute(store, lambda transaction: transaction.add(Message(**twin | {"id": UUID(int=1)})))


def test_neither_recipient_nor_content_is_shown_or_left_in_clear(store: Store) -> None:
    """D13: nor anything of them once the message has gone (D16)."""
    [number] = mobiles(1)
    running = started(store, [number])
    [held] = messages(store, running)
    content = outbox.opened(store, held, "content")
    assert json.loads(content) == WHEN
    kept = b"".join(value for value in vars(held).values() if isinstance(value, bytes))
    for personal in (number, number[3:], *WHEN.values()):
        assert personal not in repr(recipient(number))
        assert personal.encode() not in kept
    campaigns.feed(store)
    send(store)
    [gone] = messages(store, running)
    assert (gone.destination_sealed, gone.content_sealed, gone.text_sealed) == (None, None, None)


def test_a_text_of_its_own_goes_out_under_the_sender_given(store: Store) -> None:
    plan = Plan("texte", Route.SMS, text="Bonjour à tous", sender="Caf92")
    text = campaigns.create(store, NOBODY, plan)
    campaigns.add(store, text, [recipient(mobiles(1)[0])])
    move(store, text.id, Move.START)
    campaigns.feed(store)
    [claim] = claims(store)
    assert (claim.template, claim.text.reveal(), claim.sender) == (FREE, "Bonjour à tous", "Caf92")


# Hours


def test_each_is_written_to_by_day_where_it_is(store: Store, clock: FakeClock) -> None:
    """At 6:30 in Paris it is 9:30 in La Réunion; at 21:00 in Paris midnight there."""
    paris, *_ = mobiles(1)
    clock.now = clock.now.replace(hour=5, minute=30)
    started(store, [paris, REUNION])
    assert campaigns.feed(store) == 1
    assert [claim.destination for claim in send(store)] == [REUNION]
    clock.now = clock.now.replace(hour=7, minute=0)
    assert campaigns.feed(store) == 1
    assert [claim.destination for claim in send(store)] == [paris]


def test_whose_hours_end_first_are_written_to_first(
    store: Store, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a campaign that fills the outbox in Paris would leave La Réunion for the next day."""
    monkeypatch.setattr(campaigns, "IN_OUTBOX", 1)
    clock.now = clock.now.replace(hour=16)  # it is 20:30 there
    [paris] = mobiles(1)
    cayenne = "+594694201234"
    started(store, [cayenne, paris, REUNION])
    order = []
    for _ in range(3):
        campaigns.feed(store)
        order += [claim.destination for claim in send(store)]
    assert order == [REUNION, paris, cayenne]


def test_so_they_are_whichever_campaign_began_first(
    store: Store, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the first one, in Paris, would leave those of the second in La Réunion for tomorrow."""
    monkeypatch.setattr(campaigns, "IN_OUTBOX", 1)
    clock.now = clock.now.replace(hour=16)  # it is 20:30 there
    first, second = mobiles(2)
    started(store, [first])
    clock.advance(timedelta(seconds=1))
    started(store, [second, REUNION], replace(PLAN, name="suite"))
    order = []
    for _ in range(3):
        campaigns.feed(store)
        order += [claim.destination for claim in send(store)]
    assert order == [REUNION, first, second]


def test_what_is_left_in_the_evening_waits_for_the_morning(store: Store, clock: FakeClock) -> None:
    """Tried in vain or not: all of it surely did not go."""
    running = started(store, mobiles(2))
    clock.now = clock.now.replace(hour=20, minute=29)
    campaigns.feed(store)
    [tried] = claims(store, 1)
    outbox.finish(store, tried, RETRY, 30)
    clock.advance(timedelta(minutes=1))
    campaigns.feed(store)
    outbox.recover(store)
    assert claims(store) == []
    assert states(store, running) == {HELD: 2}
    clock.now = (clock.now + DAY).replace(hour=7, minute=0)
    assert campaigns.feed(store) == 2
    assert len(send(store)) == 2
    assert campaigns.feed(store) == 0
    assert campaign(store, running).state == CampaignState.ENDED


def test_the_keys_of_what_waits_are_kept(store: Store, clock: FakeClock) -> None:
    """D16: a key of the day goes when no message needs it; a recipient waits for weeks."""
    waiting, over = draft(store, mobiles(1)), started(store, mobiles(1), Plan("b", Route.SMS, FREE))
    day = clock.now.date()
    move(store, over, Move.CANCEL)
    campaigns.feed(store)
    clock.advance(9 * DAY)
    retention.drop_day_keys(store)
    assert day in store.keys.days.days()
    move(store, waiting, Move.CANCEL)
    campaigns.feed(store)
    retention.drop_day_keys(store)
    assert day not in store.keys.days.days()


def test_the_key_of_what_is_left_in_the_evening_is_kept(store: Store, clock: FakeClock) -> None:
    """Its day's hours are over and no dispatcher was there to say so: it goes the next day."""
    running = draft(store, mobiles(1))
    clock.advance(9 * DAY)
    move(store, running, Move.START)
    campaigns.feed(store)
    clock.now = clock.now.replace(hour=20, minute=30)
    assert states(store, running) == {QUEUED: 1}
    retention.drop_day_keys(store)
    outbox.recover(store)
    clock.now = (clock.now + DAY).replace(hour=7, minute=0)
    campaigns.feed(store)
    assert [claim.destination for claim in send(store)] == mobiles(1)


# Pause, resume, cancel


def waits(_: Store) -> None:
    pass


def is_queued(store: Store) -> None:
    campaigns.feed(store)


def was_refused_for_now(store: Store) -> None:
    campaigns.feed(store)
    for claim in claims(store):
        outbox.finish(store, claim, RETRY, 0)


BEFORE = {"held": waits, "queued": is_queued, "refused for now": was_refused_for_now}


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
def test_paused_nothing_leaves_and_resumed_everything_does_once(
    store: Store, before: Callable[[Store], None]
) -> None:
    running = started(store, mobiles(3))
    before(store)
    assert move(store, running, Move.PAUSE) == CampaignState.PAUSED
    assert campaigns.feed(store) == 0
    assert claims(store) == []
    assert states(store, running) == {HELD: 3}
    assert move(store, running, Move.RESUME) == CampaignState.RUNNING
    assert campaigns.feed(store) == 3
    assert len({claim.destination for claim in send(store)}) == 3
    assert campaigns.feed(store) == 0
    assert claims(store) == []


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
def test_cancelled_nothing_leaves_and_nothing_of_it_is_kept(
    store: Store, before: Callable[[Store], None]
) -> None:
    running = started(store, mobiles(3))
    before(store)
    assert move(store, running, Move.CANCEL) == CampaignState.CANCELLED
    campaigns.feed(store)
    assert claims(store) == []
    assert states(store, running) == {CANCELLED: 3}
    assert all(one.destination_sealed is None for one in messages(store, running))
    assert campaign(store, running).ended_at == store.clock()


@pytest.mark.parametrize("how", [Move.PAUSE, Move.CANCEL])
def test_what_a_dispatcher_has_at_that_moment_is_not_tried_again(store: Store, how: Move) -> None:
    """Accepted, it has gone. Refused for now, it is held, or ends with its campaign."""
    running = started(store, mobiles(2))
    campaigns.feed(store)
    gone, refused = claims(store)
    move(store, running, how)
    outbox.finish(store, gone, Report(Result.ACCEPTED, provider_id="SM1"), 0)
    outbox.finish(store, refused, RETRY, 0)
    campaigns.feed(store)
    assert claims(store) == []
    assert states(store, running) == {ACCEPTED: 1, HELD if how is Move.PAUSE else CANCELLED: 1}
    ended = campaign(store, running).ended_at
    assert (ended is not None) == (how is Move.CANCEL)


ALLOWED = {
    CampaignState.LOADING: {Move.CANCEL: CampaignState.CANCELLED},
    CampaignState.DRAFT: {
        Move.START: CampaignState.RUNNING,
        Move.CANCEL: CampaignState.CANCELLED,
    },
    CampaignState.RUNNING: {
        Move.START: CampaignState.RUNNING,
        Move.PAUSE: CampaignState.PAUSED,
        Move.RESUME: CampaignState.RUNNING,
        Move.CANCEL: CampaignState.CANCELLED,
    },
    CampaignState.PAUSED: {
        Move.PAUSE: CampaignState.PAUSED,
        Move.RESUME: CampaignState.RUNNING,
        Move.CANCEL: CampaignState.CANCELLED,
    },
    CampaignState.CANCELLED: {Move.CANCEL: CampaignState.CANCELLED},
    CampaignState.ENDED: {},
}


@pytest.mark.parametrize("how", Move)
@pytest.mark.parametrize("state", ALLOWED)
def test_what_may_be_done_in_which_state(store: Store, state: CampaignState, how: Move) -> None:
    one = draft(store, mobiles(1))
    execute(store, lambda tx: setattr(tx.get(Campaign, one), "state", state))
    then = ALLOWED[state].get(how)
    if then is None:
        with pytest.raises(NotNowError):
            move(store, one, how)
        assert campaign(store, one).state == state
    else:
        assert move(store, one, how) == then


def test_who_started_it_is_audited(store: Store) -> None:
    mine = campaigns.create(store, "site-web", PLAN).id
    assert campaigns.move(store, NOBODY, mine, Move.START) is None
    for how in (Move.START, Move.START, Move.PAUSE, Move.RESUME, Move.CANCEL):
        assert campaigns.move(store, "site-web", mine, how) is not None
    with store.database.read() as transaction:
        told = transaction.execute(select(AuditEntry.event, AuditEntry.actor)).all()
    events = ["started", "paused", "resumed", "cancelled"]
    assert told == [(f"campaign-{event}", "site-web:rentree") for event in events]


def test_a_started_campaign_takes_no_more_recipients(store: Store) -> None:
    running = started(store, mobiles(1))
    with pytest.raises(NotNowError):
        campaigns.add(store, campaign(store, running), [recipient(REUNION)])


def test_a_name_is_a_client_s_own(store: Store) -> None:
    campaigns.create(store, NOBODY, PLAN)
    with pytest.raises(NameTakenError):
        campaigns.create(store, NOBODY, PLAN)
    theirs = campaigns.create(store, "site-web", PLAN).id
    found = campaigns.find(store, "site-web", PLAN.name)
    assert found is not None
    assert found.id == theirs
    assert campaigns.find(store, NOBODY, theirs) is None


# Opt-outs


def opt_out(store: Store, mobile: str) -> None:
    contact = Contact(Route.SMS, mobile)
    execute(store, lambda tx: opt_outs.add(store, tx, contact, opt_outs.Source.SMS))


def test_who_opts_out_between_import_and_feeding_gets_nothing(store: Store) -> None:
    first, second = mobiles(2)
    running = draft(store, [first, second])
    opt_out(store, first)
    move(store, running, Move.START)
    campaigns.feed(store)
    assert [claim.destination for claim in send(store)] == [second]
    assert states(store, running) == {CANCELLED: 1, ACCEPTED: 1}


def test_who_had_opted_out_before_the_import_gets_nothing(store: Store) -> None:
    """Nor is the import told: only feeding asks, at the last moment."""
    [number] = mobiles(1)
    opt_out(store, number)
    running = started(store, [number])
    assert campaigns.feed(store) == 0
    assert states(store, running) == {CANCELLED: 1}


def test_who_opts_out_while_it_is_tried_gets_no_further_try(store: Store, clock: FakeClock) -> None:
    [number] = mobiles(1)
    running = started(store, [number])
    campaigns.feed(store)
    [claim] = claims(store)
    clock.advance(timedelta(seconds=1))
    opt_out(store, number)
    outbox.finish(store, claim, RETRY, 0)
    for _ in range(3):
        clock.advance(timedelta(minutes=1))
        outbox.recover(store)
        assert campaigns.feed(store) == 0
        assert claims(store) == []
    assert states(store, running) == {MessageState.EXPIRED: 1}
    assert campaign(store, running).state == CampaignState.ENDED


# What goes wrong


def test_a_campaign_s_message_is_never_repeated(store: Store, clock: FakeClock) -> None:
    """D19: uncertain to the end it is lost, where a password goes once more."""
    running = started(store, mobiles(2))
    campaigns.feed(store)
    doubtful, silent = claims(store)
    password = queue(store)
    [ours] = claims(store)
    assert ours.message_id == password
    for claim in (doubtful, ours):
        outbox.finish(store, claim, Report(Result.UNCERTAIN), 0)
    again = []
    for _ in range(10):  # of `silent` nothing is heard any more: its lease ends
        clock.advance(timedelta(minutes=1))
        outbox.recover(store)
        campaigns.feed(store)
        again += claims(store)
    assert [claim.message_id for claim in again] == [password]
    assert states(store, running) == {MessageState.LOST: 2}
    assert {silent.message_id, doubtful.message_id} == {one.id for one in messages(store, running)}
    assert campaign(store, running).state == CampaignState.ENDED


def test_cut_off_anywhere_nobody_is_forgotten_or_written_to_twice(store: Store) -> None:
    """Whatever statement it is cut at, all that was fed is undone."""
    numbers = mobiles(3)
    opt_out(store, numbers[0])
    running = started(store, numbers)
    for statements in count():
        with cut_after(store.database, statements):
            try:
                assert campaigns.feed(store) == 2
                break
            except StoreDownError:
                pass
        assert states(store, running) == {HELD: 3}
    assert statements > 5
    assert sorted(claim.destination for claim in send(store)) == sorted(numbers[1:])


def test_an_import_that_was_cut_off_can_only_be_cancelled(store: Store) -> None:
    half = campaigns.create(store, NOBODY, PLAN, loading=True)
    campaigns.add(store, half, [recipient(REUNION)])
    with pytest.raises(NotNowError):
        move(store, half.id, Move.START)
    assert move(store, half.id, Move.CANCEL) == CampaignState.CANCELLED
    campaigns.feed(store)
    assert states(store, half.id) == {CANCELLED: 1}


def test_many_recipients_are_forgotten_a_few_at_a_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that no code waits for it; meanwhile nothing leaves."""
    monkeypatch.setattr(campaigns, "CLEARED", 4)
    running = started(store, mobiles(10))
    campaigns.feed(store)
    move(store, running, Move.CANCEL)
    for left in (6, 2, 0):
        assert claims(store) == []
        campaigns.feed(store)
        assert states(store, running).get(HELD, 0) == left
        assert (campaign(store, running).ended_at is None) == bool(left)


def test_one_that_nobody_ends_is_cancelled_in_time(store: Store, clock: FakeClock) -> None:
    """D16: recipients are not kept for good; in the end the campaign goes too."""
    drafted = draft(store, mobiles(2))
    days = store.rules.retention.campaign_days
    clock.advance(days * DAY)
    retention.tidy(store)
    campaigns.feed(store)
    assert states(store, drafted) == {HELD: 2}
    clock.advance(HOUR)
    retention.tidy(store)
    campaigns.feed(store)
    assert states(store, drafted) == {CANCELLED: 2}
    clock.advance((store.rules.retention.message_days + 1) * DAY)
    retention.tidy(store)
    assert messages(store, drafted) == []
    assert campaigns.every(store) == []


def test_a_running_one_that_is_cancelled_in_time_leaves_nothing_in_the_outbox(
    store: Store, clock: FakeClock
) -> None:
    """At once, as if somebody had cancelled it; and the audit says so."""
    running = started(store, mobiles(2))
    clock.advance(store.rules.retention.campaign_days * DAY + HOUR)
    campaigns.feed(store)
    assert states(store, running) == {QUEUED: 2}
    for _ in range(2):
        retention.tidy(store)
    assert claims(store) == []
    assert states(store, running) == {HELD: 2}
    campaigns.feed(store)
    assert states(store, running) == {CANCELLED: 2}
    with store.database.read() as transaction:
        told = transaction.execute(select(AuditEntry.event, AuditEntry.actor)).all()
    assert told == [("campaign-started", "rentree"), ("campaign-cancelled", "rentree")]

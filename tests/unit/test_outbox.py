"""The outbox: where a message is at any time, and that nothing is sent twice but for D19."""

import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
import structlog
from sqlalchemy import insert, select, text, update

from shared import outbox
from shared.models import Message, MessageState, Priority, Route, SendAttempt
from shared.outbox import Claim, Ending, Rendered, Report, Result
from shared.store import Store
from tests.store import OWNER, FakeClock, execute, plans

LEASE = timedelta(seconds=30)
DOUBT = timedelta(seconds=120)
LIFE = timedelta(hours=24)
DELAY = 7.0
THOUSANDS = 10_000
CONTENT = '{"password": "50718264"}'


def render(template: str, variables: Mapping[str, str]) -> Rendered:
    return Rendered(f"{template} {variables['password']}", "1a2b3c4d")


def add(
    store: Store,
    route: Route = Route.SMS,
    *,
    life: timedelta = LIFE,
    content: str = CONTENT,
    priority: Priority = Priority.PASSWORD,
) -> UUID:
    """Queue a message."""
    message_id, now = uuid4(), store.clock()
    message = Message(
        id=message_id,
        route=route,
        template="password",
        priority=priority,
        known_caller=False,
        destination_sealed=outbox.seal(store, message_id, "destination", OWNER),
        content_sealed=outbox.seal(store, message_id, "content", content),
        state=MessageState.QUEUED,
        created_at=now,
        expires_at=now + life,
        next_at=now,
    )
    execute(store, lambda transaction: transaction.add(message))
    return message_id


def get(store: Store, message_id: UUID) -> Message:
    with store.database.read() as transaction:
        return transaction.get_one(Message, message_id)


def claim(store: Store, limit: int = 10) -> list[Claim]:
    return outbox.claim(store, "file", render, limit)


def finish(store: Store, claimed: Claim, result: Result) -> bool:
    return outbox.finish(store, claimed, Report(result, "30003", provider_id="SM1"), DELAY)


def attempts(store: Store) -> list[tuple[int, str | None]]:
    with store.database.read() as transaction:
        rows = transaction.scalars(select(SendAttempt).order_by(SendAttempt.claim)).all()
    return [(row.claim, row.result) for row in rows]


# Claiming


def test_letters_that_wait_are_not_walked_past(store: Store) -> None:
    """Nor what campaigns hold: a claim reads what is due of its own route."""
    add(store, Route.LETTER)
    due = [plan for text, plan in plans(store.database, lambda: claim(store)) if "LIMIT" in text]
    assert len(due) == len(Priority)
    for plan in due:
        [by] = [
            line for line in plan.split("\n") if "ix_message_urgent (" in line or "Cond" in line
        ]
        assert all(column in by for column in ("route", "state", "priority", "next_at")), plan
        assert "ix_message_urgent" in plan
        assert not re.search("Sort|TEMP B-TREE", plan), plan


def test_nor_are_thousands_of_them(store: Store, clock: FakeClock) -> None:
    """PostgreSQL knows that what waits so long are letters: it takes no other index."""
    common = {"template": "password", "known_caller": False, "created_at": clock.now}
    times = {"next_at": clock.now, "expires_at": clock.now + LIFE}
    gone = {"route": Route.SMS, "state": MessageState.DELIVERED, "priority": Priority.CODE}
    letter = {"route": Route.LETTER, "state": MessageState.QUEUED, "priority": Priority.PASSWORD}
    with store.database.begin() as transaction:
        for which in (gone, letter):
            rows = [{"id": uuid4(), **which, **common, **times} for _ in range(THOUSANDS)]
            transaction.execute(insert(Message), rows)
        if not store.database.sqlite:
            transaction.execute(text("ANALYZE message"))
    due = [plan for asked, plan in plans(store.database, lambda: claim(store)) if "LIMIT" in asked]
    assert ["ix_message_urgent" in plan for plan in due] == [True] * len(Priority), due


def test_a_claim_commits_its_attempt_and_lease(store: Store, clock: FakeClock) -> None:
    message_id = add(store)
    [claimed] = claim(store)
    assert (claimed.message_id, claimed.number, claimed.failures) == (message_id, 1, 0)
    assert (claimed.destination, claimed.text.reveal()) == (OWNER, "password 50718264")
    message = get(store, message_id)
    assert (message.state, message.next_at) == (MessageState.SENDING, clock.now + LEASE)
    assert message.content_sealed is None
    with store.database.read() as transaction:
        attempt = transaction.scalars(select(SendAttempt)).one()
    assert attempt.id == claimed.attempt_id
    assert (attempt.message_id, attempt.claim, attempt.provider) == (message_id, 1, "file")
    assert (attempt.started_at, attempt.ended_at, attempt.result) == (clock.now, None, None)


def test_the_oldest_are_claimed_first(store: Store, clock: FakeClock) -> None:
    added = []
    for _ in range(5):
        added.append(add(store))
        clock.advance(timedelta(seconds=1))
    assert [claimed.message_id for claimed in claim(store, 2)] == added[:2]
    assert [claimed.message_id for claimed in claim(store)] == added[2:]
    assert claim(store) == []


def test_the_most_urgent_are_claimed_first(store: Store, clock: FakeClock) -> None:
    """Whatever the order they were queued in."""
    added = {}
    for priority in reversed(Priority):
        added[priority] = add(store, priority=priority)
        clock.advance(timedelta(seconds=1))
    claimed = [one.message_id for _ in range(2) for one in claim(store, 2)]
    assert claimed == [added[priority] for priority in Priority]


def test_places_are_kept_for_what_somebody_waits_for(store: Store) -> None:
    """Codes and passwords may take all of them, notices and campaigns what is left."""
    for priority in [Priority.CAMPAIGN] * 9 + [Priority.NOTICE]:
        add(store, priority=priority)

    def priorities(limit: int, kept: int) -> list[int]:
        taken = outbox.claim(store, "file", render, limit, kept=kept)
        return [get(store, one.message_id).priority for one in taken]

    assert priorities(4, 4) == []
    assert priorities(3, 4) == []
    assert priorities(6, 4) == [Priority.NOTICE, Priority.CAMPAIGN]
    for priority in [Priority.PASSWORD] * 2 + [Priority.CODE] * 2:
        add(store, priority=priority)
    urgent = [Priority.CODE] * 2 + [Priority.PASSWORD] * 2
    assert priorities(4, 4) == urgent
    for priority in urgent:
        add(store, priority=priority)
    assert priorities(6, 4) == urgent  # these hold places that the others could have had
    assert priorities(5, 4) == [Priority.CAMPAIGN]


def test_what_waits_for_its_time_is_not_in_the_way(store: Store, clock: FakeClock) -> None:
    waiting, due = add(store, priority=Priority.CODE), add(store, priority=Priority.CAMPAIGN)
    later = update(Message).where(Message.id == waiting)
    later = later.values(next_at=clock.now + timedelta(seconds=1))
    execute(store, lambda transaction: transaction.execute(later))
    assert [one.message_id for one in claim(store, 1)] == [due]


def test_letters_are_left_to_others(store: Store) -> None:
    add(store, Route.LETTER)
    assert claim(store) == []


def test_each_route_is_claimed_for_itself(store: Store) -> None:
    sms, mail = add(store), add(store, Route.MAIL)
    claimed = outbox.claim(store, "smtp", render, 10, route=Route.MAIL)
    assert [one.message_id for one in claimed] == [mail]
    assert [one.message_id for one in claim(store)] == [sms]


def test_a_doubt_is_repeated_for_its_own_route_alone(store: Store, clock: FakeClock) -> None:
    """D19: its own dispatcher may have found it meanwhile, or be unable to look it up."""
    mail = add(store, Route.MAIL)
    [claimed] = outbox.claim(store, "smtp", render, 1, route=Route.MAIL)
    finish(store, claimed, Result.UNCERTAIN)
    clock.advance(DOUBT)
    outbox.recover(store, Route.SMS)
    assert get(store, mail).state == MessageState.UNCERTAIN
    outbox.recover(store, Route.MAIL)
    assert (get(store, mail).state, get(store, mail).repeated) == (MessageState.QUEUED, True)
    [claimed] = outbox.claim(store, "smtp", render, 1, route=Route.MAIL)
    finish(store, claimed, Result.UNCERTAIN)
    clock.advance(DOUBT)
    outbox.recover(store, Route.SMS)
    assert get(store, mail).state == MessageState.UNCERTAIN
    outbox.recover(store, Route.MAIL)
    assert get(store, mail).state == MessageState.LOST


def test_a_doubt_of_a_route_that_nobody_serves_ends_with_its_life(
    store: Store, clock: FakeClock
) -> None:
    """D16: what it says is not kept for ever."""
    mail = add(store, Route.MAIL)
    [claimed] = outbox.claim(store, "smtp", render, 1, route=Route.MAIL)
    finish(store, claimed, Result.UNCERTAIN)
    clock.advance(LIFE)
    outbox.recover(store, Route.SMS)
    ended = get(store, mail)
    assert (ended.state, ended.text_sealed) == (MessageState.LOST, None)


def test_a_message_is_not_claimed_when_its_life_ends(store: Store, clock: FakeClock) -> None:
    add(store)
    clock.advance(LIFE)
    assert claim(store) == []


def test_a_claim_shows_neither_text_nor_destination(store: Store) -> None:
    add(store)
    [claimed] = claim(store)
    assert "50718264" not in repr(claimed)
    assert OWNER[1:] not in repr(claimed)


@pytest.mark.parametrize("column", ["destination_sealed", "content_sealed"])
@pytest.mark.parametrize("value", [b"damaged", None], ids=["damaged", "gone"])
def test_a_damaged_message_is_refused_and_holds_up_nobody(
    store: Store, column: str, value: bytes | None
) -> None:
    damaged, sound = add(store), add(store)
    execute(
        store,
        lambda t: t.execute(update(Message).where(Message.id == damaged).values({column: value})),
    )
    with structlog.testing.capture_logs() as logs:
        assert [claimed.message_id for claimed in claim(store)] == [sound]
    assert get(store, damaged).state == MessageState.REFUSED
    assert [(entry["event"], entry["message"]) for entry in logs] == [
        ("message_refused", str(damaged))
    ]


def test_a_text_is_of_its_message_only(store: Store) -> None:
    """D13: a text moved to another row goes to nobody."""
    thief, victim = add(store), add(store)
    content = get(store, victim).content_sealed
    execute(
        store,
        lambda t: t.execute(
            update(Message).where(Message.id == thief).values(content_sealed=content)
        ),
    )
    with structlog.testing.capture_logs():
        assert [claimed.message_id for claimed in claim(store)] == [victim]


# The states, by hand: what happens to a message, and what it is then


def _tick(seconds: float) -> Callable[["Story"], None]:
    def advance(story: "Story") -> None:
        story.clock.advance(timedelta(seconds=seconds))
        outbox.recover(story.store)

    return advance


def _claim(story: "Story") -> None:
    story.claims += claim(story.store)


def _finish(result: Result, of: int = -1) -> Callable[["Story"], None]:
    return lambda story: story.known.append(finish(story.store, story.claims[of], result))


def _receipt(state: MessageState, of: int = -1) -> Callable[["Story"], None]:
    def take(story: "Story") -> None:
        kept = outbox.receipt(story.store, story.claims[of].attempt_id, "SM1", state)
        story.known.append(kept is not None)

    return take


def _replace(story: "Story") -> None:
    now = story.store.clock()
    replacement = outbox.Replacement(Message.template == "password")
    execute(story.store, lambda t: replacement.run(t.connection(), now))


def _cancel(story: "Story") -> None:
    its_row = select(Message).where(Message.id == story.message_id).with_for_update()
    now = story.store.clock()
    execute(story.store, lambda t: outbox.cancel(t.scalars(its_row).one(), now))


class Story:
    """A message, its claims so far, and what `finish` and `receipt` answered."""

    def __init__(self, store: Store, clock: FakeClock) -> None:
        self.store = store
        self.clock = clock
        self.message_id = add(store)
        self.claims: list[Claim] = []
        self.known: list[bool] = []


ACCEPT, RETRY = _finish(Result.ACCEPTED), _finish(Result.RETRY)
REFUSE, DOUBTFUL = _finish(Result.REFUSED), _finish(Result.UNCERTAIN)
DELIVERED, UNDELIVERED = _receipt(MessageState.DELIVERED), _receipt(MessageState.UNDELIVERED)
SENT = _receipt(MessageState.ACCEPTED)
LOSE_LEASE, END_DOUBT, END_LIFE = _tick(30), _tick(120), _tick(24 * 3600)

Steps = list[Callable[[Story], None]]

STATES: dict[str, tuple[Steps, MessageState, bool]] = {
    "queued": ([], MessageState.QUEUED, True),
    "queued, and time goes by": ([_tick(3600)], MessageState.QUEUED, True),
    "never sent": ([END_LIFE], MessageState.EXPIRED, False),
    "claimed": ([_claim], MessageState.SENDING, True),
    "claimed, a moment before the lease ends": ([_claim, _tick(29)], MessageState.SENDING, True),
    "accepted": ([_claim, ACCEPT], MessageState.ACCEPTED, False),
    "refused": ([_claim, REFUSE], MessageState.REFUSED, False),
    "to be tried again": ([_claim, RETRY], MessageState.QUEUED, True),
    "not tried again too soon": ([_claim, RETRY, _tick(6), _claim], MessageState.QUEUED, True),
    "tried again": ([_claim, RETRY, _tick(7), _claim], MessageState.SENDING, True),
    "tried until its life ends": ([_claim, RETRY, END_LIFE, _claim], MessageState.EXPIRED, False),
    "uncertain": ([_claim, DOUBTFUL], MessageState.UNCERTAIN, True),
    "lease lost": ([_claim, LOSE_LEASE], MessageState.UNCERTAIN, True),
    "lease lost, nobody claims it": ([_claim, LOSE_LEASE, _claim], MessageState.UNCERTAIN, True),
    "lease lost, reported late": ([_claim, LOSE_LEASE, ACCEPT], MessageState.ACCEPTED, False),
    "lease lost, reported while it waits to be repeated": (
        [_claim, LOSE_LEASE, END_DOUBT, ACCEPT, _claim],
        MessageState.ACCEPTED,
        False,
    ),
    "lease lost, reported during the second attempt": (
        [_claim, LOSE_LEASE, END_DOUBT, _claim, _finish(Result.ACCEPTED, of=0)],
        MessageState.ACCEPTED,
        False,
    ),
    "lease lost, reported when it was given up": (
        [_claim, *[LOSE_LEASE, END_DOUBT, _claim] * 2, _finish(Result.ACCEPTED, of=0)],
        MessageState.ACCEPTED,
        False,
    ),
    "lease lost, reported not to have gone when it was given up": (
        [_claim, *[LOSE_LEASE, END_DOUBT, _claim] * 2, _finish(Result.RETRY, of=0)],
        MessageState.LOST,
        False,
    ),
    "uncertain, a moment before the end": (
        [_claim, DOUBTFUL, _tick(119), _claim],
        MessageState.UNCERTAIN,
        True,
    ),
    "uncertain for 2 minutes": ([_claim, DOUBTFUL, END_DOUBT], MessageState.QUEUED, True),
    "asked about in vain for 2 minutes": (
        [_claim, DOUBTFUL, _tick(60), DOUBTFUL, _tick(60)],
        MessageState.QUEUED,
        True,
    ),
    "found at the provider": ([_claim, DOUBTFUL, ACCEPT], MessageState.ACCEPTED, False),
    "sent once more": ([_claim, DOUBTFUL, END_DOUBT, _claim], MessageState.SENDING, True),
    "uncertain again": (
        [_claim, DOUBTFUL, END_DOUBT, _claim, DOUBTFUL],
        MessageState.UNCERTAIN,
        True,
    ),
    "uncertain to the end": (
        [_claim, DOUBTFUL, END_DOUBT, _claim, DOUBTFUL, END_DOUBT],
        MessageState.LOST,
        False,
    ),
    "uncertain when its life ends": ([_claim, DOUBTFUL, END_LIFE], MessageState.LOST, False),
    "lease lost twice": (
        [_claim, LOSE_LEASE, END_DOUBT, _claim, LOSE_LEASE, END_DOUBT],
        MessageState.LOST,
        False,
    ),
    "queued, the clock set back an hour": ([_tick(-3600), _claim], MessageState.SENDING, True),
    "claimed, the clock set back, a moment before the lease ends": (
        [_claim, _tick(-3600), _tick(29)],
        MessageState.SENDING,
        True,
    ),
    "claimed, the clock set back, lease lost": (
        [_claim, _tick(-3600), _tick(30)],
        MessageState.UNCERTAIN,
        True,
    ),
    "claimed, the clock set back, reported": (
        [_claim, _tick(-3600), ACCEPT],
        MessageState.ACCEPTED,
        False,
    ),
    "uncertain, the clock set back, a moment before the end": (
        [_claim, DOUBTFUL, _tick(-3600), _tick(119)],
        MessageState.UNCERTAIN,
        True,
    ),
    "uncertain, the clock set back, for 2 minutes": (
        [_claim, DOUBTFUL, _tick(-3600), _tick(120)],
        MessageState.QUEUED,
        True,
    ),
    "claimed, the clock a day ahead": ([_claim, END_LIFE], MessageState.UNCERTAIN, True),
    "claimed, the clock a day ahead, reported": (
        [_claim, END_LIFE, ACCEPT],
        MessageState.ACCEPTED,
        False,
    ),
    "delivered": ([_claim, ACCEPT, DELIVERED], MessageState.DELIVERED, False),
    "undelivered": ([_claim, ACCEPT, UNDELIVERED], MessageState.UNDELIVERED, False),
    "receipt twice": ([_claim, ACCEPT, DELIVERED, DELIVERED], MessageState.DELIVERED, False),
    "receipts in the wrong order": (
        [_claim, ACCEPT, DELIVERED, SENT],
        MessageState.DELIVERED,
        False,
    ),
    "a contrary receipt": (
        [_claim, ACCEPT, UNDELIVERED, DELIVERED],
        MessageState.UNDELIVERED,
        False,
    ),
    "receipt before the answer": ([_claim, DELIVERED], MessageState.DELIVERED, False),
    "receipt ends the doubt": ([_claim, DOUBTFUL, DELIVERED], MessageState.DELIVERED, False),
    "receipt of one that was lost": (
        [_claim, DOUBTFUL, END_LIFE, DELIVERED],
        MessageState.DELIVERED,
        False,
    ),
    "receipt of one that waits to be repeated": (
        [_claim, DOUBTFUL, END_DOUBT, DELIVERED, _claim],
        MessageState.DELIVERED,
        False,
    ),
    "receipt of one that the provider says it did not take": (
        [_claim, RETRY, DELIVERED, _tick(7), _claim],
        MessageState.DELIVERED,
        False,
    ),
    "good news of the first attempt, during the second": (
        [_claim, DOUBTFUL, END_DOUBT, _claim, _receipt(MessageState.DELIVERED, of=0)],
        MessageState.DELIVERED,
        False,
    ),
    "bad news of the first attempt, during the second": (
        [_claim, DOUBTFUL, END_DOUBT, _claim, _receipt(MessageState.UNDELIVERED, of=0)],
        MessageState.SENDING,
        True,
    ),
    "replaced while queued": ([_replace], MessageState.REPLACED, False),
    "replaced while uncertain": ([_claim, DOUBTFUL, _replace], MessageState.REPLACED, False),
    "replaced while it is sent": ([_claim, _replace, ACCEPT], MessageState.ACCEPTED, False),
    "replaced while it is sent, in vain": (
        [_claim, _replace, RETRY, _tick(7), _claim],
        MessageState.EXPIRED,
        False,
    ),
    "replaced while it is sent, in doubt": (
        [_claim, _replace, DOUBTFUL, END_DOUBT, _claim],
        MessageState.LOST,
        False,
    ),
    "replaced after it went": ([_claim, ACCEPT, _replace], MessageState.ACCEPTED, False),
    "receipt of a replaced one": (
        [_claim, DOUBTFUL, _replace, DELIVERED],
        MessageState.REPLACED,
        False,
    ),
    "cancelled while queued": ([_cancel, _claim], MessageState.CANCELLED, False),
    "cancelled before its next try": (
        [_claim, RETRY, _cancel, _tick(7), _claim],
        MessageState.CANCELLED,
        False,
    ),
    "cancelled while it is sent": ([_claim, _cancel], MessageState.SENDING, True),
    "cancelled while it is sent, accepted": (
        [_claim, _cancel, ACCEPT],
        MessageState.ACCEPTED,
        False,
    ),
    "cancelled while it is sent, in vain": (
        [_claim, _cancel, RETRY, _tick(7), _claim],
        MessageState.EXPIRED,
        False,
    ),
    "cancelled while it is sent, in doubt": (
        [_claim, _cancel, DOUBTFUL, END_DOUBT, _claim],
        MessageState.LOST,
        False,
    ),
    "cancelled while uncertain": ([_claim, DOUBTFUL, _cancel], MessageState.UNCERTAIN, True),
    "cancelled while uncertain, for 2 minutes": (
        [_claim, DOUBTFUL, _cancel, END_DOUBT, _claim],
        MessageState.LOST,
        False,
    ),
    "cancelled while uncertain, found at the provider": (
        [_claim, DOUBTFUL, _cancel, ACCEPT],
        MessageState.ACCEPTED,
        False,
    ),
    "cancelled before its repeat": (
        [_claim, DOUBTFUL, END_DOUBT, _cancel, _claim],
        MessageState.CANCELLED,
        False,
    ),
    "receipt of one cancelled before its repeat": (
        [_claim, DOUBTFUL, END_DOUBT, _cancel, DELIVERED],
        MessageState.DELIVERED,
        False,
    ),
    "cancelled after it went": ([_claim, ACCEPT, _cancel], MessageState.ACCEPTED, False),
    "cancelled after it arrived": (
        [_claim, ACCEPT, DELIVERED, _cancel],
        MessageState.DELIVERED,
        False,
    ),
    "cancelled after it was refused": ([_claim, REFUSE, _cancel], MessageState.REFUSED, False),
    "cancelled after its life": ([END_LIFE, _cancel], MessageState.EXPIRED, False),
    "cancelled twice": ([_cancel, _cancel], MessageState.CANCELLED, False),
}


@pytest.mark.parametrize(("steps", "state", "text"), STATES.values(), ids=STATES)
def test_where_a_message_is(
    store: Store, clock: FakeClock, steps: Steps, state: MessageState, text: bool
) -> None:
    """What it said is there while it may still be sent, and destroyed at every end (D12, D16)."""
    story = Story(store, clock)
    for step in steps:
        step(story)
    message = get(store, story.message_id)
    assert message.state == state
    held = [message.content_sealed, message.text_sealed, message.destination_sealed]
    assert [value is not None for value in (held[0] or held[1], held[2])] == [text, text]
    assert (message.ended_at is None) is text


def test_a_report_after_the_next_claim_is_fenced_off(store: Store, clock: FakeClock) -> None:
    story = Story(store, clock)
    for step in (_claim, LOSE_LEASE, END_DOUBT, _claim):
        step(story)
    assert finish(store, story.claims[0], Result.REFUSED) is False
    assert get(store, story.message_id).state == MessageState.SENDING
    assert finish(store, story.claims[1], Result.ACCEPTED) is True
    assert attempts(store) == [(1, "refused"), (2, "accepted")]


def test_reports_are_kept_together(store: Store) -> None:
    """Each as it would be by itself."""
    for _ in Result:
        add(store)
    claims = claim(store)
    reports = [Report(result, "30003", provider_id=f"SM{result}") for result in Result]
    endings = [Ending(*pair, DELAY) for pair in zip(claims, reports, strict=True)]
    endings.append(Ending(replace(claims[0], number=2), reports[1], DELAY))  # its lease was lost
    assert outbox.finish_all(store, endings) == [True, True, True, True, False]
    assert [get(store, one.message_id).state for one in claims] == [
        MessageState.ACCEPTED,
        MessageState.QUEUED,
        MessageState.REFUSED,
        MessageState.UNCERTAIN,
    ]
    assert get(store, claims[0].message_id).provider_id == "SMaccepted"


def test_of_several_reports_none_waits_for_a_message_that_somebody_holds(store: Store) -> None:
    """That one alone is not kept, whole: its attempt neither. SQLite's writers are alone anyway."""
    if store.database.sqlite:
        return
    for _ in range(3):
        add(store)
    claims = claim(store)
    endings = [Ending(one, Report(Result.ACCEPTED), DELAY) for one in claims]
    with store.database.write() as other:
        other.get_one(Message, claims[1].message_id, with_for_update=True)
        assert outbox.finish_all(store, endings) == [True, None, True]
    assert sorted(result or "" for _, result in attempts(store)) == ["", "accepted", "accepted"]
    assert outbox.finish_all(store, endings[1:2]) == [True]


def test_a_report_of_a_message_that_ended_changes_nothing(store: Store, clock: FakeClock) -> None:
    story = Story(store, clock)
    for step in (_claim, DELIVERED, ACCEPT):
        step(story)
    assert story.known == [True, False]


def test_every_try_says_the_same(store: Store, clock: FakeClock) -> None:
    """D19: a template changed meanwhile changes nothing; the version kept is what was said."""
    story = Story(store, clock)
    for step in (_claim, DOUBTFUL, END_DOUBT):
        step(story)
    [again] = outbox.claim(store, "file", lambda *_: Rendered("something else", "5e6f7a8b"), 1)
    assert again.text.reveal() == story.claims[0].text.reveal()
    assert get(store, story.message_id).template_version == "1a2b3c4d"
    assert (again.number, again.attempt_id != story.claims[0].attempt_id) == (2, True)


def test_failures_are_counted_for_the_next_delay(store: Store, clock: FakeClock) -> None:
    story = Story(store, clock)
    for step in (_claim, RETRY, _tick(7), _claim, RETRY, _tick(7), _claim):
        step(story)
    assert [claimed.failures for claimed in story.claims] == [0, 1, 2]


def test_doubts_are_the_uncertain_ones_as_they_were_claimed(store: Store, clock: FakeClock) -> None:
    story = Story(store, clock)
    add(store)
    _claim(story)
    DOUBTFUL(story)
    [doubt] = outbox.doubts(store, "file", 10)
    last = story.claims[-1]
    assert (doubt.message_id, doubt.attempt_id, doubt.number, doubt.template) == (
        last.message_id,
        last.attempt_id,
        last.number,
        last.template,
    )
    assert (doubt.destination, doubt.text.reveal()) == (OWNER, "password 50718264")
    assert finish(store, doubt, Result.ACCEPTED) is True
    assert outbox.doubts(store, "file", 10) == []


def test_doubts_are_of_one_provider_those_nearest_to_their_repeat_first(
    store: Store, clock: FakeClock
) -> None:
    for provider in ("file", "another", "file", "file"):
        add(store)
        [claimed] = outbox.claim(store, provider, render, 1)
        finish(store, claimed, Result.UNCERTAIN)
        clock.advance(timedelta(seconds=1))
    numbers = [row.message_id for row in outbox.doubts(store, "file", 2)]
    with store.database.read() as transaction:
        oldest = select(Message.id).where(Message.provider == "file").order_by(Message.created_at)
        assert numbers == list(transaction.scalars(oldest))[:2]


@pytest.mark.parametrize("column", ["destination_sealed", "text_sealed"])
@pytest.mark.parametrize("value", [b"damaged", None], ids=["damaged", "gone"])
def test_a_damaged_doubt_holds_up_nobody_and_is_refused_in_the_end(
    store: Store, clock: FakeClock, column: str, value: bytes | None
) -> None:
    damaged, sound = add(store), add(store)
    for claimed in claim(store):
        finish(store, claimed, Result.UNCERTAIN)
    execute(
        store,
        lambda t: t.execute(update(Message).where(Message.id == damaged).values({column: value})),
    )
    with structlog.testing.capture_logs() as logs:
        assert [doubt.message_id for doubt in outbox.doubts(store, "file", 10)] == [sound]
        clock.advance(DOUBT)
        outbox.recover(store)
        assert [claimed.message_id for claimed in claim(store)] == [sound]
    assert get(store, damaged).state == MessageState.REFUSED
    assert [(entry["event"], entry["message"]) for entry in logs] == [
        ("message_unreadable", str(damaged)),
        ("message_refused", str(damaged)),
    ]


def test_a_receipt_of_nothing_we_sent_is_unknown(store: Store) -> None:
    add(store)
    assert outbox.receipt(store, uuid4(), "SM1", MessageState.DELIVERED) is None


def test_when_and_as_what_the_provider_took_it(store: Store, clock: FakeClock) -> None:
    story = Story(store, clock)
    _claim(story)
    ACCEPT(story)
    ended = clock.now
    clock.advance(timedelta(seconds=5))
    SENT(story)  # says nothing new
    message = get(store, story.message_id)
    assert (message.provider, message.provider_id, message.ended_at) == ("file", "SM1", ended)
    with store.database.read() as transaction:
        attempt = transaction.scalars(select(SendAttempt)).one()
    assert (attempt.ended_at, attempt.result, attempt.code) == (ended, "accepted", "30003")


def test_four_dispatchers_never_share_a_message(store: Store) -> None:
    added = {add(store) for _ in range(40)}

    def take(_: int) -> list[UUID]:
        taken: list[UUID] = []
        while claims := claim(store, 3):
            taken += [claimed.message_id for claimed in claims]
        return taken

    with ThreadPoolExecutor(4) as pool:
        taken = [message_id for each in pool.map(take, range(4)) for message_id in each]
    left = [claimed.message_id for claimed in claim(store, 40)]  # others held them when looked at
    assert len(taken + left) == len(added)
    assert set(taken + left) == added


def test_two_recoveries_at_once_repeat_a_message_once(store: Store, clock: FakeClock) -> None:
    for _ in range(20):
        add(store)
    for claimed in claim(store, 20):
        finish(store, claimed, Result.UNCERTAIN)
    clock.advance(DOUBT)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: outbox.recover(store), range(8)))
    assert [claimed.number for claimed in claim(store, 40)] == [2] * 20


def test_a_claim_that_was_not_committed_leaves_the_message(store: Store) -> None:
    """A dispatcher killed before its commit never asked anybody."""
    message_id = add(store)

    def die(_template: str, _variables: Mapping[str, str]) -> Rendered:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        outbox.claim(store, "file", die, 1)
    assert get(store, message_id).state == MessageState.QUEUED
    assert attempts(store) == []

"""What is kept, and how long (D16)."""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from uuid import uuid4

import pytest
from sqlalchemy import delete, func, select, update

from shared import database
from shared.dossier_data import ALERTS
from shared.errors import StoreDownError
from shared.models import (
    AgentTask,
    Base,
    CallRecord,
    DossierSection,
    IdempotentRequest,
    InboundMessage,
    LetterRun,
    LoginSession,
    Message,
    Priority,
    SendAttempt,
    SentPart,
    ThrottleHit,
    VerificationCode,
)
from shared.retention import table, tidy
from shared.store import Store
from tests.store import FakeClock, add_account, cut_after, execute, open_session, plans, tell

MOMENT = timedelta(microseconds=1)
DAY = timedelta(days=1)


def _call(store: Store, at: datetime) -> None:
    row = CallRecord(
        id=str(uuid4()), started_at=at, ended_at=at, line="3230", steps=[], outcome="abandoned"
    )
    execute(store, lambda t: t.add(row))


def _session(store: Store, at: datetime) -> None:
    number = f"{uuid4().int % 10**7:07}"
    add_account(store, number)
    open_session(store, number)
    execute(store, lambda t: t.execute(update(LoginSession).values(expires_at=at)))


def _code(store: Store, at: datetime) -> None:
    row = VerificationCode(
        id=uuid4(),
        purpose="recovery",
        sent=True,
        contact_index=bytes(32),
        asked_by=bytes(32),
        code_mac=bytes(32),
        created_at=at,
        expires_at=at,
    )
    execute(store, lambda t: t.add(row))


def _task(store: Store, at: datetime) -> None:
    row = AgentTask(id=str(uuid4()), request_mac=bytes(32), at=at, answer="done")
    execute(store, lambda t: t.add(row))


def _word(store: Store, at: datetime) -> None:
    row = InboundMessage(
        provider="smpp",
        contact_index=bytes(32),
        called="36180",
        keyword="stop",
        at=at,
        answered=True,
    )
    execute(store, lambda t: t.add(row))


def _told(store: Store, at: datetime) -> None:
    tell(store, add_account(store, f"{uuid4().int % 10**7:07}"), ALERTS, (), at)
    execute(store, lambda t: t.execute(delete(DossierSection).where(DossierSection.as_of != at)))


def _run(store: Store, at: datetime) -> None:
    execute(store, lambda t: t.add(LetterRun(id=uuid4(), created_at=at)))


def _message(store: Store, at: datetime) -> None:
    message_id = uuid4()
    message = Message(
        id=message_id,
        route="sms",
        template="password",
        priority=Priority.PASSWORD,
        known_caller=False,
        state="delivered",
        created_at=at,
        expires_at=at,
        next_at=at,
        ended_at=at,
    )
    attempt = SendAttempt(
        id=uuid4(), message_id=message_id, claim=1, provider="file", started_at=at
    )
    part = SentPart(provider="file", provider_id=str(uuid4()), attempt_id=attempt.id, at=at)
    for row in (message, attempt, part):
        execute(store, lambda t, row=row: t.add(row))  # type: ignore[misc]


def _hit(store: Store, at: datetime) -> None:
    row = ThrottleHit(
        attempt_id=uuid4(), bucket="caller", key=b"", subject=b"", counted=True, at=at
    )
    execute(store, lambda t: t.add(row))


def _request(store: Store, at: datetime) -> None:
    row = IdempotentRequest(client="site-web", key=str(uuid4()), request_mac=b"", at=at)
    execute(store, lambda t: t.add(row))


# How long something that was made, or ended, at an instant is kept from then on.
KEPT: list[tuple[str, type[Base], Callable[[Store, datetime], None], timedelta]] = [
    ("call records", CallRecord, _call, 365 * DAY),
    ("sessions", LoginSession, _session, 1 * DAY),
    ("verification codes", VerificationCode, _code, 1 * DAY),
    ("messages and letter runs", Message, _message, 365 * DAY),
    ("messages and letter runs", LetterRun, _run, 365 * DAY),
    ("words sent to our numbers", InboundMessage, _word, 365 * DAY),
    ("agents' requests", AgentTask, _task, 365 * DAY),
    ("what was told of dossiers", DossierSection, _told, 30 * DAY),
]


@pytest.mark.parametrize(
    ("model", "make", "kept"),
    [pytest.param(model, make, kept, id=model.__name__) for _, model, make, kept in KEPT],
)
def test_what_is_kept_so_long_goes_then(
    store: Store,
    clock: FakeClock,
    model: type[Base],
    make: Callable[[Store, datetime], None],
    kept: timedelta,
) -> None:
    make(store, clock.now)
    clock.advance(kept)
    for left in (1, 0):
        tidy(store)
        assert _count(store, model) == left
        clock.advance(MOMENT)


MANY = [(model, make) for _, model, make, _ in KEPT] + [
    (ThrottleHit, _hit),
    (IdempotentRequest, _request),
]


@pytest.mark.parametrize(
    ("model", "make"), [pytest.param(model, make, id=model.__name__) for model, make in MANY]
)
def test_many_are_forgotten_a_few_at_a_time(
    store: Store,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
    model: type[Base],
    make: Callable[[Store, datetime], None],
) -> None:
    """So that no code waits for it: the oldest first, the rest in transactions of their own."""
    monkeypatch.setattr(database, "BATCH", 2)
    for _ in range(5):
        make(store, clock.now)
    clock.advance(1000 * DAY)
    for left, more in ((3, True), (1, True), (0, False)):
        assert tidy(store) is more
        assert _count(store, model) == left


def test_cut_off_anywhere_a_message_goes_with_its_attempts_or_stays_with_them(
    store: Store, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BATCH", 2)
    for _ in range(5):
        _message(store, clock.now)
    clock.advance(1000 * DAY)
    for statements in count():
        with cut_after(store.database, statements):
            try:
                tidy(store)
                break
            except StoreDownError:
                pass
        assert len({_count(store, model) for model in (Message, SendAttempt, SentPart)}) == 1
    assert statements > 10
    while tidy(store):
        pass
    assert [_count(store, model) for model in (Message, SendAttempt, SentPart)] == [0, 0, 0]


INDEXES = {
    "call_record": "ix_call_record_started",
    "dossier_section": "ix_dossier_section_as_of",
    "idempotent_request": "ix_idempotent_request_at",
    "inbound_message": "ix_inbound_message_at",
    "message": "ix_message_ended",
    "sent_part": "ix_sent_part_attempt",  # those of no attempt
    "session": "ix_session_expires",
    "throttle_hit": "ix_throttle_hit_at",
}
"""By which the oldest are found where a table may be long."""


def test_the_oldest_are_found_without_reading_a_whole_table(store: Store, clock: FakeClock) -> None:
    for _, make in MANY:
        make(store, clock.now)
    clock.advance(1000 * DAY)
    found = {}
    for text, plan in plans(store.database, lambda: tidy(store)):
        of = re.match(r"(SELECT|DELETE).*?FROM (\w+)", text, re.DOTALL)
        if of and of[2] in INDEXES:
            assert not re.search(r"Seq Scan|SCAN (?!CONSTANT)", plan), plan
            if of[1] == "SELECT":
                found[of[2]] = plan
    assert found.keys() == INDEXES.keys()
    for table_name, index in INDEXES.items():
        assert index in found[table_name]


def _count(store: Store, model: type[Base]) -> int:
    with store.database.read() as transaction:
        return transaction.scalars(select(func.count()).select_from(model)).one()


def test_a_message_on_its_way_is_never_forgotten(store: Store, clock: FakeClock) -> None:
    _message(store, clock.now)
    execute(store, lambda t: t.execute(update(Message).values(ended_at=None, state="uncertain")))
    clock.advance(1000 * DAY)
    tidy(store)
    assert _count(store, Message) == 1


def test_a_run_is_kept_as_long_as_its_letters(store: Store, clock: FakeClock) -> None:
    """One that nobody confirmed waits for a person, however old it is."""
    _run(store, clock.now)
    _message(store, clock.now)
    with store.database.read() as transaction:
        run_id = transaction.scalars(select(LetterRun.id)).one()
    under_way = update(Message).values(ended_at=None, state="sending", route="letter")
    execute(store, lambda t: t.execute(under_way.values(run_id=run_id)))
    clock.advance(1000 * DAY)
    assert _runs_after_tidying(store) == 1
    confirmed = update(Message).values(ended_at=clock.now, state="accepted")
    execute(store, lambda t: t.execute(confirmed))
    clock.advance(365 * DAY)
    assert _runs_after_tidying(store) == 1
    clock.advance(MOMENT)
    assert _runs_after_tidying(store) == 0


def _runs_after_tidying(store: Store) -> int:
    tidy(store)
    return _count(store, LetterRun)


def test_a_deployment_keeps_its_own_times(store: Store, clock: FakeClock) -> None:
    rules = store.rules.retention.model_copy(update={"call_days": 10})
    store = replace(store, rules=store.rules.model_copy(update={"retention": rules}))
    _call(store, clock.now)
    clock.advance(10 * DAY + MOMENT)
    tidy(store)
    assert _count(store, CallRecord) == 0


def test_the_table_says_how_long(store: Store) -> None:
    days = {one.what: one.days * DAY for one in table(store.rules.retention)}
    assert {name: days[name] for name, *_ in KEPT} == {name: kept for name, *_, kept in KEPT}

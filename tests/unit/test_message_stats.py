"""How messages fared, as far as the outbox says it; and that a year of older ones costs nothing."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event, insert, text

from shared import message_stats, outbox
from shared.message_stats import Kind, Outcome, Spread
from shared.models import Message, MessageState, Priority, Route, SendAttempt
from shared.outbox import Report, Result
from shared.store import Store
from tests.gateway import attempts, queue, says
from tests.store import FakeClock

SECOND, MINUTE, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)
CODE, PASSWORD = Kind(Route.SMS, "code"), Kind(Route.SMS, "password")


def send(store: Store, clock: FakeClock, *reports: tuple[float, Report]) -> UUID:
    """Have one more code sent; each report so many seconds after its claim."""
    message_id = queue(store, template="code", priority=Priority.CODE)
    for seconds, report in reports:
        [claimed] = outbox.claim(store, "moody", says("Bonjour"), 1)
        assert claimed.message_id == message_id
        clock.advance(timedelta(seconds=seconds))
        outbox.finish(store, claimed, report, 0)
    return message_id


def deliver(store: Store, clock: FakeClock, message_id: UUID, seconds: float) -> None:
    clock.advance(timedelta(seconds=seconds))
    last = attempts(store, message_id)[-1]
    outbox.receipt(store, last.id, "SM1", MessageState.DELIVERED)


RETRY = (2.0, Report(Result.RETRY, "20429"))


def test_messages_are_counted_by_state_and_timed_from_the_request(
    store: Store, clock: FakeClock
) -> None:
    start = clock.now
    sent = send(store, clock, (3, Report(Result.ACCEPTED, "201")))
    deliver(store, clock, sent, 4)
    send(store, clock, RETRY, RETRY, (1, Report(Result.ACCEPTED, "201")))
    send(store, clock, (1, Report(Result.REFUSED, "21211")))
    queue(store)
    counted = message_stats.since(store, start)
    code, password = counted.kinds[CODE], counted.kinds[PASSWORD]
    assert code.states == {"delivered": 1, "accepted": 1, "refused": 1}
    assert (code.asked, code.tries) == (3, 5)
    assert sorted(code.to_acceptance) == [3, 5]
    assert code.to_delivery == [7]
    assert (password.states, password.tries) == ({"queued": 1}, 0)
    assert (password.to_acceptance, password.to_delivery) == ([], [])
    assert counted.outcomes == {
        Outcome("moody", "accepted", "201"): 2,
        Outcome("moody", "retry", "20429"): 2,
        Outcome("moody", "refused", "21211"): 1,
    }


def test_one_that_two_tries_brought_is_timed_to_the_first_that_told(
    store: Store, clock: FakeClock
) -> None:
    """D19: a dispatcher lost its lease; its report came after that of the repeat."""
    start, late = clock.now, timedelta(seconds=store.rules.outbox.lease_seconds)
    queue(store, template="code", priority=Priority.CODE)
    [first] = outbox.claim(store, "moody", says("Bonjour"), 1)
    for wait in (late, timedelta(seconds=store.rules.outbox.uncertain_seconds)):
        clock.advance(wait)
        outbox.recover(store)
    [second] = outbox.claim(store, "moody", says("Bonjour"), 1)
    outbox.finish(store, second, Report(Result.ACCEPTED), 0)
    told_after = clock.now - start
    clock.advance(MINUTE)
    outbox.finish(store, first, Report(Result.ACCEPTED), 0)
    code = message_stats.since(store, start).kinds[CODE]
    assert (code.asked, code.tries) == (1, 2)
    assert code.to_acceptance == [told_after.total_seconds()]


def test_an_attempt_under_way_has_no_result(store: Store) -> None:
    queue(store)
    outbox.claim(store, "moody", says("Bonjour"), 1)
    counted = message_stats.since(store, store.clock() - DAY)
    assert counted.outcomes == {Outcome("moody", None, None): 1}


def test_older_ones_do_not_count(store: Store, clock: FakeClock) -> None:
    queue(store)
    clock.advance(MINUTE)
    assert message_stats.since(store, clock.now - MINUTE).kinds[PASSWORD].asked == 1
    assert message_stats.since(store, clock.now - MINUTE + SECOND).kinds == {}


SPREADS = {
    "one": ([4.0], (4.0, 4.0)),
    "two": ([9.0, 1.0], (1.0, 9.0)),
    "twenty": ([float(n) for n in range(20, 0, -1)], (10.0, 19.0)),
    "a hundred": ([float(n) for n in range(1, 101)], (50.0, 95.0)),
}


@pytest.mark.parametrize(("seconds", "ranks"), SPREADS.values(), ids=SPREADS)
def test_a_spread_is_of_nearest_ranks(seconds: list[float], ranks: tuple[float, float]) -> None:
    assert Spread.of(seconds) == Spread(*ranks)


def test_of_nothing_there_is_no_spread() -> None:
    assert Spread.of([]) is None


YEAR = 20_000  # messages


def fill(store: Store) -> None:
    """Put a year of messages there, one attempt each."""
    now = store.clock()
    ids = [uuid4() for _ in range(YEAR)]
    asked = [now - rank * 365 * DAY / YEAR for rank in range(YEAR)]
    rows: list[dict[str, Any]] = [
        {
            "id": one,
            "route": Route.SMS,
            "template": "code",
            "priority": Priority.CODE,
            "known_caller": False,
            "state": MessageState.ACCEPTED,
            "created_at": at,
            "expires_at": at,
            "next_at": at,
            "ended_at": at,
        }
        for one, at in zip(ids, asked, strict=True)
    ]
    tries = [
        {
            "id": uuid4(),
            "message_id": one,
            "claim": 1,
            "provider": "moody",
            "started_at": at,
            "ended_at": at + SECOND,
            "result": Result.ACCEPTED,
        }
        for one, at in zip(ids, asked, strict=True)
    ]
    with store.database.begin() as transaction:
        transaction.execute(insert(Message), rows)
        transaction.execute(insert(SendAttempt), tries)
        if not store.database.sqlite:
            transaction.execute(text("ANALYZE message, send_attempt"))


def plans(store: Store) -> str:
    """Say how the database does what is asked of it for the statistics of a day."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, values: Any, *_: object) -> None:
        asked.append((statement, values))

    event.listen(store.database.engine, "before_cursor_execute", note)
    try:
        counted = message_stats.since(store, store.clock() - DAY)
    finally:
        event.remove(store.database.engine, "before_cursor_execute", note)
    assert 50 < counted.kinds[CODE].asked < 60
    explain = "EXPLAIN QUERY PLAN " if store.database.sqlite else "EXPLAIN "
    lines = []
    with store.database.begin() as transaction:
        for statement, values in asked:
            if statement.startswith("SELECT"):
                plan = transaction.exec_driver_sql(explain + statement, values)
                lines += [str(row[-1]) for row in plan]
    return "\n".join(lines)


def test_a_day_is_found_by_indexes_in_a_year_of_messages(store: Store) -> None:
    fill(store)
    plan = plans(store)
    assert "ix_message_created" in plan
    assert "ix_send_attempt_message" in plan
    for whole in ("Seq Scan", "SCAN "):
        assert whole not in plan, plan

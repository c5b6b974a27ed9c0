"""When a provider is let alone, and when it is tried again."""

from collections.abc import Sequence

import pytest

from shared.outbox import Report, Result
from sms.breaker import Breaker, Patience, State

PATIENCE = Patience(failures=3, first=10, longest=40)
MANY = 16

GOOD = Report(Result.ACCEPTED)
REFUSED = Report(Result.REFUSED, "21610")
RETRY = Report(Result.RETRY, "unreachable")
DOUBT = Report(Result.UNCERTAIN, "timeout")
PUT_OFF = Report(Result.RETRY, "450", message_alone=True)
THROTTLED = Report(Result.RETRY, "20429", retry_after=5)
FOR_LONG = Report(Result.RETRY, "20429", retry_after=3600)

CLOSED, OPEN, HALF_OPEN = State.CLOSED, State.OPEN, State.HALF_OPEN

# What came of messages, each after so many seconds; then the state, and the room for MANY.
STORIES: dict[str, tuple[Sequence[tuple[float, Report]], State, int]] = {
    "new": ([], CLOSED, MANY),
    "two failures": ([(0, RETRY), (0, DOUBT)], CLOSED, MANY),
    "three in a row": ([(0, RETRY), (0, DOUBT), (0, RETRY)], OPEN, 0),
    "three, but not in a row": ([(0, RETRY), (0, GOOD), (0, RETRY), (0, RETRY)], CLOSED, MANY),
    "a refusal shows that it works": (
        [(0, RETRY), (0, RETRY), (0, REFUSED), (0, RETRY)],
        CLOSED,
        MANY,
    ),
    "so does a message that is put off": (
        [(0, RETRY), (0, RETRY), (0, PUT_OFF), (0, RETRY)],
        CLOSED,
        MANY,
    ),
    "put off again and again": ([(0, PUT_OFF)] * 9, CLOSED, MANY),
    "throttled": ([(0, THROTTLED)] * 9, CLOSED, 0),
    "no longer throttled": ([(0, THROTTLED), (5, GOOD)], CLOSED, MANY),
    "throttled for long": ([(0, FOR_LONG), (39.9, DOUBT)], CLOSED, 0),
    "tried meanwhile": ([(0, FOR_LONG), (40, DOUBT)], CLOSED, 1),
    "and throttled again": ([(0, FOR_LONG), (40, FOR_LONG), (39.9, DOUBT)], CLOSED, 0),
    "and again, for a moment": ([(0, FOR_LONG), (40, THROTTLED), (5, DOUBT)], CLOSED, MANY),
    "the throttled trial goes through": ([(0, FOR_LONG), (40, GOOD)], CLOSED, MANY),
    "one that was asked before is no trial": ([(0, FOR_LONG), (1, GOOD)], CLOSED, 0),
    "nor does it shorten the wait": ([(0, FOR_LONG), (1, THROTTLED), (5, DOUBT)], CLOSED, 0),
    "throttling is no failure, and no success": (
        [(0, RETRY), (0, RETRY), (0, THROTTLED), (0, RETRY)],
        OPEN,
        0,
    ),
    "a moment before the pause ends": ([(0, RETRY)] * 3 + [(9.9, RETRY)], OPEN, 0),
    "what was asked before does not lengthen it": (
        [(0, RETRY)] * 3 + [(9, RETRY), (1, THROTTLED), (5, THROTTLED)],
        HALF_OPEN,
        0,
    ),
    "the trial fails": ([(0, RETRY)] * 3 + [(10, RETRY), (19, RETRY)], OPEN, 0),
    "the trial goes through": ([(0, RETRY)] * 3 + [(10, GOOD)], CLOSED, MANY),
    "one that was asked before goes through": ([(0, RETRY)] * 3 + [(1, GOOD)], CLOSED, MANY),
    "after that it takes as many failures again": (
        [(0, RETRY)] * 3 + [(10, GOOD), (0, RETRY), (0, RETRY)],
        CLOSED,
        MANY,
    ),
}


@pytest.mark.parametrize(("reports", "state", "room"), STORIES.values(), ids=STORIES)
def test_where_it_stands(reports: Sequence[tuple[float, Report]], state: State, room: int) -> None:
    breaker, now = Breaker(PATIENCE), 100.0
    for after, report in reports:
        now += after
        breaker.learn(report, now)
    assert (breaker.state(now), breaker.room(now, MANY, under_way=0)) == (state, room)


def test_one_message_at_a_time_tries_one_that_throttles_for_long() -> None:
    breaker = Breaker(PATIENCE)
    assert not breaker.throttled(100)
    breaker.learn(THROTTLED, 100)
    assert not breaker.throttled(101)  # a little
    breaker.learn(FOR_LONG, 102)
    assert breaker.throttled(102 + 3599)
    assert not breaker.throttled(102 + 3600)
    assert [breaker.room(142, MANY, under_way) for under_way in (0, 1, 5)] == [1, 0, 0]
    assert breaker.room(102 + 3600, MANY, under_way=5) == MANY


def test_each_pause_is_twice_the_one_before_up_to_the_longest() -> None:
    breaker, now = Breaker(PATIENCE), 100.0
    for _ in range(PATIENCE.failures - 1):
        breaker.learn(RETRY, now)
    for pause in (10, 20, 40, 40):
        breaker.learn(RETRY, now)
        assert breaker.state(now + pause - 0.1) is OPEN
        now += pause
        assert breaker.state(now) is HALF_OPEN
    breaker.learn(GOOD, now)
    for _ in range(PATIENCE.failures):
        breaker.learn(DOUBT, now)
    assert breaker.state(now + 9.9) is OPEN
    assert breaker.state(now + 10) is HALF_OPEN


def test_one_message_at_a_time_tries_it() -> None:
    breaker, now = Breaker(PATIENCE), 100.0
    for _ in range(PATIENCE.failures):
        breaker.learn(RETRY, now)
    now += 10
    assert [breaker.room(now, MANY, under_way) for under_way in (0, 1, 5)] == [1, 0, 0]
    assert breaker.room(now, 0, under_way=0) == 0

"""D05, as stories: what happened to one dossier, who then calls with the right password, and
whether the call gets in.

A story is a list of steps, one after another:

    5 wrong by strangers        five calls with a wrong password, each from an unknown caller id
    5 wrong by Mallory on B     … from one and the same unknown caller id, on another dossier
    1 right by the owner        a call with the right password, from the caller id on file
    5 cut off by strangers      five calls that end while the password is being compared
    2 hours pass
    a new password is issued
"""

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count

import pytest
import structlog
from sqlalchemy import func, select
from sqlalchemy.orm import Session as Transaction

from shared import throttles
from shared.clock import DAY
from shared.credentials import Refusal, set_secret
from shared.models import ChannelHour, ThrottleHit
from shared.rules import Channel
from shared.secret import Secret
from shared.sessions import Session
from shared.store import Store
from tests.store import (
    CAISSE,
    NUMBER,
    OWNER,
    PASSWORD,
    CountingHasher,
    FakeClock,
    add_account,
    execute,
    log_in,
    with_rules,
)

WRONG = "00000000"
PARTNER = "+33130000001"
CALLERS = {
    "Mallory": "+33199000001",
    "the owner": OWNER,
    "a partner": PARTNER,
    "no caller id": None,
}
NUMBERS = {"A": NUMBER, "B": "1000001", "C": "1000002", "D": "1000003"}

STEP = re.compile(
    r"(?P<times>\d+) (?P<what>wrong|right|cut off) by (?P<who>[a-zA-Z ]+?)"
    r"(?: on (?P<dossier>[A-D]|different dossiers))?"
)
PAUSE = re.compile(r"(?P<number>\d+) (?P<unit>seconds|hours|days) pass")


class HungUpError(Exception):
    """The call ended in the middle of the computation."""


@dataclass
class Story:
    """Plays the steps of a story against a store."""

    store: Store
    clock: FakeClock
    hasher: CountingHasher
    password: str = PASSWORD
    fresh: "count[int]" = field(default_factory=count)
    added: set[str] = field(default_factory=set)

    def play(self, steps: str) -> None:
        for step in filter(None, (part.strip() for part in steps.split(","))):
            if pause := PAUSE.fullmatch(step):
                self.clock.advance(timedelta(**{pause["unit"]: int(pause["number"])}))
            elif step == "a new password is issued":
                self.password = "50718264"
                set_secret(self.store, CAISSE, NUMBER, Secret(self.password))
            else:
                self._call(step)

    def gets_in(self, who: str, dossier: str | None = None) -> bool:
        """Call with the right password."""
        outcome = log_in(
            self.store, self.password, number=self._number(dossier), caller_id=self._caller(who)
        )
        return isinstance(outcome, Session)

    def _call(self, step: str) -> None:
        found = STEP.fullmatch(step)
        assert found, f"not a step: {step}"
        for _ in range(int(found["times"])):
            if found["what"] == "right":
                assert self.gets_in(found["who"], found["dossier"])
            else:
                self._fail(found["what"], found["who"], found["dossier"])

    def _fail(self, what: str, who: str, dossier: str | None) -> None:
        number, caller_id = self._number(dossier), self._caller(who)
        if what == "wrong":
            outcome = log_in(self.store, WRONG, number=number, caller_id=caller_id)
            assert outcome is Refusal.REFUSED
            return
        self.hasher.meanwhile = _hang_up
        with pytest.raises(HungUpError):
            log_in(self.store, self.password, number=number, caller_id=caller_id)
        self.hasher.meanwhile = lambda: None

    def _caller(self, who: str) -> str | None:
        return CALLERS[who] if who in CALLERS else f"+3318{next(self.fresh):07}"

    def _number(self, dossier: str | None) -> str:
        if dossier == "different dossiers":
            return f"2{next(self.fresh):06}"
        number = NUMBERS[dossier or "A"]
        if number not in self.added:
            add_account(self.store, number, self.password)
            self.added.add(number)
        return number


def _hang_up() -> None:
    raise HungUpError


@pytest.fixture
def story(store: Store, clock: FakeClock, hasher: CountingHasher) -> Story:
    """Stories of dossiers with the same password and the same caller id on file."""
    store = with_rules(store, partners=frozenset([PARTNER]), withheld_minimum=8)
    return Story(store, clock, hasher)


# fmt: off
PER_ACCOUNT = [
    # what happened                                                     who calls       gets in
    ("",                                                                "a stranger",   True),
    ("4 wrong by strangers",                                            "a stranger",   True),
    ("5 wrong by strangers",                                            "a stranger",   False),
    ("5 wrong by strangers",                                            "the owner",    True),
    ("4 wrong by the owner",                                            "the owner",    True),
    ("5 wrong by the owner",                                            "the owner",    False),
    ("5 wrong by the owner",                                            "a stranger",   True),
    ("5 wrong by strangers, 5 wrong by the owner",                      "the owner",    False),
    ("5 wrong by strangers on B",                                       "a stranger",   True),
    # a reservation is a full count, hang-up or not
    ("4 cut off by strangers",                                          "a stranger",   True),
    ("5 cut off by strangers",                                          "a stranger",   False),
    ("5 cut off by the owner",                                          "the owner",    False),
    # a day is a rolling 24 hours
    ("5 wrong by strangers, 23 hours pass, 3599 seconds pass",          "a stranger",   False),
    ("5 wrong by strangers, 24 hours pass",                             "a stranger",   True),
    ("1 wrong by strangers, 12 hours pass, 4 wrong by strangers, 12 hours pass",
                                                                        "a stranger",   True),
    (("1 wrong by strangers, 12 hours pass, 4 wrong by strangers, 12 hours pass, "
      "1 wrong by strangers"),                                          "a stranger",   False),
    # success clears the account's bucket of that kind of caller only
    ("4 wrong by strangers, 1 right by a stranger, 4 wrong by strangers", "a stranger", True),
    ("5 wrong by strangers, 1 right by the owner",                      "a stranger",   False),
    ("4 wrong by the owner, 1 right by the owner, 4 wrong by the owner", "the owner",   True),
    ("4 wrong by the owner, 1 right by a stranger, 1 wrong by the owner", "the owner",  False),
    # an attempt that is not allowed counts nowhere
    ("5 wrong by strangers, 12 hours pass, 9 wrong by strangers, 12 hours pass",
                                                                        "a stranger",   True),
]
IN_A_ROW = [  # of 6 in these stories
    # what happened                                                     who calls       gets in
    ("5 wrong by strangers",                                            "a stranger",   True),
    ("6 wrong by strangers",                                            "a stranger",   False),
    ("6 wrong by strangers, 400 days pass",                             "a stranger",   False),
    ("6 wrong by strangers",                                            "the owner",    True),
    ("6 wrong by strangers, 1 right by the owner",                      "a stranger",   True),
    ("6 wrong by strangers, 1 right by the owner, 5 wrong by strangers", "a stranger", True),
    ("3 wrong by strangers, 3 wrong by the owner",                      "a stranger",   False),
    ("5 wrong by strangers, 1 right by a stranger, 5 wrong by strangers", "a stranger", True),
    ("6 wrong by strangers, a new password is issued",                  "a stranger",   True),
    ("6 wrong by strangers on B",                                       "a stranger",   True),
]
PER_CALLER = [
    # what happened                                                     who calls, on what, gets in
    ("5 wrong by Mallory on A, 4 wrong by Mallory on B",                "Mallory", "B", True),
    ("5 wrong by Mallory on A, 5 wrong by Mallory on B",                "Mallory", "C", False),
    ("5 wrong by Mallory on A, 5 wrong by Mallory on B",                "the owner", "A", True),
    ("5 wrong by Mallory on A, 5 wrong by Mallory on B",                "a stranger", "C", True),
    ("5 wrong by Mallory on A, 5 wrong by Mallory on B, 24 hours pass", "Mallory", "C", True),
    ("5 cut off by Mallory on A, 5 cut off by Mallory on B",            "Mallory", "C", False),
    # … or three accounts with failures
    ("1 wrong by Mallory on A, 1 wrong by Mallory on B",                "Mallory", "C", True),
    ("1 wrong by Mallory on A, 1 wrong by Mallory on B, 1 wrong by Mallory on C",
                                                                        "Mallory", "D", False),
    ("3 wrong by Mallory on different dossiers",                        "Mallory", "A", False),
    ("1 wrong by Mallory on A, 1 wrong by Mallory on B, 24 hours pass, 1 wrong by Mallory on C",
                                                                        "Mallory", "D", True),
    # success never clears the caller id's
    (("4 wrong by Mallory on A, 1 right by Mallory on A, 4 wrong by Mallory on A, "
      "1 right by Mallory on A, 2 wrong by Mallory on A"),              "Mallory", "A", False),
    (("1 wrong by Mallory on A, 1 wrong by Mallory on B, 1 right by Mallory on B, "
      "1 wrong by Mallory on C"),                                       "Mallory", "D", False),
    # an attempt that is not allowed counts nowhere
    (("5 wrong by strangers on A, 9 wrong by Mallory on A, 5 wrong by strangers on B, "
      "9 wrong by Mallory on B, 5 wrong by strangers on C, 9 wrong by Mallory on C"),
                                                                        "Mallory", "D", True),
    # listed partners: ten times that
    ("29 wrong by a partner on different dossiers",                     "a partner", "A", True),
    ("30 wrong by a partner on different dossiers",                     "a partner", "A", False),
    # withheld caller ids share one bucket, whatever the dossiers (8 a day in these stories)
    ("7 wrong by no caller id on different dossiers",                   "no caller id", "A", True),
    ("8 wrong by no caller id on different dossiers",                   "no caller id", "A", False),
    ("8 wrong by no caller id on different dossiers, 24 hours pass",    "no caller id", "A", True),
    ("8 wrong by no caller id on different dossiers",                   "a stranger", "A", True),
]
# fmt: on


@pytest.mark.parametrize(("steps", "who", "expected"), PER_ACCOUNT)
def test_per_account(story: Story, steps: str, who: str, expected: bool) -> None:
    story.play(steps)
    assert story.gets_in(who) is expected


@pytest.mark.parametrize(("steps", "who", "expected"), IN_A_ROW)
def test_failures_in_a_row(story: Story, steps: str, who: str, expected: bool) -> None:
    # Six, and no other limit in the way, for a short test; the real ones are in the next one.
    story.store = with_rules(
        story.store, account_failures=99, account_failures_known=99, account_failures_in_row=6
    )
    story.play(steps)
    assert story.gets_in(who) is expected


def test_five_a_day_for_six_days_closes_the_account_until_the_owner_gets_in(story: Story) -> None:
    story.play("5 wrong by strangers, 1 days pass, " * 6)
    assert not story.gets_in("a stranger")
    story.play("1 right by the owner")
    assert story.gets_in("a stranger")


@pytest.mark.parametrize(("steps", "who", "dossier", "expected"), PER_CALLER)
def test_per_caller_id(story: Story, steps: str, who: str, dossier: str, expected: bool) -> None:
    story.play(steps)
    assert story.gets_in(who, dossier) is expected


def test_a_partner_may_fail_ten_times_as_often(story: Story) -> None:
    for dossier in range(19):
        for _ in range(5):
            log_in(story.store, WRONG, number=f"30000{dossier:02}", caller_id=PARTNER)
    story.play("4 wrong by a partner on B")
    assert story.gets_in("a partner", "A")
    story.play("1 wrong by a partner on B")
    assert not story.gets_in("a partner", "A")


def test_the_withheld_share_grows_with_usual_traffic(story: Story, clock: FakeClock) -> None:
    _traffic(story.store, clock.now, days=28, attempts=200, failures=0)
    story.play("19 wrong by no caller id on different dossiers")
    assert story.gets_in("no caller id")
    story.play("1 wrong by no caller id on different dossiers")
    assert not story.gets_in("no caller id")


def test_refused_attempts_do_not_widen_the_withheld_share(story: Story) -> None:
    story.play("8 wrong by no caller id on different dossiers")
    before = _channel_hour(story.store).attempts
    story.play("9 wrong by no caller id on different dossiers")
    assert _channel_hour(story.store).attempts == before


def test_both_channels_count_together(story: Story) -> None:
    for _ in range(5):
        log_in(story.store, WRONG, caller_id=None, channel=Channel.WEB)
    assert not story.gets_in("a stranger")


def test_the_alarm_sounds_once_an_hour(story: Story, clock: FakeClock) -> None:
    story.store = with_rules(story.store, alarm_minimum=2)
    _traffic(story.store, clock.now, days=28, attempts=90, failures=3)
    with structlog.testing.capture_logs() as logs:
        story.play("8 wrong by strangers on different dossiers, 3 right by the owner")
        assert logs == []
        story.play("1 wrong by strangers on different dossiers, 1 right by the owner")
        assert [(entry["event"], entry["this_hour"]) for entry in logs] == [
            ("login_failures_alarm", 9)
        ]
        story.play("5 wrong by strangers on different dossiers, 3 right by the owner")
        assert len(logs) == 1
        story.play("1 hours pass, 10 wrong by strangers on different dossiers")
        assert len(logs) == 2


def test_the_alarm_does_not_sound_below_its_minimum(story: Story) -> None:
    story.store = with_rules(story.store, alarm_minimum=4)
    with structlog.testing.capture_logs() as logs:
        story.play("3 wrong by strangers on different dossiers, 1 right by the owner")
        assert logs == []
        story.play("1 wrong by strangers on different dossiers, 1 right by the owner")
    assert [entry["this_hour"] for entry in logs] == [4]


def test_an_open_breaker_refuses_unknown_callers_only(story: Story, clock: FakeClock) -> None:
    story.store = with_rules(story.store, breaker_minimum=20, alarm_minimum=1000)
    _traffic(story.store, clock.now, days=28, attempts=90, failures=2)
    _traffic(story.store, clock.now + timedelta(hours=1), days=28, attempts=90, failures=2)
    story.play("19 wrong by strangers on different dossiers")
    assert story.gets_in("a stranger")
    story.play("1 wrong by strangers on different dossiers")
    assert not story.gets_in("a stranger")
    assert not story.gets_in("no caller id")
    assert story.gets_in("the owner")
    story.play("1 hours pass")
    assert story.gets_in("a stranger")


def test_the_breaker_needs_its_minimum_in_a_day(story: Story, clock: FakeClock) -> None:
    story.store = with_rules(story.store, breaker_minimum=30, alarm_minimum=1000)
    _traffic(story.store, clock.now, days=28, attempts=90, failures=1)
    story.play("25 wrong by strangers on different dossiers")
    assert story.gets_in("a stranger")
    story.play("5 wrong by strangers on different dossiers")
    assert not story.gets_in("a stranger")


def test_refused_attempts_do_not_open_the_breaker(story: Story, clock: FakeClock) -> None:
    story.store = with_rules(story.store, breaker_minimum=10, alarm_minimum=1000)
    _traffic(story.store, clock.now, days=28, attempts=90, failures=1)
    story.play("5 wrong by strangers on B, 30 wrong by strangers on B")
    assert story.gets_in("a stranger", "A")


def test_successes_are_no_failures_of_the_channel(story: Story) -> None:
    story.play("2 wrong by strangers, 3 right by a stranger")
    hour = _channel_hour(story.store)
    assert (hour.attempts, hour.failures) == (5, 2)


def test_purge_changes_no_answer(story: Story, clock: FakeClock) -> None:
    story.store = with_rules(story.store, account_failures=30)
    story.play("30 wrong by strangers, 13 hours pass, 9 wrong by Mallory on B, 12 hours pass")
    before = _hits(story.store)
    execute(story.store, lambda transaction: throttles.purge(transaction, clock.now))
    assert _hits(story.store) < before
    assert not story.gets_in("a stranger")
    story.play("1 wrong by Mallory on B")
    assert not story.gets_in("Mallory", "C")


def test_purge_forgets_old_hours(story: Story, clock: FakeClock) -> None:
    _traffic(story.store, clock.now, days=40, attempts=9, failures=1)
    execute(story.store, lambda transaction: throttles.purge(transaction, clock.now))
    with story.store.database.read() as transaction:
        kept = transaction.scalars(select(ChannelHour.hour)).all()
    assert len(kept) == throttles.USUAL_DAYS
    assert min(kept) == clock.now.replace(minute=0) - throttles.USUAL_DAYS * DAY


def _traffic(store: Store, now: datetime, *, days: int, attempts: int, failures: int) -> None:
    """Make this hour of each of the days before one of so many logins, by telephone."""
    hour = now.replace(minute=0)
    rows = [
        ChannelHour(
            channel=Channel.VOICE,
            hour=hour - timedelta(days=day),
            attempts=attempts,
            failures=failures,
            alarmed=False,
        )
        for day in range(1, days + 1)
    ]
    execute(store, lambda transaction: transaction.add_all(rows))


def _channel_hour(store: Store) -> ChannelHour:
    """Give the only hour there is."""
    with store.database.read() as transaction:
        return transaction.scalars(select(ChannelHour)).one()


def _hits(store: Store) -> int:
    with store.database.read() as transaction:
        return _count(transaction)


def _count(transaction: Transaction) -> int:
    return transaction.scalar(select(func.count()).select_from(ThrottleHit)) or 0

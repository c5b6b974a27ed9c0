"""When somebody answers: by day, public holiday, date and clock (R34 to R36)."""

import tomllib
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ivr.hours import Hours, Period
from ivr.script_files import load_script

MINUTE = timedelta(minutes=1)
PARIS = "Europe/Paris"
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday")
OFFICE = {day: ["9:00-16:30"] for day in WEEKDAYS}
NATIONAL = {**OFFICE, "national": True}
NIGHT = {"monday": ["22:00-2:00"]}
GAP = {"sunday": ["2:30-5:00"]}
ALWAYS = {day: ["0:00-24:00"] for day in (*WEEKDAYS, "saturday", "sunday", "holidays")}


def hours(**table: Any) -> Hours:
    return Hours.model_validate(table)


def instant(local: str, zone: str = PARIS, fold: int = 0) -> datetime:
    """Read « 2026-03-02 9:00 » on the clocks of a zone."""
    day, _, clock = local.partition(" ")
    hour, _, minute = clock.partition(":")
    naive = datetime.combine(date.fromisoformat(day), datetime.min.time())
    return naive.replace(
        hour=int(hour), minute=int(minute), tzinfo=ZoneInfo(zone), fold=fold
    ).astimezone(UTC)


# hours, caisse, the zone of the clock in the next cell, what it shows, open or not
OPEN = {
    "the first minute": (OFFICE, "75", PARIS, "2026-03-02 9:00", True),
    "the minute before": (OFFICE, "75", PARIS, "2026-03-02 8:59", False),
    "the last minute": (OFFICE, "75", PARIS, "2026-03-02 16:29", True),
    "the end": (OFFICE, "75", PARIS, "2026-03-02 16:30", False),
    "a day that is not named": (OFFICE, "75", PARIS, "2026-03-07 10:00", False),
    "a caisse not known yet is in Paris": (OFFICE, "", PARIS, "2026-03-02 9:00", True),
    "a pause": (
        {"monday": ["9:00-12:00", "14:00-17:00"]}, "75", PARIS, "2026-03-02 13:00", False,
    ),
    "after the pause": (
        {"monday": ["9:00-12:00", "14:00-17:00"]}, "75", PARIS, "2026-03-02 14:00", True,
    ),
    "all day, its last minute": (ALWAYS, "75", PARIS, "2026-03-02 23:59", True),
    "summer": (OFFICE, "75", PARIS, "2026-07-01 9:00", True),
    # public holidays
    "Easter Monday": (OFFICE, "75", PARIS, "2026-04-06 10:00", False),
    "1 May": (OFFICE, "75", PARIS, "2026-05-01 10:00", False),
    "Ascension Day": (OFFICE, "75", PARIS, "2026-05-14 10:00", False),
    "a public holiday with hours of its own": (
        {**OFFICE, "holidays": ["10:00-12:00"]}, "75", PARIS, "2026-05-01 11:00", True,
    ),
    "and outside of them": (
        {**OFFICE, "holidays": ["10:00-12:00"]}, "75", PARIS, "2026-05-01 9:30", False,
    ),
    "Good Friday in Paris": (OFFICE, "75", PARIS, "2026-04-03 10:00", True),
    "Good Friday in Moselle": (OFFICE, "57", PARIS, "2026-04-03 10:00", False),
    "Good Friday in Bas-Rhin": (OFFICE, "67", PARIS, "2026-04-03 10:00", False),
    "26 December in Haut-Rhin": (OFFICE, "68", PARIS, "2025-12-26 10:00", False),
    "26 December in Paris": (OFFICE, "75", PARIS, "2025-12-26 10:00", True),
    "abolition in La Réunion": (OFFICE, "974", "Indian/Reunion", "2027-12-20 10:00", False),
    "abolition in Guyane": (OFFICE, "973", "America/Cayenne", "2026-06-10 10:00", False),
    "abolition in Martinique": (OFFICE, "972", "America/Martinique", "2026-05-22 10:00", False),
    "abolition in Guadeloupe": (OFFICE, "971", "America/Guadeloupe", "2026-05-27 10:00", False),
    "abolition in Mayotte": (OFFICE, "976", "Indian/Mayotte", "2026-04-27 10:00", False),
    "abolition in Mayotte, for Paris": (OFFICE, "75", PARIS, "2026-04-27 10:00", True),
    # overseas clocks
    "9 in Cayenne": (OFFICE, "973", "America/Cayenne", "2026-03-02 9:00", True),
    "9 in Paris, for Cayenne": (OFFICE, "973", PARIS, "2026-03-02 9:00", False),
    "9 in Réunion": (OFFICE, "974", "Indian/Reunion", "2026-03-02 9:00", True),
    "national hours are of Paris": (NATIONAL, "973", PARIS, "2026-03-02 9:00", True),
    "and so are their public holidays": (
        NATIONAL, "973", PARIS, "2026-06-10 10:00", True,
    ),
    # exceptions
    "a closed date": (
        {**OFFICE, "closed": [date(2026, 3, 2)]}, "75", PARIS, "2026-03-02 10:00", False,
    ),
    "an open Saturday": (
        {**OFFICE, "open": {"2026-03-07": ["9:00-12:00"]}}, "75", PARIS, "2026-03-07 9:00", True,
    ),
    "an open public holiday": (
        {**OFFICE, "open": {"2026-05-01": ["9:00-12:00"]}}, "75", PARIS, "2026-05-01 9:00", True,
    ),
    "other hours on a date": (
        {**OFFICE, "open": {"2026-03-02": ["9:00-12:00"]}}, "75", PARIS, "2026-03-02 13:00", False,
    ),
    "29 February": ({"sunday": ["9:00-12:00"]}, "75", PARIS, "2032-02-29 9:00", True),
    "29 February, closed": (
        {**OFFICE, "closed": [date(2028, 2, 29)]}, "75", PARIS, "2028-02-29 10:00", False,
    ),
    # over midnight
    "Monday's night, before midnight": (NIGHT, "75", PARIS, "2026-03-02 23:00", True),
    "Monday's night, on Tuesday": (NIGHT, "75", PARIS, "2026-03-03 1:59", True),
    "Monday's night is over": (NIGHT, "75", PARIS, "2026-03-03 2:00", False),
    "no night of Sunday's": (NIGHT, "75", PARIS, "2026-03-02 1:00", False),
    "a night that begins on a closed date": (
        {**NIGHT, "closed": [date(2026, 3, 2)]}, "75", PARIS, "2026-03-03 1:00", False,
    ),
    "a night that ends on a closed date": (
        {**NIGHT, "closed": [date(2026, 3, 3)]}, "75", PARIS, "2026-03-03 1:00", True,
    ),
    "a night into the new year": (
        {"thursday": ["22:00-2:00"]}, "75", PARIS, "2027-01-01 1:00", True,
    ),
    # the clocks go forward on 29 March 2026: 2:30 is read as 3:30
    "before the hour that is skipped": (
        {"sunday": ["1:00-2:00"]}, "75", PARIS, "2026-03-29 1:59", True,
    ),
    "from a time that is skipped": (GAP, "75", PARIS, "2026-03-29 3:29", False),
    "from it on": (GAP, "75", PARIS, "2026-03-29 3:30", True),
    "until a time that is skipped": (
        {"sunday": ["1:00-2:30"]}, "75", PARIS, "2026-03-29 3:29", True,
    ),
    "hours that are skipped whole": (
        {"sunday": ["2:30-3:00"]}, "75", PARIS, "2026-03-29 3:00", False,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("table", "caisse", "zone", "local", "is_open"), OPEN.values(), ids=OPEN)
def test_whether_it_is_open(
    table: dict[str, Any], caisse: str, zone: str, local: str, is_open: bool
) -> None:
    assert hours(**table).is_open(instant(local, zone), caisse) is is_open


@pytest.mark.parametrize(
    ("begin", "fold", "is_open"),
    [("2:00", 0, True), ("2:30", 0, False), ("2:00", 1, False), ("2:30", 1, False)],
)
def test_an_hour_that_comes_twice_is_the_first(begin: str, fold: int, is_open: bool) -> None:
    """The clocks go back on 25 October 2026 from 3:00 to 2:00."""
    night = hours(saturday=["22:00-2:30"])
    assert night.is_open(instant(f"2026-10-25 {begin}", fold=fold), "75") is is_open


def test_hours_around_a_change_of_clocks_last_as_long_as_it_does() -> None:
    long, short = hours(sunday=["1:00-4:00"]), hours(sunday=["1:00-4:00"])
    for one, day, lasting in ((long, "2026-10-25", 240), (short, "2026-03-29", 120)):
        begin = instant(f"{day} 1:00")
        walked = [begin + n * MINUTE for n in range(400)]
        assert sum(one.is_open(at, "75") for at in walked) == lasting


# hours, caisse, its zone, what the clocks show there, and what they show at the next opening
NEXT = {
    "the same morning": (OFFICE, "75", PARIS, "2026-03-02 7:00", "2026-03-02 9:00"),
    "open now": (OFFICE, "75", PARIS, "2026-03-02 10:00", "2026-03-02 10:00"),
    "the end is over": (OFFICE, "75", PARIS, "2026-03-02 16:30", "2026-03-03 9:00"),
    "over a weekend": (OFFICE, "75", PARIS, "2026-03-06 17:00", "2026-03-09 9:00"),
    "over Easter": (OFFICE, "75", PARIS, "2026-04-03 17:00", "2026-04-07 9:00"),
    "over Easter in Alsace": (OFFICE, "67", PARIS, "2026-04-02 17:00", "2026-04-07 9:00"),
    "over a closed date": (
        {**OFFICE, "closed": [date(2026, 3, 3)]}, "75", PARIS,
        "2026-03-02 17:00", "2026-03-04 9:00",
    ),
    "on an open Saturday": (
        {**OFFICE, "open": {"2026-03-07": ["10:00-12:00"]}}, "75", PARIS,
        "2026-03-06 17:00", "2026-03-07 10:00",
    ),
    "in summer time, of winter time": (OFFICE, "75", PARIS, "2026-03-27 17:00", "2026-03-30 9:00"),
    "in Guyane": (OFFICE, "973", "America/Cayenne", "2026-03-02 17:00", "2026-03-03 9:00"),
    "after midnight of a night": (
        NIGHT, "75", PARIS, "2026-03-03 2:00", "2026-03-09 22:00",
    ),
    "over a closed Monday to the next": (
        {"monday": ["9:00-12:00"], "closed": [date(2028, 2, 28)]}, "75", PARIS,
        "2028-02-27 9:00", "2028-03-06 9:00",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("table", "caisse", "zone", "now", "opening"), NEXT.values(), ids=NEXT)
def test_when_it_opens_next(
    table: dict[str, Any], caisse: str, zone: str, now: str, opening: str
) -> None:
    found = hours(**table).next_opening(instant(now, zone), caisse)
    assert found == instant(opening, zone)
    assert found.tzinfo == ZoneInfo(zone)


def test_hours_that_never_open_again() -> None:
    days = [date(2026, 1, 1) + timedelta(days=n) for n in range(800)]
    closed = hours(**OFFICE, closed=days)
    assert closed.next_opening(instant("2026-01-01 10:00"), "75") is None


times: st.SearchStrategy[int] = st.integers(0, 24 * 12 - 1).map(lambda n: 5 * n)


@st.composite
def days(draw: st.DrawFn) -> list[str]:
    """Make a day of up to two ranges, of which the last may end on the next day."""
    edges = sorted(draw(st.lists(times, max_size=4, unique=True)))
    edges = edges[: len(edges) // 2 * 2]
    shown = [f"{edge // 60}:{edge % 60:02}" for edge in edges]
    ranges = [f"{begin}-{end}" for begin, end in zip(shown[::2], shown[1::2], strict=True)]
    if draw(st.booleans()) and ranges:
        ranges[-1] = f"{shown[-2]}-24:00" if len(ranges) == 1 else f"{shown[-2]}-{shown[0]}"
    return ranges


ZONES = {"75": PARIS, "67": PARIS, "971": "America/Guadeloupe", "974": "Indian/Reunion"}
NIGHTS = ["2026-03-28", "2026-10-24", "2026-04-30", "2027-12-31", "2028-02-28", "2026-12-24"]


@given(
    week=st.lists(days(), min_size=8, max_size=8).filter(lambda week: any(week[:7])),
    start=st.sampled_from(NIGHTS).map(date.fromisoformat),
    closed=st.sets(st.integers(0, 3)),
    late=st.integers(0, 2 * 24 * 60),
    caisse=st.sampled_from(sorted(ZONES)),
)
def test_it_agrees_with_a_walk_by_minutes(
    week: list[list[str]], start: date, closed: set[int], late: int, caisse: str
) -> None:
    """The walk marks the minutes of each range one by one; nothing of it is in ivr/hours.py."""
    names = (*WEEKDAYS, "saturday", "sunday", "holidays")
    closed_days = [start + timedelta(days=n) for n in closed]
    one = hours(**dict(zip(names, week, strict=True)), closed=closed_days)
    zone = ZoneInfo(ZONES[caisse])
    marked: set[datetime] = set()
    for n in range(-1, 12):
        day = start + timedelta(days=n)
        texts = week[7] if day in HOLIDAYS[caisse] else week[day.weekday()]
        for text in [] if day in closed_days else texts:
            marked |= set(_minutes(day, text, zone))
    now = _at(start, "0:00", zone) + late * MINUTE
    first = min((at for at in marked if at >= now), default=None)
    assert one.is_open(now, caisse) is (now in marked)
    found = one.next_opening(now, caisse)
    if first is None:
        assert found is None or found >= _at(start + timedelta(days=12), "0:00", zone)
    else:
        assert found == first


def _minutes(day: date, text: str, zone: ZoneInfo) -> Iterator[datetime]:
    begin, _, end = text.partition("-")
    last = day if _minute_of_day(end) > _minute_of_day(begin) else day + timedelta(days=1)
    at = _at(day, begin, zone)
    while at < _at(last, end, zone):
        yield at
        at += MINUTE


def _minute_of_day(clock: str) -> int:
    hour, minute = map(int, clock.split(":"))
    return 60 * hour + minute


def _at(day: date, clock: str, zone: ZoneInfo) -> datetime:
    hour, minute = map(int, clock.split(":"))
    day, hour = (day + timedelta(days=1), 0) if hour == 24 else (day, hour)
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone).astimezone(UTC)


# Written by hand, for the nights above and the days after them.
_NATIONAL = [
    *["2026-04-06", "2026-05-01", "2026-05-08", "2026-11-01", "2026-11-11", "2026-12-25"],
    *["2027-01-01", "2028-01-01"],
]
_ALSACE = [*_NATIONAL, "2026-04-03", "2026-12-26"]
_GUADELOUPE = [*_NATIONAL, "2026-04-03"]
HOLIDAYS = {
    caisse: {date.fromisoformat(day) for day in some}
    for caisse, some in {
        "75": _NATIONAL,
        "67": _ALSACE,
        "971": _GUADELOUPE,
        "974": _NATIONAL,
    }.items()
}


# what an admin writes, and what is said of it
REFUSED = {
    "no day": ({}, "il faut un jour d'ouverture au moins"),
    "no range": ({"monday": []}, "il faut un jour d'ouverture au moins"),
    "a word": ({"monday": ["matin"]}, "il faut une plage comme 9:00-16:30"),
    "25 o'clock": ({"monday": ["9:00-25:00"]}, "il faut une plage comme 9:00-16:30"),
    "a minute between": ({"monday": ["9:01-10:00"]}, "à 5 minutes près"),
    "nothing between": ({"monday": ["9:00-9:00"]}, "la plage est vide ; tout le jour : 0:00-24:00"),
    "in no order": ({"monday": ["14:00-16:00", "9:00-12:00"]}, "les plages d'un jour se suivent"),
    "overlapping": ({"monday": ["9:00-12:00", "11:00-16:00"]}, "les plages d'un jour se suivent"),
    "after a night": ({"monday": ["22:00-2:00", "23:00-24:00"]}, "les plages d'un jour se suivent"),
    "no date": ({**OFFICE, "open": {"2026-02-29": []}}, "il faut une date comme 2026-12-24"),
    "open and closed": (
        {**OFFICE, "closed": [date(2026, 3, 2)], "open": {"2026-03-02": ["9:00-10:00"]}},
        "est aussi dans « open »",
    ),
}


@pytest.mark.parametrize(("table", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(table: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError) as caught:
        hours(**table)
    assert reason in str(caught.value)


SPOKEN = {
    "as usual": (OFFICE, "du lundi au vendredi de neuf heures à seize heures trente"),
    "a pause, and Saturday": (
        {
            **OFFICE,
            "wednesday": ["9:00-12:00", "13:30-16:30"],
            "saturday": ["9:00-12:00"],
        },
        (
            "du lundi au mardi de neuf heures à seize heures trente"
            " le mercredi de neuf heures à douze heures"
            " et de treize heures trente à seize heures trente"
            " du jeudi au vendredi de neuf heures à seize heures trente"
            " le samedi de neuf heures à douze heures"
        ),
    ),
    "nights": ({"friday": ["22:00-2:00"]}, "le vendredi de vingt-deux heures à deux heures"),
    "always": (ALWAYS, "du lundi au dimanche de minuit à minuit"),
}


@pytest.mark.parametrize(("table", "text"), SPOKEN.values(), ids=SPOKEN)
def test_how_the_week_is_said(table: dict[str, Any], text: str) -> None:
    assert load_script().catalogue.text(hours(**table).spoken()) == text


def period(toml: str) -> Period:
    return Period.model_validate(tomllib.loads(toml))


def test_a_period_is_of_the_caisses_clocks() -> None:
    one = period("from = 2026-12-01T08:00:00\nuntil = 2026-12-01T18:00:00")
    for caisse, zone in {"": PARIS, "75": PARIS, "973": "America/Cayenne"}.items():
        assert not one.holds_at(instant("2026-12-01 7:59", zone), caisse)
        assert one.holds_at(instant("2026-12-01 8:00", zone), caisse)
        assert one.holds_at(instant("2026-12-01 17:59", zone), caisse)
        assert not one.holds_at(instant("2026-12-01 18:00", zone), caisse)


def test_a_period_may_be_open_at_either_end() -> None:
    until, since = period("until = 2026-12-01T00:00:00"), period("from = 2026-12-01T00:00:00")
    assert until.holds_at(instant("1990-01-01 0:00"), "75")
    assert since.holds_at(instant("2090-01-01 0:00"), "75")
    assert not until.meets(since)
    assert until.meets(period(""))
    assert since.meets(period("until = 2026-12-01T00:01:00"))


@pytest.mark.parametrize(
    "toml",
    [
        "from = 2026-12-01T00:00:00\nuntil = 2026-12-01T00:00:00",
        "from = 2026-12-01T00:00:00Z",
        "from = '2026-12-01T08:00:00'",
        "from = 2026-12-01",
        "until = 1",
    ],
    ids=["empty", "an offset", "in quotes", "a day", "a number"],
)
def test_a_period_that_is_refused(toml: str) -> None:
    with pytest.raises(ValidationError):
        period(toml)

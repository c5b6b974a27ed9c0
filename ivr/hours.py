"""Opening hours: when they open, by a caisse's own clock and public holidays (R34 to R36).

Pure functions of an instant and a caisse ("" before it is known: Paris). A time of day that a
change of clocks skips is read an hour later, one that it repeats is the first of both (RFC 5545,
3.3.5).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import groupby, pairwise
from typing import Annotated, Any, Self
from zoneinfo import ZoneInfo

from holidays.countries.france import France
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from ivr import french
from ivr.step import ScriptTable
from shared.campaign_hours import zone_of_department
from shared.rules import PARIS

DAY_MINUTES = 24 * 60
FAR_DAYS = 400  # hours that do not open within them are as good as closed for ever

_CLOCK = r"([01]?[0-9]|2[0-3]):([0-5][05])"
_RANGE = re.compile(rf"{_CLOCK}-(?:{_CLOCK}|24:00)")
_SUBDIVISIONS = {  # how `holidays` names the départements that have more public holidays
    "57": "57",
    "67": "6AE",
    "68": "6AE",
    **{overseas: overseas for overseas in ("971", "972", "973", "974", "976")},
}


@dataclass(frozen=True)
class Range:
    """From a time of day to a later one, which may be of the next day, in minutes of the first."""

    begin: int
    end: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read « 9:00-16:30 »; an end that is not later than the beginning is of the next day."""
        found = _RANGE.fullmatch(text)
        if found is None:
            raise _refusal("il faut une plage comme 9:00-16:30, à 5 minutes près")
        hour, minute, end_hour, end_minute = (int(part or 0) for part in found.groups())
        begin, end = 60 * hour + minute, 60 * end_hour + end_minute
        if begin == end and found[3]:
            raise _refusal("la plage est vide ; tout le jour : 0:00-24:00")
        return cls(begin, end if end > begin else end + DAY_MINUTES)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Read it from a string."""
        return core_schema.no_info_after_validator_function(
            cls.parse,
            core_schema.str_schema(
                metadata={"pydantic_js_updates": {"pattern": f"^{_RANGE.pattern}$"}}
            ),
        )

    def spoken(self) -> tuple[str, ...]:
        """Say it."""
        return ("de", *french.clock_time(self.begin), "a", *french.clock_time(self.end))


def _in_order(ranges: list[Range]) -> list[Range]:
    if any(later.begin < earlier.end for earlier, later in pairwise(ranges)):
        raise _refusal("les plages d'un jour se suivent, sans se recouvrir")
    return ranges


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise _refusal("il faut une date comme 2026-12-24") from None


def _refusal(reason: str) -> PydanticCustomError:
    return PydanticCustomError("refused", reason)


# A list, since a tuple of the script may not be empty, and a day may.
_Ranges = Annotated[list[Range], AfterValidator(_in_order)]
_Day = Annotated[_Ranges, Field(default_factory=list)]
_DayKey = Annotated[date, BeforeValidator(_day)]


class Hours(ScriptTable):
    """When somebody answers; whatever day is not named is closed."""

    monday: _Day
    tuesday: _Day
    wednesday: _Day
    thursday: _Day
    friday: _Day
    saturday: _Day
    sunday: _Day
    holidays: _Day  # public holidays of the caisse
    closed: list[Annotated[date, Field(strict=True)]] = Field(default_factory=list)
    open: dict[_DayKey, _Ranges] = Field(default_factory=dict)  # by date, whatever day it is
    national: bool = False  # by Paris's clock and public holidays, whatever the caisse

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if not any(self.week):
            raise _refusal("il faut un jour d'ouverture au moins")
        if any(day in self.open for day in self.closed):
            raise _refusal("une date de « closed » est aussi dans « open »")
        return self

    @property
    def week(self) -> Sequence[Sequence[Range]]:
        """Give the ranges of each day, Monday first."""
        return (
            *(self.monday, self.tuesday, self.wednesday, self.thursday),
            *(self.friday, self.saturday, self.sunday),
        )

    def is_open(self, at: datetime, caisse: str) -> bool:
        """Say whether somebody answers at that instant; the range that ends then is over."""
        today = self._local(at, caisse).date()
        return any(
            begin <= at < end
            for day in (today - timedelta(days=1), today)  # yesterday's may last past midnight
            for begin, end in self._opened(day, caisse)
        )

    def next_opening(self, at: datetime, caisse: str) -> datetime | None:
        """Give when somebody answers next: `at` itself if open; local; None if far away."""
        if self.is_open(at, caisse):
            return self._local(at, caisse)
        today = self._local(at, caisse).date()
        days = (today + timedelta(days=ahead) for ahead in range(FAR_DAYS))
        begins = (begin for day in days for begin, _ in self._opened(day, caisse) if begin >= at)
        found = next(begins, None)
        return None if found is None else self._local(found, caisse)

    def spoken(self) -> tuple[str, ...]:
        """Say the usual week: « du lundi au vendredi de neuf heures à seize heures trente »."""
        words: list[str] = []
        for ranges, group in groupby(enumerate(self.week, start=1), key=lambda day: day[1]):
            days = [number for number, _ in group]
            if ranges:
                words += french.weekdays(days[0], days[-1])
                for position, one in enumerate(ranges):
                    words += (("et",) if position else ()) + one.spoken()
        return tuple(words)

    def is_of_paris_elsewhere(self, caisse: str) -> bool:
        """Say whether its times of day are not those of the caisse's clocks."""
        return self.national and zone_of(caisse) != PARIS

    def _local(self, at: datetime, caisse: str) -> datetime:
        return at.astimezone(self._zone(caisse))

    def _zone(self, caisse: str) -> ZoneInfo:
        return PARIS if self.national else zone_of(caisse)

    def _opened(self, day: date, caisse: str) -> Iterator[tuple[datetime, datetime]]:
        """Give the instants between which a day's ranges last, in their order."""
        midnight = datetime.combine(day, time(), self._zone(caisse))
        for one in self._ranges(day, caisse):
            begin, end = (
                (midnight + timedelta(minutes=minutes)).astimezone(UTC)
                for minutes in (one.begin, one.end)
            )
            if begin < end:  # else a change of clocks skips it
                yield begin, end

    def _ranges(self, day: date, caisse: str) -> Sequence[Range]:
        if day in self.closed:
            return ()
        if day in self.open:
            return self.open[day]
        if day in _public_holidays(None if self.national else _SUBDIVISIONS.get(caisse), day.year):
            return self.holidays
        return self.week[day.weekday()]


@cache
def _public_holidays(subdivision: str | None, year: int) -> frozenset[date]:
    return frozenset(France(subdiv=subdivision, years=year))  # type: ignore[no-untyped-call]


def zone_of(caisse: str) -> ZoneInfo:
    """Give the clocks of a caisse."""
    return ZoneInfo(zone_of_department(caisse))


# Local and strict: neither an offset, nor a number read as seconds since 1970.
def _local_time(instant: datetime) -> datetime:
    if instant.tzinfo is not None:
        raise _refusal("l'heure est celle de la caisse : ôtez le décalage")
    return instant


_LocalTime = Annotated[
    datetime,
    Field(strict=True),
    AfterValidator(_local_time),
    WithJsonSchema({"type": "string"}),
]


class Period(ScriptTable):
    """From a time until another, of the caisse's clocks; either may be left out."""

    since: _LocalTime | None = Field(default=None, alias="from")
    until: _LocalTime | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.since and self.until and self.until <= self.since:
            raise _refusal("« until » doit être après « from »")
        return self

    def holds_at(self, at: datetime, caisse: str) -> bool:
        """Say whether the instant is in it: `from` is within, `until` is not."""
        zone = zone_of(caisse)
        begun = self.since is None or self.since.replace(tzinfo=zone) <= at
        return begun and (self.until is None or at < self.until.replace(tzinfo=zone))

    def meets(self, other: "Period") -> bool:
        """Say whether there is an instant in both."""
        return _before(self.since, other.until) and _before(other.since, self.until)


def _before(since: datetime | None, until: datetime | None) -> bool:
    return since is None or until is None or since < until

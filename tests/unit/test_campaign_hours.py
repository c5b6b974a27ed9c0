"""R24: nobody is written to at night, wherever in France the telephone is."""

from datetime import UTC, datetime, time, timedelta

import pytest

from shared import campaign_hours
from shared.campaign_hours import PARIS, ZONES, zone_of_department, zone_of_number
from shared.identifiers import FRENCH_REGIONS, takes_sms
from shared.rules import CampaignRules

RULES = CampaignRules(opens=time(8), closes=time(21, 30), sms_euros=0.05, per_second=100)
MINUTE = timedelta(minutes=1)

NUMBERS = {
    "+33612345678": "Europe/Paris",
    "+33756123456": "Europe/Paris",
    "+262639012345": "Indian/Mayotte",
    "+262692123456": "Indian/Reunion",
    "+262693123456": "Indian/Reunion",
    "+590690123456": "America/Guadeloupe",
    "+594694123456": "America/Cayenne",
    "+596696123456": "America/Martinique",
}


@pytest.mark.parametrize(("number", "zone"), NUMBERS.items())
def test_a_number_tells_the_zone(number: str, zone: str) -> None:
    assert takes_sms(number)
    assert zone_of_number(number) == zone


def test_every_region_whose_mobiles_take_sms_has_a_zone() -> None:
    """D08."""
    assert campaign_hours.OF_REGION.keys() == FRENCH_REGIONS


DEPARTMENTS = {
    "971": "America/Guadeloupe",
    "972": "America/Martinique",
    "973": "America/Cayenne",
    "974": "Indian/Reunion",
    "975": "America/Miquelon",
    "976": "Indian/Mayotte",
    "2A": "Europe/Paris",
    "92": "Europe/Paris",
    "": "Europe/Paris",
}


@pytest.mark.parametrize(("department", "zone"), DEPARTMENTS.items())
def test_a_departement_tells_the_zone(department: str, zone: str) -> None:
    assert zone_of_department(department) == zone


# Zone, day, and when 8:00 and 21:30 are there, in UTC; in Paris also as the clocks change.
DAYS = {
    "Paris in winter": (PARIS, "2021-11-02T07:00", "2021-11-02T20:30"),
    "Paris in summer": (PARIS, "2021-07-02T06:00", "2021-07-02T19:30"),
    "Paris, clocks forward": (PARIS, "2021-03-28T06:00", "2021-03-28T19:30"),
    "Paris, clocks back": (PARIS, "2021-10-31T07:00", "2021-10-31T20:30"),
    "Guadeloupe": ("America/Guadeloupe", "2021-07-02T12:00", "2021-07-03T01:30"),
    "Martinique": ("America/Martinique", "2021-11-02T12:00", "2021-11-03T01:30"),
    "Guyane": ("America/Cayenne", "2021-11-02T11:00", "2021-11-03T00:30"),
    "La Réunion": ("Indian/Reunion", "2021-11-02T04:00", "2021-11-02T17:30"),
    "Mayotte": ("Indian/Mayotte", "2021-11-02T05:00", "2021-11-02T18:30"),
    "Saint-Pierre in summer": ("America/Miquelon", "2021-07-02T10:00", "2021-07-02T23:30"),
    "Saint-Pierre in winter": ("America/Miquelon", "2021-12-02T11:00", "2021-12-03T00:30"),
}


@pytest.mark.parametrize(("zone", "opens", "closes"), DAYS.values(), ids=DAYS)
def test_the_hours_of_a_day_are_those_of_the_clocks_there(
    zone: str, opens: str, closes: str
) -> None:
    first = datetime.fromisoformat(opens).replace(tzinfo=UTC)
    end = datetime.fromisoformat(closes).replace(tzinfo=UTC)
    assert campaign_hours.closing(RULES, zone, first - MINUTE) is None
    assert campaign_hours.opening(RULES, zone, first - MINUTE) == first
    assert campaign_hours.closing(RULES, zone, first) == end
    assert campaign_hours.closing(RULES, zone, end - MINUTE) == end
    assert campaign_hours.closing(RULES, zone, end) is None
    assert campaign_hours.opening(RULES, zone, end) > end + timedelta(hours=9)


def test_at_one_instant_some_zones_are_open_and_some_are_not() -> None:
    """6:30 in Paris is 9:30 in La Réunion and 2:30 in Guyane."""
    early = datetime(2021, 11, 2, 5, 30, tzinfo=UTC)
    assert set(campaign_hours.open_zones(RULES, early)) == {"Indian/Mayotte", "Indian/Reunion"}
    noon = datetime(2021, 11, 2, 15, 0, tzinfo=UTC)
    assert set(campaign_hours.open_zones(RULES, noon)) == set(ZONES)


def test_the_end_is_within_the_hours_of_whoever_is_last() -> None:
    """100 a second; at 21:29 in Paris there is a minute left, for 6,000."""
    late = datetime(2021, 11, 2, 20, 29, tzinfo=UTC)
    assert end(late, {PARIS: 6000}) == late + MINUTE
    tomorrow = datetime(2021, 11, 3, 7, 0, tzinfo=UTC)
    assert end(late, {PARIS: 6100}) == tomorrow + timedelta(seconds=1)
    of_paris_then_guyane = {PARIS: 6000, "America/Cayenne": 3000}
    assert end(late, of_paris_then_guyane) == late + MINUTE + timedelta(seconds=30)
    assert end(late, {}) == end(late, {PARIS: 0}) == late


def end(now: datetime, waiting: dict[str, int]) -> datetime:
    return campaign_hours.end_of(RULES, waiting, now, RULES.per_second)

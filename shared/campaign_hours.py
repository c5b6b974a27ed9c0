"""When a campaign may write to people: by day, in the recipient's own time zone (R24)."""

from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import phonenumbers

from shared.rules import CampaignRules

PARIS = "Europe/Paris"
# What phonenumbers says of a mobile's time zone does not tell Mayotte from La Réunion.
OF_REGION: Mapping[str | None, str] = {
    "FR": PARIS,
    "BL": "America/Guadeloupe",
    "GF": "America/Cayenne",
    "GP": "America/Guadeloupe",
    "MF": "America/Guadeloupe",
    "MQ": "America/Martinique",
    "RE": "Indian/Reunion",
    "YT": "Indian/Mayotte",
}
OF_DEPARTMENT: Mapping[str, str] = {
    "971": "America/Guadeloupe",
    "972": "America/Martinique",
    "973": "America/Cayenne",
    "974": "Indian/Reunion",
    "975": "America/Miquelon",
    "976": "Indian/Mayotte",
}
ZONES = sorted({*OF_REGION.values(), *OF_DEPARTMENT.values()})


def zone_of_number(phone: str) -> str:
    """Give the time zone of a mobile (+…) that takes SMS (D08)."""
    return OF_REGION[phonenumbers.region_code_for_number(phonenumbers.parse(phone))]


def zone_of_department(code: str) -> str:
    """Give the time zone of a département."""
    return OF_DEPARTMENT.get(code, PARIS)


def closing(rules: CampaignRules, zone: str, now: datetime) -> datetime | None:
    """Give when today's hours end there; None outside them."""
    local = now.astimezone(ZoneInfo(zone))
    within = rules.opens <= local.time() < rules.closes
    return _at(local, rules.closes) if within else None


def opening(rules: CampaignRules, zone: str, now: datetime) -> datetime:
    """Give when the next hours begin there."""
    local = now.astimezone(ZoneInfo(zone))
    return _at(local if local.time() < rules.opens else local + timedelta(days=1), rules.opens)


def open_zones(rules: CampaignRules, now: datetime) -> dict[str, datetime]:
    """Give the zones whose hours these are, and when they end there, the earliest first."""
    ends = ((zone, closing(rules, zone, now)) for zone in ZONES)
    still = {zone: end for zone, end in ends if end is not None}
    return dict(sorted(still.items(), key=lambda one: one[1]))


def end_of(
    rules: CampaignRules, waiting: Mapping[str, int], now: datetime, per_second: float
) -> datetime:
    """Estimate when so many messages of each zone have gone, those whose hours end first first."""
    left = {zone: count for zone, count in waiting.items() if count > 0}
    while left:
        ends = {zone: end for zone in left if (end := closing(rules, zone, now)) is not None}
        if not ends:
            now = min(opening(rules, zone, now) for zone in left)
            continue
        zone = min(ends, key=lambda zone: ends[zone])
        needed = timedelta(seconds=left[zone] / per_second)
        if now + needed <= ends[zone]:
            now += needed
            del left[zone]
        else:
            left[zone] -= int((ends[zone] - now).total_seconds() * per_second)
            now = ends[zone]
    return now


def _at(local: datetime, clock_time: time) -> datetime:
    """Give the instant at which clocks there show a time of that day."""
    return datetime.combine(local.date(), clock_time, local.tzinfo).astimezone(UTC)

"""The table of who may log in with what, where and when (D10), as it ships and as it is checked.

The expected rows are domain.md's, in Paris time: the telephone keeps number and password (R19), the
web and the app go over to NIR and a password of one's own on 9 October 2021 (R17, R18, R20).
"""

import re
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from shared.errors import SettingsError
from shared.rules import (
    DEFAULT_FILE,
    PARIS,
    Channel,
    CredentialKind,
    Identifier,
    Rules,
    Way,
    load_rules,
)

SHIPPED = DEFAULT_FILE.read_text(encoding="utf-8")
CUT_OVER = re.sub(r"(?m)^#(?=\S)", "", SHIPPED)  # with the lines that are commented out
REUNION = ZoneInfo("Indian/Reunion")  # two or three hours ahead of Paris

ALWAYS, BASCULE_DAY, CUT_OVER_DAY = "1999-01-01", "2021-10-09", "2022-04-01"
OPEN, SHUT, BASCULE = "login", "closed", "bascule"
# fmt: off
AS_IT_SHIPS = [
    # with what       known by       where    day          before  from that day on
    ("password",      "number",      "voice", ALWAYS,       OPEN,  OPEN),     # R02, R19
    ("password",      "number",      "voice", CUT_OVER_DAY, OPEN,  OPEN),     # D10: no end yet
    ("password",      "number",      "web",   BASCULE_DAY,  OPEN,  SHUT),     # R02, R17
    ("password",      "number",      "app",   BASCULE_DAY,  OPEN,  SHUT),
    ("password",      "number",      "kiosk", BASCULE_DAY,  OPEN,  SHUT),
    ("code",          "number",      "voice", ALWAYS,       OPEN,  OPEN),     # D09
    ("code",          "number",      "voice", CUT_OVER_DAY, OPEN,  OPEN),
    ("password",      "nir",         "web",   BASCULE_DAY,  SHUT,  BASCULE),  # R18
    ("password",      "nir",         "app",   BASCULE_DAY,  SHUT,  BASCULE),
    ("web-password",  "nir",         "web",   BASCULE_DAY,  SHUT,  OPEN),     # R18
    ("web-password",  "nir",         "app",   BASCULE_DAY,  SHUT,  OPEN),
    ("web-password",  "provisional", "web",   BASCULE_DAY,  SHUT,  OPEN),     # R20
    ("web-password",  "provisional", "app",   BASCULE_DAY,  SHUT,  OPEN),
]
AFTER_THE_CUT_OVER = [
    # with what       known by       where    day          before  from that day on
    ("password",      "number",      "voice", CUT_OVER_DAY, OPEN,  SHUT),     # R19
    ("code",          "number",      "voice", CUT_OVER_DAY, OPEN,  SHUT),
    ("one-time-code", "nir",         "voice", CUT_OVER_DAY, SHUT,  OPEN),     # D10
    ("web-password",  "nir",         "web",   CUT_OVER_DAY, OPEN,  OPEN),
]
FAULTS = {  # what is wrong: (lines of the table, what the message names)
    "a channel nobody knows": ('channel = "vocal"', "transition.0.channel"),
    "an adviser's secret": ('channel = "agent"', "transition.0.channel"),
    "an administrator's secret": ('channel = "admin"', "transition.0.channel"),
    "an identifier nobody knows": ('identifier = "name"', "transition.0.identifier"),
    "a credential nobody knows": ('credential = "face"', "transition.0.credential"),
    "a way nobody knows": ('way = "maybe"', "transition.0.way"),
    "a key nobody knows": ("till = 2022-04-01T00:00:00", "transition.0.till"),
    "a date that is text": ('until = "soon"', "transition.0.until"),
    "a date that is a number": ("until = 20220401", "transition.0.until"),
    "a day without time": ("until = 2022-04-01", "transition.0.until"),
    "a time that Paris has twice": ("until = 2021-10-31T02:30:00", "transition.0.until"),
    "a time that Paris never has": ("until = 2022-03-27T02:30:00", "transition.0.until"),
    "a date too far in the past": ("from = 0001-01-01T00:00:00", "transition.0.from"),
    "a date too far to come": ("until = 9999-12-31T23:59:59-01:00", "transition.0.until"),
    "until before from":
        ("from = 2022-04-01T00:00:00\nuntil = 2022-03-31T23:59:59", "transition.0"),
    "until at from":
        ("from = 2022-04-01T00:00:00\nuntil = 2022-04-01T00:00:00", "transition.0"),
}
PERIODS = {  # what the second line is to the first: (first, second, what the message names)
    "the same line twice": ("", "", "transition.1: overlaps transition.0"),
    "one within the other":
        ("", "from = 2022-01-01T00:00:00\nuntil = 2022-02-01T00:00:00", "transition.1: overlaps"),
    "a second too early":
        ("until = 2022-04-01T00:00:00", "from = 2022-03-31T23:59:59", "transition.1: overlaps"),
    "a second too late":
        ("until = 2022-04-01T00:00:00", "from = 2022-04-01T00:00:01", "transition.1: nothing is"),
    "too late, written first":
        ("from = 2022-04-01T00:00:01", "until = 2022-04-01T00:00:00", "transition.0: nothing is"),
    "an hour too late, by the offset":
        ("until = 2022-04-01T00:00:00", "from = 2022-04-01T00:00:00+01:00", "transition.1: nothi"),
    "they meet": ("until = 2022-04-01T00:00:00", "from = 2022-04-01T00:00:00", None),
    "they meet, by the offset":
        ("until = 2022-04-01T00:00:00", "from = 2022-03-31T22:00:00Z", None),
    "another channel": ("", 'channel = "web"', None),
    "another identifier": ("", 'identifier = "nir"', None),
    "another credential": ("", 'credential = "code"', None),
}
# fmt: on


@pytest.mark.parametrize("zone", [UTC, PARIS, REUNION], ids=str)
@pytest.mark.parametrize("row", AS_IT_SHIPS, ids=" ".join)
def test_who_may_log_in_as_it_ships(row: tuple[str, ...], zone: ZoneInfo) -> None:
    _check_row(load_rules(), row, zone)


@pytest.mark.parametrize("zone", [UTC, PARIS, REUNION], ids=str)
@pytest.mark.parametrize("row", AFTER_THE_CUT_OVER, ids=" ".join)
def test_who_may_log_in_with_the_cut_over(
    tmp_path: Path, row: tuple[str, ...], zone: ZoneInfo
) -> None:
    _check_row(_load(tmp_path, CUT_OVER), row, zone)


def test_what_no_line_allows_is_refused() -> None:
    """D10: deny by default, on each day at which something changes."""
    rules = load_rules()
    listed = {row[:3] for row in AS_IT_SHIPS}
    for key in product(CredentialKind, Identifier, Channel):
        for day in (ALWAYS, BASCULE_DAY, CUT_OVER_DAY, "2030-01-01"):
            if key not in listed:
                assert rules.way_in(*key, _midnight(day)) is Way.CLOSED, (key, day)


def test_the_bascule_is_no_login() -> None:
    """R18: the old password with the NIR opens nothing but the choice of a new one."""
    way = (CredentialKind.PASSWORD, Identifier.NIR, Channel.WEB, _midnight(BASCULE_DAY))
    assert not load_rules().may_log_in(*way)


def test_the_cut_over_is_told(tmp_path: Path) -> None:
    """R19: when a password's life ends with its login (D02)."""
    phone = (CredentialKind.PASSWORD, Identifier.NUMBER, Channel.VOICE)
    assert load_rules().cut_over(*phone) is None
    assert _load(tmp_path, CUT_OVER).cut_over(*phone) == _midnight(CUT_OVER_DAY)


def test_a_cut_over_that_is_written_out_is_told(tmp_path: Path) -> None:
    rules = _load(
        tmp_path,
        _lines("until = 2022-04-01T00:00:00", 'way = "closed"\nfrom = 2022-04-01T00:00:00'),
    )
    phone = (CredentialKind.PASSWORD, Identifier.NUMBER, Channel.VOICE)
    assert rules.cut_over(*phone) == _midnight(CUT_OVER_DAY)


def test_a_login_that_comes_back_has_no_cut_over(tmp_path: Path) -> None:
    rules = _load(
        tmp_path,
        _lines(
            "until = 2022-04-01T00:00:00",
            'way = "closed"\nfrom = 2022-04-01T00:00:00\nuntil = 2022-04-02T00:00:00',
            "from = 2022-04-02T00:00:00",
        ),
    )
    phone = (CredentialKind.PASSWORD, Identifier.NUMBER, Channel.VOICE)
    days = ("2022-03-31", "2022-04-01", "2022-04-02")
    assert [rules.may_log_in(*phone, _midnight(day)) for day in days] == [True, False, True]
    assert rules.cut_over(*phone) is None


@pytest.mark.parametrize(("line", "named"), FAULTS.values(), ids=FAULTS)
def test_a_line_that_is_wrong_is_named(tmp_path: Path, line: str, named: str) -> None:
    path = tmp_path / "rules.toml"
    with pytest.raises(SettingsError) as raised:
        _load(tmp_path, _lines(line))
    assert str(raised.value).startswith(f"{path}: {named}: ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("first", "second", "named"), PERIODS.values(), ids=PERIODS)
def test_lines_of_one_key_follow_one_another(
    tmp_path: Path, first: str, second: str, named: str | None
) -> None:
    path = tmp_path / "rules.toml"
    if named is None:
        assert len(_load(tmp_path, _lines(first, second)).transition) == 2
        return
    with pytest.raises(SettingsError) as raised:
        _load(tmp_path, _lines(first, second))
    assert str(raised.value).startswith(f"{path}: {named}")


def _check_row(rules: Rules, row: tuple[str, ...], zone: ZoneInfo) -> None:
    """Check the last second before the day and its first, on a clock of that zone."""
    kind, identifier, channel = CredentialKind(row[0]), Identifier(row[1]), Channel(row[2])
    day, before, after = row[3:]
    midnight = _midnight(day)
    for instant, expected in ((midnight - timedelta(seconds=1), before), (midnight, after)):
        there = instant.astimezone(zone)
        assert rules.way_in(kind, identifier, channel, there) == expected, there
        assert rules.may_log_in(kind, identifier, channel, there) is (expected == OPEN), there


def _midnight(day: str) -> datetime:
    """Give the first second of a day in Paris, as UTC."""
    return datetime.fromisoformat(day).replace(tzinfo=PARIS).astimezone(UTC)


def _lines(*lines: str) -> str:
    """Give a file whose transition table has these lines, of the voice password unless they say."""
    key = {"credential": "password", "identifier": "number", "channel": "voice"}
    tables = (
        "\n".join(
            ["[[transition]]", line]
            + [f'{name} = "{value}"' for name, value in key.items() if name not in line]
        )
        for line in lines
    )
    return "\n".join([SHIPPED.partition("[[transition]]")[0], *tables])


def _load(folder: Path, text: str) -> Rules:
    path = folder / "rules.toml"
    path.write_text(text, encoding="utf-8")
    return load_rules(path)

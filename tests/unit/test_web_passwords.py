"""What a password of the web is made of, by the date it is chosen on (R14)."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from shared.rules import Rules
from shared.secret import Secret
from shared.web_passwords import Fault, faults

AT_FIRST = datetime(2021, 10, 9, 12, tzinfo=UTC)
CHANGE = datetime(2024, 7, 3, 22, tzinfo=UTC)  # midnight of 4 July 2024 in Paris
SECOND = timedelta(seconds=1)
REUNION = timezone(timedelta(hours=4))

SHORT, LONG = {Fault.TOO_SHORT}, {Fault.TOO_LONG}
CASES = {
    "seven characters": ("Abcdef1", SHORT, SHORT),
    "eight": ("Abcdefg1", set(), SHORT),
    "nine": ("Abcdefgh1", set(), SHORT),
    "ten": ("Abcdefghi1", set(), set()),
    "twenty-four": ("Aa1" + "b" * 21, set(), set()),
    "twenty-five": ("Aa1" + "b" * 22, LONG, set()),
    "sixty-four": ("Aa1" + "b" * 61, LONG, set()),
    "sixty-five": ("Aa1" + "b" * 62, LONG, LONG),
    "no digit": ("Abcdefghijk", {Fault.NO_DIGIT}, {Fault.NO_DIGIT}),
    "no capital": ("abcdefghij1", {Fault.NO_UPPER_CASE}, {Fault.NO_UPPER_CASE}),
    "capitals only": ("ABCDEFGHIJ1", {Fault.NO_LOWER_CASE}, {Fault.NO_LOWER_CASE}),
    "an accent": ("Abcdéfghij1", {Fault.FORBIDDEN_CHARACTER}, {Fault.FORBIDDEN_CHARACTER}),
    "a capital with an accent is none": (
        "Éabcdefghij1",
        {Fault.FORBIDDEN_CHARACTER, Fault.NO_UPPER_CASE},
        {Fault.FORBIDDEN_CHARACTER, Fault.NO_UPPER_CASE},
    ),
    "a special character": (
        "Abcdefghi1!",
        {Fault.FORBIDDEN_CHARACTER},
        {Fault.FORBIDDEN_CHARACTER},
    ),
    "a space": ("Abcde fghi1", {Fault.FORBIDDEN_CHARACTER}, {Fault.FORBIDDEN_CHARACTER}),
    "a foreign digit is none": (
        "Abcdefghij\u0661",
        {Fault.FORBIDDEN_CHARACTER, Fault.NO_DIGIT},
        {Fault.FORBIDDEN_CHARACTER, Fault.NO_DIGIT},
    ),
    "the dossier's eight digits": (
        "83927415",
        {Fault.NO_LOWER_CASE, Fault.NO_UPPER_CASE},
        {Fault.NO_LOWER_CASE, Fault.NO_UPPER_CASE, Fault.TOO_SHORT},
    ),
}


@pytest.mark.parametrize(("password", "before", "after"), CASES.values(), ids=CASES)
def test_what_is_wrong_with_a_password(
    rules: Rules, password: str, before: set[Fault], after: set[Fault]
) -> None:
    assert faults(rules.web_password, Secret(password), AT_FIRST) == before
    assert faults(rules.web_password, Secret(password), CHANGE - SECOND) == before
    assert faults(rules.web_password, Secret(password), CHANGE) == after


def test_the_day_changes_in_paris_whatever_the_clock_shows(rules: Rules) -> None:
    """In La Réunion it is two hours later: the change comes at 2 in the morning there."""
    eight = Secret("Abcdefg1")
    assert faults(rules.web_password, eight, (CHANGE - SECOND).astimezone(REUNION)) == set()
    assert faults(rules.web_password, eight, CHANGE.astimezone(REUNION)) == SHORT

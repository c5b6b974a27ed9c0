"""What callers hear for digits, numbers, amounts and dates (D17)."""

import datetime as dt
import tomllib
from collections.abc import Iterable
from importlib import resources

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from num2words import num2words

from ivr import french
from ivr.hours import Range

WORDS: dict[str, str] = tomllib.loads(
    resources.files("ivr").joinpath("dialplans/words.toml").read_text("utf-8")
)["prompts"]

NUMBERS = {
    0: "zéro",
    1: "un",
    6: "six",
    10: "dix",
    16: "seize",
    17: "dix-sept",
    20: "vingt",
    21: "vingt et un",
    22: "vingt-deux",
    61: "soixante et un",
    70: "soixante-dix",
    71: "soixante et onze",
    72: "soixante-douze",
    77: "soixante-dix-sept",
    80: "quatre-vingts",
    81: "quatre-vingt-un",
    90: "quatre-vingt-dix",
    91: "quatre-vingt-onze",
    99: "quatre-vingt-dix-neuf",
    100: "cent",
    101: "cent un",
    180: "cent quatre-vingts",
    200: "deux cents",
    201: "deux cent un",
    280: "deux cent quatre-vingts",
    1_000: "mille",
    1_001: "mille un",
    1_100: "mille cent",
    2_000: "deux mille",
    21_000: "vingt et un mille",
    80_000: "quatre-vingt mille",
    80_080: "quatre-vingt mille quatre-vingts",
    100_000: "cent mille",
    180_000: "cent quatre-vingt mille",
    200_000: "deux cent mille",
    200_200: "deux cent mille deux cents",
    1_000_000: "un million",
    1_000_001: "un million un",
    2_000_000: "deux millions",
    80_000_000: "quatre-vingts millions",
    200_000_000: "deux cents millions",
    200_200_000: "deux cents millions deux cent mille",
}

# Euros, then cents.
AMOUNTS = {
    (0, 0): "zéro euro",
    (0, 1): "un centime",
    (0, 2): "deux centimes",
    (0, 50): "cinquante centimes",
    (1, 0): "un euro",
    (1, 1): "un euro et un centime",
    (2, 0): "deux euros",
    (12, 50): "douze euros et cinquante centimes",
    (21, 0): "vingt et un euros",
    (71, 71): "soixante et onze euros et soixante et onze centimes",
    (80, 0): "quatre-vingts euros",
    (80, 80): "quatre-vingts euros et quatre-vingts centimes",
    (81, 0): "quatre-vingt-un euros",
    (91, 0): "quatre-vingt-onze euros",
    (100, 0): "cent euros",
    (200, 0): "deux cents euros",
    (201, 0): "deux cent un euros",
    (1_000, 0): "mille euros",
    (80_000, 0): "quatre-vingt mille euros",
    (200_000, 0): "deux cent mille euros",
    (1_000_000, 0): "un million d'euros",
    (1_000_000, 50): "un million d'euros et cinquante centimes",
    (1_000_001, 0): "un million un euros",
    (1_200_000, 0): "un million deux cent mille euros",
    (3_000_000, 0): "trois millions d'euros",
}

DATES = {
    "2026-05-01": "le premier mai deux mille vingt-six",
    "2026-05-02": "le deux mai deux mille vingt-six",
    "2025-11-21": "le vingt et un novembre deux mille vingt-cinq",
    "2022-04-01": "le premier avril deux mille vingt-deux",
    "2021-10-09": "le neuf octobre deux mille vingt et un",
    "2024-02-29": "le vingt-neuf février deux mille vingt-quatre",
    "2024-08-31": "le trente et un août deux mille vingt-quatre",
    "2000-12-11": "le onze décembre deux mille",
    "1999-01-08": "le huit janvier mille neuf cent quatre-vingt-dix-neuf",
    "1980-03-30": "le trente mars mille neuf cent quatre-vingts",
    "2026-06-10": "le dix juin deux mille vingt-six",
    "2026-07-14": "le quatorze juillet deux mille vingt-six",
    "2026-09-03": "le trois septembre deux mille vingt-six",
}


# Minutes after midnight.
CLOCK_TIMES = [
    (0, "minuit"),
    (30, "minuit trente"),
    (60, "une heure"),
    (65, "une heure cinq"),
    (120, "deux heures"),
    (9 * 60, "neuf heures"),
    (12 * 60, "douze heures"),
    (16 * 60 + 30, "seize heures trente"),
    (21 * 60 + 55, "vingt et une heures cinquante-cinq"),
    (23 * 60, "vingt-trois heures"),
    (24 * 60, "minuit"),
    (26 * 60, "deux heures"),  # of the next day
]

WEEKDAY_DATES = {
    "2026-06-01": "le lundi premier juin deux mille vingt-six",
    "2024-02-29": "le jeudi vingt-neuf février deux mille vingt-quatre",
    "2026-11-22": "le dimanche vingt-deux novembre deux mille vingt-six",
}


def heard(ids: Iterable[str]) -> str:
    return " ".join(WORDS[id_] for id_ in ids)


def plain(text: str) -> str:
    """Hyphens are heard as spaces."""
    return text.replace("-", " ")


@pytest.mark.parametrize(("number", "text"), NUMBERS.items(), ids=NUMBERS.values())
def test_number(number: int, text: str) -> None:
    assert heard(french.cardinal(number)) == text


@pytest.mark.parametrize(("price", "text"), AMOUNTS.items(), ids=AMOUNTS.values())
def test_amount(price: tuple[int, int], text: str) -> None:
    euros, cents = price
    assert heard(french.amount(100 * euros + cents)) == text


@pytest.mark.parametrize(("day", "text"), DATES.items(), ids=DATES.values())
def test_date(day: str, text: str) -> None:
    assert heard(french.date(dt.date.fromisoformat(day))) == text


@pytest.mark.parametrize(("minutes", "text"), CLOCK_TIMES)
def test_clock_time(minutes: int, text: str) -> None:
    assert heard(french.clock_time(minutes)) == text


def test_a_time_between_5_minutes_has_no_words() -> None:
    """« seize heures une »: a minute is feminine, too."""
    with pytest.raises(ValueError, match="5 minutes"):
        french.clock_time(16 * 60 + 1)


@pytest.mark.parametrize(("day", "text"), WEEKDAY_DATES.items(), ids=WEEKDAY_DATES.values())
def test_date_with_its_day(day: str, text: str) -> None:
    assert heard(french.weekday_date(dt.date.fromisoformat(day))) == text


def test_weekdays() -> None:
    assert heard(french.weekdays(1, 5)) == "du lundi au vendredi"
    assert heard(french.weekdays(6, 6)) == "le samedi"


MONTHS = {
    "2026-11": "novembre deux mille vingt-six",
    "2021-08": "août deux mille vingt et un",
    "1999-01": "janvier mille neuf cent quatre-vingt-dix-neuf",
}


@pytest.mark.parametrize(("month", "text"), MONTHS.items(), ids=MONTHS)
def test_month(month: str, text: str) -> None:
    assert heard(french.month(month)) == text


def test_digits_keep_leading_zeros() -> None:
    assert heard(french.digits("0012345")) == "zéro zéro un deux trois quatre cinq"


@pytest.mark.parametrize("text", ["", "12a", "12 34", "-1", "1.5", "٣", "²"])
def test_digits_refuses_anything_else_without_quoting_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"^only ASCII digits can be spelled, one at least$"):
        french.digits(text)


@pytest.mark.parametrize("number", [-1, 1_000_000_000])
def test_number_out_of_range(number: int) -> None:
    with pytest.raises(ValueError, match="spoken number"):
        french.cardinal(number)


def test_negative_amount() -> None:
    with pytest.raises(ValueError, match="not negative"):
        french.amount(-1)


def test_amount_too_large() -> None:
    with pytest.raises(ValueError, match="spoken number"):
        french.amount(1_000_000_000_00)


def test_numbers_to_9999_agree_with_num2words() -> None:
    for number in range(10_000):
        assert plain(heard(french.cardinal(number))) == plain(num2words(number, lang="fr"))


@given(st.integers(0, 999_999_999))
@example(999_999_999)
def test_large_numbers_agree_with_num2words(number: int) -> None:
    assert plain(heard(french.cardinal(number))) == plain(num2words(number, lang="fr"))


def test_every_word_of_the_catalogue_is_used() -> None:
    year = [dt.date(2024, month, 1) for month in range(1, 13)]
    used = {
        *french.digits("0123456789"),
        *(id_ for number in range(100) for id_ in french.cardinal(number)),
        *(id_ for euros, cents in AMOUNTS for id_ in french.amount(100 * euros + cents)),
        *(id_ for day in year for id_ in french.date(day)),
        *(id_ for day in year for id_ in french.weekday_date(day)),
        *(id_ for clock_time, _ in CLOCK_TIMES for id_ in french.clock_time(clock_time)),
        *french.weekdays(1, 5),
        *Range(9 * 60, 12 * 60).spoken(),
    }
    assert used == WORDS.keys()

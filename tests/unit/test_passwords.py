"""What is never drawn as a password (R06)."""

from collections.abc import Iterable
from datetime import date

import pytest

from shared.clock import Chance
from shared.passwords import KnownOf, generate

KNOWN = KnownOf(
    number="0123456",
    phones=("+33612345678", "+33140295308", "+262692123456", "+4915112345678"),
    births=(date(1995, 10, 7), date(2003, 1, 2)),
    nirs=("2951099126111", "1850375116001"),
)
ALLOWED = 83_927_415

FORBIDDEN = {
    **{f"eight times {digit}": digit * 8 for digit in "0123456789"},
    "rising from 0": "01234567",
    "rising from 1": "12345678",
    "rising to 9": "23456789",
    "falling from 9": "98765432",
    "falling from 8": "87654321",
    "falling to 0": "76543210",
    "mobile, national, from its 0": "06123456",
    "mobile, national, without its 0": "61234567",
    "mobile, national, its end": "12345678",
    "mobile, international, from its country": "33612345",
    "mobile, international, in the middle": "36123456",
    "mobile, dialled from abroad": "00336123",
    "mobile, dialled from abroad, its second 0": "03361234",
    "landline, national": "01402953",
    "landline, national, without its 0": "14029530",
    "landline, national, its end": "40295308",
    "landline, international": "33140295",
    "overseas, national": "06921234",
    "overseas, international": "26269212",
    "overseas, its end": "92123456",
    "abroad, international": "49151123",
    "abroad, in the middle": "51123456",
    "born, day month year": "07101995",
    "born, month day year": "10071995",
    "born, year month day": "19951007",
    "born, year day month": "19950710",
    "born, day year month": "07199510",
    "born, month year day": "10199507",
    "born, of another person": "02012003",
    "born, of another person, day year month": "02200301",
    "NIR": "29510991",
    "NIR of another person": "18503751",
    "number, then a digit": "01234569",
    "a digit, then the number": "90123456",
    "a 0, then the number": "00123456",
}


def chance_of(*drawn: int) -> Chance:
    """Give these draws, out of a hundred million."""
    draws = iter(drawn)

    def draw(limit: int) -> int:
        assert limit == 10**8
        return next(draws)

    return draw


def drawn_after(known: KnownOf, forbidden: Iterable[str]) -> str:
    return generate(known, chance_of(*map(int, forbidden), ALLOWED)).reveal()


@pytest.mark.parametrize("forbidden", FORBIDDEN.values(), ids=FORBIDDEN)
def test_what_is_forbidden_is_drawn_again(forbidden: str) -> None:
    assert drawn_after(KNOWN, [forbidden]) == "83927415"


def test_however_often_it_comes() -> None:
    assert drawn_after(KNOWN, [*FORBIDDEN.values()] * 3) == "83927415"


@pytest.mark.parametrize(
    ("nir", "beginnings"),
    [
        ("2951092126111", ["29510921"]),
        ("295102A126111", ["29510201", "29510191", "29510221"]),
        ("295102B126111", ["29510201", "29510181", "29510221"]),
        ("295102b126111", ["29510181"]),
        ("2951097401111", ["29510974"]),
    ],
    ids=["mainland", "2A", "2B", "2b", "overseas"],
)
def test_the_beginning_of_a_nir_is_forbidden(nir: str, beginnings: list[str]) -> None:
    """The letter of Corse as 19 or 18, as 20, and as the key that bears it."""
    assert drawn_after(KnownOf(nirs=(nir,)), beginnings) == "83927415"


@pytest.mark.parametrize("forbidden", ["07101995", "06123456", "29510991", "01234569"])
def test_what_is_not_known_of_the_dossier_is_allowed(forbidden: str) -> None:
    assert drawn_after(KnownOf(), [forbidden]) == forbidden


@pytest.mark.parametrize(
    "drawn", [7, 4_700_000, 89_012_345], ids=["one digit", "seven digits", "not quite successive"]
)
def test_leading_zeros_are_kept(drawn: int) -> None:
    assert generate(KnownOf(), chance_of(drawn)).reveal() == f"{drawn:08}"


def test_what_is_known_is_never_shown() -> None:
    shown = repr(KNOWN)
    for value in ("0123456", "612345678", "1995", "2951099"):
        assert value not in shown
    assert "83927415" not in repr(generate(KNOWN, chance_of(ALLOWED)))

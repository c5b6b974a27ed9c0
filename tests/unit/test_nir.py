"""NIRs, written and keyed (R18, R20, D10)."""

import pytest

from shared.nir import BadNirError, from_keypad, parse

# Keys computed by hand: 97 less the rest of the 13 digits divided by 97, where 2A counts as 19
# and 2B as 18 (Insee).
SHAPE = "13 ou 15 caractères attendus, commençant par 1, 2, 3, 4, 7 ou 8"
KEY = "clé de contrôle fausse"
# fmt: off
KEYED = [
    # keyed            NIR or nothing    what it is
    ("295109912611193", "2951099126111", "with its key"),
    ("295109912611194", None,            "with another key"),
    ("295109912611913", None,            "two digits of it swapped"),
    ("253072007300443", "253072A073004", "Corse-du-Sud, 2A keyed as 20"),
    ("253072007300470", "253072B073004", "Haute-Corse, 2B keyed as 20"),
    ("253072007300416", "2530720073004", "Corse before 1976, a real 20"),
    ("253072007300417", None,            "Corse, a key of none of the three"),
    ("2951099126111",   None,            "without its key"),
    ("2951099126111930", None,           "a digit too many"),
    ("595109912611140", None,            "a first digit that nobody has"),
    ("253072A07300443", None,            "a letter, which no keypad has"),
    ("",                None,            "nothing"),
]
WRITTEN = [
    # written             NIR or why not   what it is
    ("295109912611193",      "2951099126111", "with its key"),
    ("2 95 10 99 126 111 93", "2951099126111", "with spaces"),
    ("2951099126111",        "2951099126111", "without its key"),
    ("253072a07300443",      "253072A073004", "Corse-du-Sud, a small letter"),
    ("253072B07300470",      "253072B073004", "Haute-Corse"),
    ("253072007300416",      "2530720073004", "Corse before 1976"),
    ("295109912611194",      KEY,             "another key"),
    ("253072A07300470",      KEY,             "the key of 2B with 2A"),
    ("29510991261119",       SHAPE,           "half a key"),
    ("595109912611140",      SHAPE,           "a first digit that nobody has"),
    ("095109912611132",      SHAPE,           "a zero first"),
    ("253072C073004",        SHAPE,           "a letter that no département has"),
    ("",                     SHAPE,           "nothing"),
]
# fmt: on


@pytest.mark.parametrize(
    ("digits", "expected"), [row[:2] for row in KEYED], ids=[row[2] for row in KEYED]
)
def test_a_nir_keyed(digits: str, expected: str | None) -> None:
    assert from_keypad(digits) == expected


@pytest.mark.parametrize("first", "12347856")
def test_a_nir_begins_with_one_of_six_digits(first: str) -> None:
    """1 and 2 for good, 3, 4, 7 and 8 while the real one is waited for."""
    number = f"{first}951099126111"
    keyed = number + f"{97 - int(number) % 97:02}"
    assert from_keypad(keyed) == (number if first in "123478" else None)


@pytest.mark.parametrize(
    ("text", "expected"), [row[:2] for row in WRITTEN], ids=[row[2] for row in WRITTEN]
)
def test_a_nir_written(text: str, expected: str) -> None:
    if expected in (SHAPE, KEY):
        with pytest.raises(BadNirError) as raised:
            parse(text)
        assert str(raised.value) == expected
    else:
        assert parse(text) == expected

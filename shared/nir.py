"""The NIR, number of a person with the social security: 13 characters and a key of two digits.

The store keeps the 13 characters. A département of Corse has a letter in it, 2A or 2B; someone born
there before 1976 may have the old 20.
"""

import re

from stdnum.fr import nir as stdnum_nir

from shared.errors import StoreError

WITHOUT_KEY = re.compile(r"[123478][0-9]{4}(?:[0-9]{2}|2A|2B)[0-9]{6}")
SHAPE = re.compile(WITHOUT_KEY.pattern + r"(?:[0-9]{2})?")
KEYED = re.compile(r"[123478][0-9]{14}")


class BadNirError(StoreError):
    """What was given is not a NIR: why, in French, without quoting it."""


def parse(text: str) -> str:
    """Give the 13 characters of a NIR that was written with its key or without, spaces allowed.

    BadNirError for another shape, or a key that does not fit.
    """
    number = stdnum_nir.compact(text)
    if SHAPE.fullmatch(number) is None:
        raise BadNirError("13 ou 15 caractères attendus, commençant par 1, 2, 3, 4, 7 ou 8")
    if len(number) == 15 and not stdnum_nir.is_valid(number):
        raise BadNirError("clé de contrôle fausse")
    return number[:13]


def from_keypad(digits: str) -> str | None:
    """Give the 13 characters of a NIR keyed with its key, 15 digits; None if it is none (D10).

    A keypad has no letters: « 20 » in sixth place is 2A, 2B or the old 20, and the key fits one.
    """
    if KEYED.fullmatch(digits) is None:
        return None
    readings = [digits]
    if digits[5:7] == "20":
        readings += [f"{digits[:5]}{department}{digits[7:]}" for department in ("2A", "2B")]
    return next((reading[:13] for reading in readings if stdnum_nir.is_valid(reading)), None)

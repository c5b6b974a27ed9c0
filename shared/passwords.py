"""The dossier's password: 8 digits that nothing known of the dossier gives away (R06)."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from itertools import permutations

from shared.clock import Chance
from shared.secret import Secret

LENGTH = 8

# In a NIR's department the letters of Corse stand for digits, of which there are several customs.
CORSICA = {"2A": ("20", "19", "22"), "2B": ("20", "18", "22")}


@dataclass(frozen=True)
class KnownOf:
    """What is known of a dossier and must not be its password; digits only, repr hides them."""

    number: str = field(default="", repr=False)
    phones: tuple[str, ...] = field(default=(), repr=False)  # +…
    births: tuple[date, ...] = field(default=(), repr=False)
    nirs: tuple[str, ...] = field(default=(), repr=False)


class Fault(StrEnum):
    """Why 8 digits, or what was given for them, can't be a dossier's password."""

    NOT_EIGHT_DIGITS = "not-8-digits"
    GUESSABLE = "guessable"  # by which rule of R06 is not said
    UNCHANGED = "unchanged"  # it is the one to be changed


def generate(known: KnownOf, chance: Chance) -> Secret:
    """Draw a password, leading zeros kept, until nothing known forbids it."""
    while True:
        drawn = Secret(f"{chance(10**LENGTH):0{LENGTH}}")
        if fault(known, drawn) is None:
            return drawn


def fault(known: KnownOf, password: Secret) -> Fault | None:
    """Say why R06 or its form keeps a password from being a dossier's; None if nothing does."""
    text = password.reveal()
    if not (len(text) == LENGTH and text.isascii() and text.isdigit()):
        return Fault.NOT_EIGHT_DIGITS
    holds_number = bool(known.number) and known.number in text
    return Fault.GUESSABLE if holds_number or text in _forbidden(known) else None


def _forbidden(known: KnownOf) -> Iterator[str]:
    yield from (digit * LENGTH for digit in "0123456789")
    for run in ("0123456789", "9876543210"):
        yield from _windows(run)
    for phone in known.phones:
        yield from _windows("00" + phone.lstrip("+"))
        yield from _windows(_national(phone))
    for birth in known.births:
        yield from _written(birth)
    for nir in known.nirs:
        yield from _beginnings(nir)


def _windows(digits: str) -> Iterator[str]:
    """Give any 8 consecutive digits."""
    return (digits[at : at + LENGTH] for at in range(len(digits) - LENGTH + 1))


def _national(phone: str) -> str:
    """Write a number as it is dialled in France: 0 and the last nine digits."""
    return "0" + phone[-9:]


def _written(birth: date) -> Iterator[str]:
    """Give a date in every order of day, month and year."""
    parts = (f"{birth:%d}", f"{birth:%m}", f"{birth.year:04}")
    return ("".join(order) for order in permutations(parts))


def _beginnings(nir: str) -> Iterator[str]:
    """Give the first 8 digits of a NIR, with a Corsican département as digits."""
    department = nir[5:7].upper()
    for digits in CORSICA.get(department, (department,)):
        yield (nir[:5] + digits + nir[7:])[:LENGTH]

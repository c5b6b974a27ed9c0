"""Passwords that the store issues: 8 digits that nothing known of the dossier gives away (R06)."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
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


def generate(known: KnownOf, chance: Chance) -> Secret:
    """Draw a password, leading zeros kept, until nothing known forbids it."""
    forbidden = frozenset(_forbidden(known))
    while True:
        drawn = f"{chance(10**LENGTH):0{LENGTH}}"
        if drawn not in forbidden and not (known.number and known.number in drawn):
            return Secret(drawn)


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

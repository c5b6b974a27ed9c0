"""The password that a person chooses on the web: what it is made of (R14)."""

from datetime import datetime
from enum import StrEnum
from string import ascii_letters, ascii_lowercase, ascii_uppercase, digits

from shared.rules import WebPasswordRules
from shared.secret import Secret


class Fault(StrEnum):
    """What a password lacks, or has too much of."""

    TOO_SHORT = "too-short"
    TOO_LONG = "too-long"
    NO_DIGIT = "no-digit"
    NO_LOWER_CASE = "no-lower-case"
    NO_UPPER_CASE = "no-upper-case"
    FORBIDDEN_CHARACTER = "forbidden-character"  # only letters without accent, and digits
    UNCHANGED = "unchanged"  # it is the one to be changed


def faults(
    rules: WebPasswordRules, password: Secret, instant: datetime, current: Secret | None = None
) -> frozenset[Fault]:
    """Give everything that keeps a password from being chosen at that instant; empty if nothing.

    `current` is what its owner gave for the one to be changed, where it is asked for.
    """
    characters = set(password.reveal())
    lengths = rules.new_at(instant)
    found = {
        Fault.TOO_SHORT: len(password) < lengths.shortest,
        Fault.TOO_LONG: len(password) > lengths.longest,
        Fault.NO_DIGIT: characters.isdisjoint(digits),
        Fault.NO_LOWER_CASE: characters.isdisjoint(ascii_lowercase),
        Fault.NO_UPPER_CASE: characters.isdisjoint(ascii_uppercase),
        Fault.UNCHANGED: current is not None and current.reveal() == password.reveal(),
        Fault.FORBIDDEN_CHARACTER: not characters <= set(ascii_letters + digits),
    }
    return frozenset(fault for fault, is_found in found.items() if is_found)

"""Spoken French: digits, numbers, amounts and dates as sequences of prompt ids (D17).

Pure functions. The words behind the ids are in `dialplans/words.toml`.
"""

import datetime as dt

# « cents » and « quatre-vingts » lose their s before another numeral: « mille » is one, « million »
# is a noun.
_BEFORE_NUMERAL = {"cents": "cent", "nombre-80": "quatre-vingt"}


def digits(text: str) -> tuple[str, ...]:
    """Say each digit of `text`, as a numéro d'allocataire is read back (D18).

    Raises ValueError, which never quotes `text`, unless it is made of ASCII digits only.
    """
    if not (text.isascii() and text.isdigit()):
        raise ValueError("only ASCII digits can be spelled, one at least")
    return tuple(f"chiffre-{digit}" for digit in text)


def cardinal(number: int) -> tuple[str, ...]:
    """Say a masculine cardinal from 0 to 999,999,999; ValueError outside."""
    if not 0 <= number < 1_000_000_000:
        raise ValueError("a spoken number is from 0 to 999,999,999")
    return _numeral(number) or ("nombre-0",)


def amount(cents: int) -> tuple[str, ...]:
    """Say an amount given in euro cents, to the cent (D17); ValueError if negative or too large."""
    if cents < 0:
        raise ValueError("a spoken amount is not negative")
    euros, centimes = divmod(cents, 100)
    if not centimes:
        return _euros(euros)
    if not euros:
        return _centimes(centimes)
    return (*_euros(euros), "et", *_centimes(centimes))


def date(day: dt.date) -> tuple[str, ...]:
    """Say a date with its year: « le premier mai deux mille vingt-six » (D17)."""
    return ("le", *_day_of_month(day))


def weekday_date(day: dt.date) -> tuple[str, ...]:
    """Say a date with its day of the week: « le lundi premier mars deux mille vingt-six »."""
    return ("le", f"jour-{day.isoweekday()}", *_day_of_month(day))


def weekdays(first: int, last: int) -> tuple[str, ...]:
    """Say days of the week, Monday being 1: « du lundi au vendredi », or « le samedi »."""
    if first == last:
        return ("le", f"jour-{first}")
    return ("du", f"jour-{first}", "au", f"jour-{last}")


def clock_time(minutes: int) -> tuple[str, ...]:
    """Say a time of day, in minutes after midnight, to 5 minutes: « seize heures trente »."""
    hour, minute = divmod(minutes, 60)
    if minute % 5:
        raise ValueError("a spoken time of day is a multiple of 5 minutes")
    return (*_hours(hour % 24), *(cardinal(minute) if minute else ()))


def _hours(hour: int) -> tuple[str, ...]:
    if hour == 0:
        return ("minuit",)
    feminine = {1: ("une",), 21: ("vingt-et-une",)}
    return (*feminine.get(hour, cardinal(hour)), "heures" if hour > 1 else "heure")


def _day_of_month(day: dt.date) -> tuple[str, ...]:
    ordinal = ("premier",) if day.day == 1 else cardinal(day.day)
    return (*ordinal, f"mois-{day.month}", *cardinal(day.year))


def month(text: str) -> tuple[str, ...]:
    """Say a month given as `2026-11`: « novembre deux mille vingt-six »."""
    year, number = text.split("-")
    return (f"mois-{int(number)}", *cardinal(int(year)))


def _numeral(number: int) -> tuple[str, ...]:
    """Say the numeral from the left, recursively; 0 is silent, as after « cent » or « mille »."""
    if number == 0:
        return ()
    if number < 100:
        return (f"nombre-{number}",)
    if number < 1_000:
        count, rest = divmod(number, 100)
        cent = "cents" if count > 1 and not rest else "cent"
        return (*_times(count), cent, *_numeral(rest))
    if number < 1_000_000:
        count, rest = divmod(number, 1_000)
        return (*_times(count), "mille", *_numeral(rest))
    count, rest = divmod(number, 1_000_000)
    return (*_numeral(count), "million" if count == 1 else "millions", *_numeral(rest))


def _times(count: int) -> tuple[str, ...]:
    """Say how many hundreds or thousands: a single one is not said."""
    if count == 1:
        return ()
    *head, last = _numeral(count)
    return (*head, _BEFORE_NUMERAL.get(last, last))


def _euros(number: int) -> tuple[str, ...]:
    words = cardinal(number)
    if words[-1] in {"million", "millions"}:
        return (*words, "d-euros")
    return (*words, "euros" if number > 1 else "euro")


def _centimes(number: int) -> tuple[str, ...]:
    return (*cardinal(number), "centimes" if number > 1 else "centime")

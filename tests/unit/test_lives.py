"""How long a password lives, by what it was issued for (R07, R09, D02)."""

from datetime import UTC, datetime, timedelta

import pytest

from shared.lives import LIVES, Term, term
from shared.models import CredentialOrigin
from shared.rules import Rules

BEFORE = datetime(2021, 10, 8, 21, 59, 59, tzinfo=UTC)  # a second before 9 October in Paris
AFTER = datetime(2021, 10, 8, 22, tzinfo=UTC)
CUT_OVER = datetime(2022, 3, 31, 22, tzinfo=UTC)
TWO_MONTHS = timedelta(days=61)
TWO_YEARS = timedelta(days=730)


# fmt: off
TERMS = [
    # issued for          before 9 October 2021       from then on
    ("owner",            (False, BEFORE + TWO_YEARS),  (False, AFTER + TWO_YEARS)),
    ("forgotten",        (True,  BEFORE + TWO_MONTHS), (False, AFTER + TWO_YEARS)),
    ("incident",         (True,  BEFORE + TWO_MONTHS), (False, AFTER + TWO_YEARS)),
    ("registration",     (True,  BEFORE + TWO_MONTHS), (True,  AFTER + TWO_MONTHS)),
    ("agent",            (True,  BEFORE + TWO_MONTHS), (True,  AFTER + TWO_MONTHS)),
    ("separation",       (True,  BEFORE + TWO_MONTHS), (True,  AFTER + TWO_MONTHS)),
    ("mutation",         (True,  BEFORE + TWO_MONTHS), (True,  AFTER + TWO_MONTHS)),
    ("imported",         (False, BEFORE + TWO_YEARS),  (False, AFTER + TWO_YEARS)),
    ("web",              (False, BEFORE + TWO_YEARS),  (False, AFTER + TWO_YEARS)),
    ("given",            (False, None),                (False, None)),
]
# fmt: on


@pytest.mark.parametrize(("origin", "before", "after"), TERMS, ids=[row[0] for row in TERMS])
def test_the_term_of_each_origin(
    rules: Rules,
    origin: str,
    before: tuple[bool, datetime | None],
    after: tuple[bool, datetime | None],
) -> None:
    assert term(rules, CredentialOrigin(origin), BEFORE) == Term(*before)
    assert term(rules, CredentialOrigin(origin), AFTER) == Term(*after)


def test_every_origin_has_a_life() -> None:
    assert {origin for origin, _, _ in TERMS} == {*CredentialOrigin} == {*LIVES}


@pytest.mark.parametrize("origin", [*CredentialOrigin])
def test_a_provisional_one_lives_two_months_whatever_it_is_for(
    rules: Rules, origin: CredentialOrigin
) -> None:
    assert term(rules, origin, AFTER, provisional=True) == Term(True, AFTER + TWO_MONTHS)


def test_a_final_one_ends_with_the_telephone(rules: Rules) -> None:
    lines = [
        line.model_copy(update={"until": CUT_OVER})
        if (line.credential, line.channel) == ("password", "voice")
        else line
        for line in rules.transition
    ]
    rules = rules.model_copy(update={"transition": tuple(lines)})
    assert term(rules, CredentialOrigin.FORGOTTEN, AFTER) == Term(False, CUT_OVER)
    assert term(rules, CredentialOrigin.OWNER, AFTER) == Term(False, AFTER + TWO_YEARS)

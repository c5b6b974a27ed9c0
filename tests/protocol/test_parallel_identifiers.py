"""First provisional identifiers asked for at the same instant, by processes (R20, D06)."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import date
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import select

from shared import provisional
from shared.keyring import KeyRing
from shared.life_cycle import Key
from shared.models import AuditEntry, Message, WebAccount
from shared.people import PersonData
from shared.store import Store
from tests.processes import Place, run_together
from tests.store import CAISSE
from tests.web import add_dossier, web

TOGETHER = 4
PEOPLE = {
    f"000000{at}": PersonData(
        surname=f"Nguyen{name}",
        given_names="Linh",
        birth_date=date(1999, 2, 28),
        mobile=f"+3361122330{at}",
    )
    for at, name in enumerate("abcdef")
}


@pytest.fixture
def place(url: str, tmp_path: Path) -> Place:
    keys = tmp_path / "keys.json"
    KeyRing.create(keys)
    return Place(url, keys)


@pytest.fixture
def shop(place: Place) -> Iterator[Store]:
    """The store of this process, with a few people without a NIR."""
    with closing(place.open()) as store:
        for number, who in PEOPLE.items():
            add_dossier(store, number, who, password=None)
        yield store


def ask_for_all(store: Store, rank: int) -> None:
    """Ask for everybody's, each process in an order of its own; all draw the same numbers."""
    drawn = count()
    store = replace(store, chance=lambda _: next(drawn))
    for number in [*PEOPLE][rank:] + [*PEOPLE][:rank]:
        provisional.request(store, Key(CAISSE, number), PEOPLE[number], web())


def test_each_person_gets_one_and_no_two_the_same(place: Place, shop: Store) -> None:
    run_together(place, TOGETHER, ask_for_all)
    with shop.database.read() as transaction:
        given = transaction.execute(
            select(WebAccount.person_id, WebAccount.provisional_index)
        ).all()
        messages = transaction.scalars(select(Message.template)).all()
        events = transaction.scalars(
            select(AuditEntry.event).where(AuditEntry.event.like("provisional-%"))
        ).all()
    assert len({row.person_id for row in given}) == len(given) == len(PEOPLE)
    assert len({row.provisional_index for row in given}) == len(PEOPLE)
    assert messages == ["provisional-identifier"] * len(PEOPLE)
    suppressed = ["provisional-request-suppressed"] * (TOGETHER - 1) * len(PEOPLE)
    assert sorted(events) == ["provisional-issued"] * len(PEOPLE) + suppressed

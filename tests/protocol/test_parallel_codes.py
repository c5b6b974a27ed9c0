"""Guessing codes in parallel: however many enter at once, five are compared (R15, D05)."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from hmac import compare_digest
from pathlib import Path
from unittest import mock
from uuid import UUID

import pytest
from sqlalchemy import select

from shared import codes
from shared.codes import Entry, Purpose, Recipient, Wish
from shared.contacts import Contact
from shared.keyring import KeyRing
from shared.models import Person, Route
from shared.secret import Secret
from shared.store import Store
from tests.processes import Place, run_together
from tests.store import NUMBER, OWNER
from tests.web import add_dossier, last_code, web

PROCESSES = 4
THREADS = 4
TRIES = 200
LIMIT = 5


@dataclass(frozen=True)
class Report:
    """What the entries of one process came to."""

    compared: int
    opened: int


@dataclass(frozen=True)
class Asked:
    """A code that was sent, and where its store is."""

    place: Place
    code_id: UUID
    code: Secret


@pytest.fixture
def asked(url: str, tmp_path: Path) -> Asked:
    keys = tmp_path / "keys.json"
    KeyRing.create(keys)
    place = Place(url, keys)
    with closing(place.open()) as store:
        add_dossier(store)
        with store.database.read() as transaction:
            person = transaction.scalars(select(Person)).one()
        recipient = Recipient(person.id, person.account_id, Contact(Route.SMS, OWNER))
        wish = Wish(Purpose.RECOVERY, Route.SMS, codes.asker(store, NUMBER, web()), recipient)
        return Asked(place, codes.request(store, wish, web()), last_code(store))


def test_two_hundred_parallel_guesses_get_five_comparisons(asked: Asked) -> None:
    """Wrong ones first, the right one among the later ones, all from different addresses."""

    def guess(number: int) -> Secret:
        right = number >= TRIES // 2 and number % 10 == 0
        wrong = Secret(f"{(int(asked.code.reveal()) + 1 + number) % 1_000_000:06}")
        return asked.code if right else wrong

    reports = run_together(asked.place, PROCESSES, lambda *of: _enter_all(asked, TRIES, guess, *of))

    assert sum(report.compared for report in reports) == LIMIT
    assert sum(report.opened for report in reports) == 0


def test_a_right_code_opens_once(asked: Asked) -> None:
    reports = run_together(
        asked.place, PROCESSES, lambda *of: _enter_all(asked, 40, lambda _: asked.code, *of)
    )
    assert sum(report.opened for report in reports) == 1


def _enter_all(
    asked: Asked, count: int, guess: Callable[[int], Secret], store: Store, rank: int
) -> Report:
    with (
        mock.patch("shared.codes.compare_digest", wraps=compare_digest) as compared,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        tries = range(rank, count, PROCESSES)
        opened = list(pool.map(lambda number: _enter(store, asked, number, guess(number)), tries))
    return Report(compared.call_count, sum(opened))


def _enter(store: Store, asked: Asked, number: int, code: Secret) -> bool:
    entry = Entry(Purpose.RECOVERY, codes.by_id(asked.code_id), code)
    return codes.redeem(store, entry, web(f"192.0.2.{number}"), lambda *_: True) or False

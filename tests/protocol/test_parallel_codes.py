"""Guessing codes in parallel: however many enter at once, five are compared (R15, D05)."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from hmac import compare_digest
from pathlib import Path
from unittest import mock
from uuid import UUID

import pytest
from sqlalchemy import func, select

from shared import client_codes, codes
from shared.codes import Entry, Purpose, Recipient, Wish
from shared.contacts import Contact
from shared.keyring import KeyRing
from shared.models import Message, Person, Route, VerificationCode
from shared.origin import Origin
from shared.secret import Secret
from shared.store import Store
from tests.processes import Place, run_together
from tests.store import NUMBER, OWNER, FakeClock
from tests.web import add_dossier, last_code, web

PROCESSES = 4
THREADS = 4
TRIES = 200
FEWER = 40
PURPOSE = "rendez-vous"
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
    enter: Callable[[Store, UUID, Secret, Origin], bool]


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
        code_id = codes.request(store, wish, web())
        return Asked(place, code_id, last_code(store), _enter_own)


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
        asked.place, PROCESSES, lambda *of: _enter_all(asked, FEWER, lambda _: asked.code, *of)
    )
    assert sum(report.opened for report in reports) == 1


def test_parallel_guesses_of_a_client_s_code_get_five_comparisons(
    place: Place, shop: Store
) -> None:
    """And the right one, entered in parallel before, is right once."""

    def ask() -> Asked:
        assert isinstance(shop.clock, FakeClock)
        shop.clock.advance(timedelta(seconds=1))  # so that it is known which code was sent last
        contact = Contact(Route.SMS, OWNER)
        code_id = client_codes.request(shop, PURPOSE, contact, web())
        return Asked(place, code_id, last_code(shop), _enter_clients)

    right = ask()
    enter_right = partial(_enter_all, right, FEWER, lambda _: right.code)
    assert sum(report.opened for report in run_together(place, PROCESSES, enter_right)) == 1

    asked = ask()

    def guess(number: int) -> Secret:
        return Secret(f"{(int(asked.code.reveal()) + 1 + number) % 1_000_000:06}")

    reports = run_together(place, PROCESSES, partial(_enter_all, asked, FEWER, guess))
    assert sum(report.compared for report in reports) == LIMIT
    assert sum(report.opened for report in reports) == 0


def test_of_all_that_ask_at_once_four_have_a_code_sent(place: Place, shop: Store) -> None:
    """R15: the store for its own, and clients, all to one contact; clients take nothing from it."""
    with shop.database.read() as transaction:
        person = transaction.scalars(select(Person)).one()

    def ask_often(store: Store, rank: int) -> None:
        contact = Contact(Route.SMS, OWNER)
        own = Recipient(person.id, person.account_id, contact)
        wish = Wish(Purpose.RECOVERY, Route.SMS, codes.asker(store, NUMBER, web()), own)
        for _ in range(5):
            if rank % 2:
                codes.request(store, wish, web())
            else:
                client_codes.request(store, f"{PURPOSE}-{rank}", contact, web())

    run_together(place, PROCESSES, ask_often)
    with shop.database.read() as transaction:
        codes_asked = transaction.scalars(select(VerificationCode)).all()
        messages = transaction.scalar(select(func.count()).select_from(Message))
    sent = [code for code in codes_asked if code.sent]
    own = [code for code in sent if code.person_id is not None]
    assert (len(codes_asked), len(own), messages) == (5 * PROCESSES, 4, len(sent))
    assert len(sent) - len(own) <= 4


def _enter_all(
    asked: Asked, count: int, guess: Callable[[int], Secret], store: Store, rank: int
) -> Report:
    def enter(number: int) -> bool:
        return asked.enter(store, asked.code_id, guess(number), web(f"192.0.2.{number}"))

    with (
        mock.patch("shared.codes.compare_digest", wraps=compare_digest) as compared,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        opened = list(pool.map(enter, range(rank, count, PROCESSES)))
    return Report(compared.call_count, sum(opened))


def _enter_own(store: Store, code_id: UUID, code: Secret, origin: Origin) -> bool:
    entry = Entry(Purpose.RECOVERY, codes.by_id(code_id), code)
    return codes.redeem(store, entry, origin, lambda *_: True) or False


def _enter_clients(store: Store, code_id: UUID, code: Secret, origin: Origin) -> bool:
    return client_codes.verify(store, PURPOSE, code_id, code, origin)
